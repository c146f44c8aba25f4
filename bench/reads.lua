-- wrk: GET the state of instances at random. Set through the environment: TOKEN, MACHINE, INSTANCES.
local token, machine = os.getenv("TOKEN"), os.getenv("MACHINE")
local instances = tonumber(os.getenv("INSTANCES") or "1")
local headers = { ["authorization"] = "Bearer " .. token }

function request()
  return wrk.format("GET", "/machines/" .. machine .. "/i/bench-" .. math.random(instances), headers)
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

function init(args) errors = 0; math.randomseed(17) end

function response(status) if status ~= 200 then errors = errors + 1 end end

function done(summary, latency, requests)
  local errors = 0
  for _, thread in ipairs(threads) do errors = errors + thread:get("errors") end
  io.write(string.format('RESULT {"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, errors + summary.errors.connect + summary.errors.read +
    summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
