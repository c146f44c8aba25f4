"""fetch in real workers, through the real guard, against a real server on this machine."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from statebacked.egress.client import GuardedHttp
from statebacked.model import limits
from statebacked.model.envelopes import Source
from statebacked.model.ids import Seq, ServiceId, ServiceRun
from statebacked.model.step import Refused, Stepped, WorkerLost
from statebacked.model.values import Json
from statebacked.runtime.pool import PoolPolicy
from tests.egress.site import Got, Handler, Site, answer, redirect, site, text
from tests.event_loop import run
from tests.runtime.rig import PATIENCE_S, Lodger, Rig, envelope, real_sandbox, rig

pytestmark = pytest.mark.worker

VERSIONS = {4: "4.38.3", 5: "5.33.3"}
MAJORS = pytest.mark.parametrize("major", [4, 5])
POLICY = PoolPolicy(step_ms=3_000, authorize_ms=2_000, load_ms=3_000, prewarmed=0, prewarmed_majors=())

# What runs is told on the console: `OUTCOME[name, value]`, where an error is {error, cause}.
MACHINE = """import { createMachine, fromPromise } from "xstate";
const BASE = "@BASE";
const failed = (e) => ({ error: `${e.name}: ${e.message}`, cause: e.cause?.message });
const tell = (name, run) => Promise.resolve().then(run).catch(failed)
  .then((value) => console.log("OUTCOME" + JSON.stringify([name, value ?? null])));
const told = (name, run) => { try { return run() } catch (e) { tell(name, () => { throw e }) } };
export const allowRead = (request) => { @READ };
export const allowWrite = async (request) => { @WRITE };
const service = () => tell("service", async () => { @SERVICE });
const guard = () => { @GUARD };
const judge = { guard, cond: guard, target: "busy" };
export default createMachine({ initial: "idle", context: {}, predictableActionArguments: true, states: {
  idle: { on: { go: "busy", act: { actions: () => { @ACTION } }, judge } },
  busy: { invoke: { id: "svc", src: @SRC, onDone: "idle", onError: "idle" }, on: { leave: "idle" } } } });"""
PARTS = {"READ": "return true", "WRITE": "return true", "SERVICE": "", "GUARD": "return true", "ACTION": ""}


def bundle(served: Site, major: int, parts: dict[str, str]) -> bytes:
    code = MACHINE
    if major == 4:
        code = code.replace(", fromPromise", "")
    for name, part in (PARTS | parts).items():
        code = code.replace(f"@{name}", part)
    src = "service" if major == 4 else "fromPromise(service)"
    return code.replace("@SRC", src).replace("@BASE", served.url("")).encode()


class Scene:
    """One instance, its worker, and the site that it fetches from."""

    def __init__(self, rig: Rig, served: Site, lodger: Lodger) -> None:
        self.rig = rig
        self.site = served
        self.lodger = lodger

    async def event(self, type: str, source: Source = "client", *, auth: Json | None = None) -> None:
        """Deliver an event, whose step is durable then, and perform it."""
        lodger = self.lodger
        lodger.n += 1
        lodger.attached.compute(lodger.n, lodger.seq, [envelope(type, source=source, auth=auth)], lodger.load)
        stepped = await self.signal(Stepped)
        lodger.keep(stepped)
        if stepped.steps[-1].has_effects:
            lodger.attached.perform(lodger.seq)

    async def signal(self, kind: Any) -> Any:  # Any: signals, looked into freely
        while not isinstance(signal := await self.lodger.heard(), kind):
            assert not isinstance(signal, WorkerLost | Refused), signal
        return signal

    async def outcome(self, name: str = "service") -> Any:  # Any: JSON
        while True:
            async with asyncio.timeout(PATIENCE_S):
                log = await self.rig.logs.get()
            if log.line.startswith("OUTCOME"):
                said, value = json.loads(log.line.removeprefix("OUTCOME"))
                if said == name:
                    return value

    async def service(self) -> Any:  # Any: JSON
        """Run the service; what it gives."""
        await self.event("go")
        return await self.outcome()

    def fetches(self) -> int:
        return sum(len(worker.fetches) for worker in self.rig.workers())


@asynccontextmanager
async def scene(
    major: int = 5, *, allow: bool = True, policy: PoolPolicy = POLICY, headers_ms: int = 5_000, **parts: str
) -> AsyncIterator[Scene]:
    async with site() as served:
        http = GuardedHttp(allow_private=allow, headers_ms=headers_ms)
        code = {"v1": bundle(served, major, parts)}
        try:
            async with rig(code, sandbox=real_sandbox(), policy=policy, egress=http) as r:
                found = Scene(r, served, r.lodger(xstate=VERSIONS[major]))
                await found.event("init")
                yield found
        finally:
            await http.aclose()


def on(
    major: int, test: Callable[[int], Coroutine[Any, Any, None]]
) -> None:  # Any: what coroutines are made of
    @run
    async def test_run() -> None:
        await test(major)

    test_run()


def silent() -> Handler:
    """Never answers; the site's `lost` is set when the client goes."""

    async def handler(got: Got, writer: asyncio.StreamWriter) -> None:
        assert got.reader is not None
        while await got.reader.read(1_000):
            pass
        raise ConnectionResetError

    return handler


# --- requests and answers


@MAJORS
def test_a_service_fetches_and_has_the_webs_own_response(major: int) -> None:
    async def test(major: int) -> None:
        body = """const response = await fetch(`${BASE}/a?b=1#c`, { headers: { "x-mine": "ü" } });
          return [response instanceof Response, response.ok, response.status, response.statusText,
            response.url, response.redirected, response.headers.get("x-a"), response.headers.getSetCookie(),
            response.clone().url, await response.clone().text(), await response.json()]"""
        async with scene(major, SERVICE=body) as s:
            s.site.pages["/a"] = text(
                b'{"x":[1]}', ("x-a", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")
            )
            url = s.site.url("/a?b=1")
            assert await s.service() == [
                *(True, True, 200, "Reason", url, False, "1", ["a=1", "b=2"], url, '{"x":[1]}', {"x": [1]}),
            ]
            [got] = s.site.requests
            assert (got.method, got.path, got.header("x-mine")) == ("GET", "/a?b=1", "ü")
            assert s.fetches() == 0

    on(major, test)


BODIES = """const bytes = new Uint8Array([0, 255, 128]);
  const form = new FormData(); form.set("a", "b"); form.set("f", new File([bytes], "f.bin"));
  const parts = ["one", "two", "three"];
  const slow = new ReadableStream({ async pull(c) { await new Promise((ok) => setTimeout(ok, 2));
    const part = parts.shift();
    if (part === undefined) c.close(); else c.enqueue(new TextEncoder().encode(part)); } });
  for (const [path, body] of [["/text", "grüezi"], ["/bytes", bytes], ["/blob", new Blob([bytes])],
      ["/form", form], ["/query", new URLSearchParams({ a: "b c" })], ["/stream", slow],
      ["/none", null], ["/empty", ""]]) {
    await fetch(BASE + path, { method: "POST", body });
  }
  await fetch(new Request(`${BASE}/request`, { method: "PUT", body: "from a request", headers: { x: "y" } }));
  await fetch(new URL(`${BASE}/big`), { method: "POST", body: "x".repeat(1_000_000) });
  return 1"""


@run
async def test_every_kind_of_body_arrives() -> None:
    async with scene(SERVICE=BODIES) as s:
        for path in ("text", "bytes", "blob", "form", "query", "stream", "none", "empty", "request", "big"):
            s.site.pages[f"/{path}"] = text(b"")
        assert await s.service() == 1
        got = {request.path: request for request in s.site.requests}
        assert got["/text"].body == "grüezi".encode()
        assert got["/text"].header("content-type") == "text/plain;charset=UTF-8"
        assert got["/bytes"].body == got["/blob"].body == bytes([0, 255, 128])
        assert b'name="f"; filename="f.bin"' in got["/form"].body
        assert bytes([0, 255, 128]) in got["/form"].body
        assert (got["/form"].header("content-type") or "").startswith("multipart/form-data; boundary=")
        assert got["/query"].body == b"a=b+c"
        assert (got["/stream"].body, got["/stream"].header("transfer-encoding")) == (
            b"onetwothree",
            "chunked",
        )
        assert got["/none"].header("content-length") == got["/empty"].header("content-length") == "0"
        assert (got["/request"].method, got["/request"].header("x")) == ("PUT", "y")
        assert (got["/request"].body, got["/request"].header("content-length")) == (b"from a request", "14")
        assert got["/big"].header("content-length") == "1000000"
        assert got["/big"].body == b"x" * 1_000_000


@run
async def test_an_answer_is_read_while_it_comes_and_no_faster_than_it_is_read() -> None:
    body = """const response = await fetch(`${BASE}/slow`); const reader = response.body.getReader();
      const first = await reader.read(); await fetch(`${BASE}/next`);
      let size = first.value.length, odd = 0;
      for (let next; !(next = await reader.read()).done;) {
        size += next.value.length; odd += next.value.some((b) => b !== 0xfe) ? 1 : 0;
      }
      return [new TextDecoder().decode(first.value), size, odd]"""
    async with scene(SERVICE=body) as s:
        asked = asyncio.Event()

        async def slow(got: Got, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3000005\r\n\r\nfirst")
            await writer.drain()
            await asked.wait()  # the worker has read the first piece before the second exists
            writer.write(b"\xfe" * 3_000_000)

        async def next_(got: Got, writer: asyncio.StreamWriter) -> None:
            asked.set()
            writer.write(answer(200))

        s.site.pages |= {"/slow": slow, "/next": next_}
        assert await s.service() == ["first", 3_000_005, 0]


@run
async def test_who_does_not_read_holds_the_server_back() -> None:
    body = """const response = await fetch(`${BASE}/endless`); globalThis.kept = response;
      await fetch(`${BASE}/stalled`); await response.body.cancel(); return 1"""
    async with scene(SERVICE=body) as s:
        written = 0
        stalled = asyncio.Event()

        async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while written < 100_000_000:
                writer.write(b"x" * 65_536)
                written += 65_536
                try:
                    await asyncio.wait_for(writer.drain(), 0.5)
                except TimeoutError:
                    stalled.set()
                    await got.reader.read() if got.reader else None  # until the client goes
                    raise ConnectionResetError from None

        async def when_stalled(got: Got, writer: asyncio.StreamWriter) -> None:
            await stalled.wait()
            writer.write(answer(200))

        s.site.pages |= {"/endless": endless, "/stalled": when_stalled}
        assert await s.service() == 1
        assert written < 20_000_000
        await s.site.lost.wait()


@run
async def test_a_request_is_sent_no_faster_than_the_server_reads_it() -> None:
    body = """let made = 0;
      const endless = new ReadableStream({ pull(c) { made += 1; c.enqueue(new Uint8Array(60_000)); } });
      const sent = fetch(`${BASE}/deaf`, { method: "POST", body: endless }).catch(failed);
      await fetch(`${BASE}/later`); const before = made; await fetch(`${BASE}/later`);
      return [made === before, made < 100]"""
    async with scene(SERVICE=body) as s:
        stuck = asyncio.Event()

        async def deaf(got: Got, writer: asyncio.StreamWriter) -> None:
            await stuck.wait()

        async def later(got: Got, writer: asyncio.StreamWriter) -> None:
            """When nothing has moved for a while: the buffers between are full."""
            [worker] = s.rig.workers()
            before = -1
            while before != (now := sum(under.uploaded_bytes for under in worker.fetches._under.values())):
                before = now
                await asyncio.sleep(0.2)
            writer.write(answer(200))

        s.site.pages |= {"/deaf": deaf, "/later": later}
        assert await s.service() == [True, True]


@run
async def test_redirects_are_followed_handed_over_or_refused() -> None:
    body = """const followed = await fetch(`${BASE}/a`);
      const manual = await fetch(`${BASE}/a`, { redirect: "manual" });
      const refused = await fetch(`${BASE}/a`, { redirect: "error" }).catch(failed);
      return [followed.url.slice(BASE.length), followed.redirected, manual.status,
        manual.headers.get("location"), refused.cause]"""
    async with scene(SERVICE=body) as s:
        s.site.pages |= {"/a": redirect(302, "/b"), "/b": text(b"")}
        why = 'the answer is a redirect, and `redirect` is "error"'
        assert await s.service() == ["/b", True, 302, "/b", why]


@run
async def test_answers_without_a_body_have_none() -> None:
    body = """const all = [];
      for (const [path, method] of [["/none", "GET"], ["/same", "GET"], ["/", "HEAD"], ["/", "GET"]]) {
        const response = await fetch(BASE + path, { method });
        all.push([response.status, response.body === null, await response.text()]);
      }
      return all"""
    async with scene(SERVICE=body) as s:
        s.site.pages |= {"/": text(b""), "/none": text(b"", status=204), "/same": text(b"", status=304)}
        assert await s.service() == [[204, True, ""], [304, True, ""], [200, True, ""], [200, False, ""]]


@run
async def test_a_byte_reader_may_bring_its_own_buffer() -> None:
    body = """const { body } = await fetch(`${BASE}/`); const reader = body.getReader({ mode: "byob" });
      const sizes = []; let buffer = new ArrayBuffer(4);
      for (;;) { const { done, value } = await reader.read(new Uint8Array(buffer));
        sizes.push(value?.length ?? -1); if (done) return sizes; buffer = value.buffer; }"""
    async with scene(SERVICE=body) as s:
        s.site.pages["/"] = text(b"0123456789")
        assert await s.service() == [4, 4, 2, 0]


# --- aborts and failures


@run
async def test_an_abort_reaches_the_server() -> None:
    body = """const all = [];
      const early = await fetch(`${BASE}/x`, { signal: AbortSignal.abort("before") }).catch((e) => e);
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 50);
      const silent = await fetch(`${BASE}/silent`, { signal: controller.signal }).catch((e) => e.name);
      const late = await fetch(`${BASE}/silent`, { signal: AbortSignal.timeout(50) }).catch((e) => e.name);
      const half = new AbortController();
      const response = await fetch(`${BASE}/half`, { signal: half.signal });
      setTimeout(() => half.abort(new RangeError("enough")), 50);
      return [early, silent, late, await response.text().catch((e) => `${e}`)]"""
    async with scene(SERVICE=body) as s:

        async def half(got: Got, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            await silent()(got, writer)

        s.site.pages |= {"/silent": silent(), "/half": half}
        assert await s.service() == ["before", "AbortError", "TimeoutError", "RangeError: enough"]
        assert [got.path for got in s.site.requests] == ["/silent", "/silent", "/half"]
        await s.site.lost.wait()
        assert s.fetches() == 0


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        ("fetch('http://127.0.0.1:1/')", "port 1 is not open: 80, 443 and those from 1024 on are"),
        ("fetch('http://localhost.invalid/')", "the name localhost.invalid leads nowhere"),
        ("fetch('http://169.254.169.254/latest')", "169.254.169.254 is not allowed"),
        ("fetch('http://0xA9.0376.43518/')", "169.254.169.254 is not allowed"),
        ("fetch('file:///etc/passwd')", "only http: and https: URLs can be fetched"),
        ("fetch('data:,x')", "only http: and https: URLs can be fetched"),
        ("fetch(URL.createObjectURL(new Blob(['x'])))", "only http: and https: URLs can be fetched"),
        ("fetch('http://u:p@example.com/')", "a URL with a user name or a password cannot be fetched"),
        (
            "fetch(`${BASE}/cut`).then((r) => r.text())",
            "127.0.0.1 breaks HTTP: peer closed connection without",
        ),
        (
            "fetch(`${BASE}/bomb`).then((r) => r.text())",
            "the body of the answer is longer than 10,000,000 bytes",
        ),
        ("fetch(`${BASE}/drip`)", "127.0.0.1 does not answer within 0.5 s"),
        (
            "fetch(`${BASE}/`, { headers: { x: 'y'.repeat(33_000) } })",
            "the URL and the headers take more than",
        ),
        ("fetch(`${BASE}/?${'y'.repeat(33_000)}`)", "the URL and the headers take more than 32768 bytes"),
        (
            "fetch(`${BASE}/`, { method: 'POST', body: new Uint8Array(10_000_001) })",
            "the body of the request is longer than 10000000 bytes",
        ),
    ],
)
def test_a_failure_is_a_type_error_that_says_why(call: str, cause: str) -> None:
    @run
    async def test() -> None:
        async with scene(SERVICE=f"return {call}.then(() => 'no', failed)", headers_ms=500) as s:

            async def cut(got: Got, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                writer.close()

            async def drip(got: Got, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while not writer.is_closing():
                    writer.write(b"x: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

            bomb = gzip.compress(bytes(limits.FETCH_BODY_BYTES_MAX + 1))
            s.site.pages |= {"/": text(b""), "/cut": cut, "/drip": drip}
            s.site.pages["/bomb"] = text(bomb, ("content-encoding", "gzip"))
            told = await s.service()
            assert told["error"].startswith("TypeError: fetch failed: " + cause)
            assert told["cause"].startswith(cause)
            assert s.fetches() == 0

    test()


@run
async def test_the_web_refuses_what_it_always_refuses() -> None:
    body = """const calls = [() => fetch("/relative"), () => fetch("http://x/", { method: "CONNECT" }),
        () => fetch("http://x/", { body: "x" }), () => fetch("http://x/", { headers: { "a b": "c" } }),
        () => fetch()];
      return Promise.all(calls.map((call) => call().then(() => "no", (e) => e.name)))"""
    async with scene(SERVICE=body) as s:
        assert await s.service() == ["TypeError"] * 5


@run
async def test_a_body_that_fails_fails_the_fetch() -> None:
    body = """const broken = new ReadableStream({ async pull(c) { c.enqueue(new Uint8Array(1));
        await new Promise((ok) => setTimeout(ok, 2)); c.error(new RangeError("no more")); } });
      const wrong = new ReadableStream({ async pull(c) { await new Promise((ok) => setTimeout(ok, 2));
        c.enqueue("text"); } });
      const sent = (body) => fetch(`${BASE}/`, { method: "POST", body }).catch((e) => `${e}`);
      return Promise.all([sent(broken), sent(wrong)])"""
    async with scene(SERVICE=body) as s:
        s.site.pages["/"] = text(b"")
        first, second = await s.service()
        assert first == "RangeError: no more"
        assert second.startswith("TypeError: ")
        assert s.fetches() == 0


@run
async def test_a_server_may_answer_before_it_has_the_whole_body() -> None:
    body = """const body = new Uint8Array(9_000_000);
      const response = await fetch(`${BASE}/early`, { method: "POST", body });
      return [response.status, await response.text()]"""
    async with scene(SERVICE=body) as s:

        async def early(got: Got, writer: asyncio.StreamWriter) -> None:
            assert got.reader is not None
            await got.reader.readexactly(100_000)
            writer.write(answer(413, b"too much", ("connection", "close")))
            await writer.drain()
            writer.write_eof()
            while await got.reader.read(65_536):
                pass

        s.site.pages["/early"] = early
        assert await s.service() == [413, "too much"]


# --- where and when it may


@MAJORS
def test_nothing_goes_to_this_machine_unless_it_is_opened(major: int) -> None:
    async def test(major: int) -> None:
        calls = ["BASE", "BASE.replace('127.0.0.1', 'localhost')", "BASE.replace('127.0.0.1', '[::1]')"]
        calls += [
            "BASE.replace('127.0.0.1', '2130706433')",
            "BASE.replace('127.0.0.1', '[::ffff:127.0.0.1]')",
        ]
        body = f"return Promise.all([{','.join(calls)}].map((u) => fetch(u).then(() => 'no', failed)))"
        async with scene(major, allow=False, SERVICE=body) as s:
            for told in await s.service():
                assert "is not allowed: requests go to public addresses only" in told["error"]
            assert s.site.connections == 0

    on(major, test)


@MAJORS
def test_a_guard_may_not_fetch_and_is_told_the_rule(major: int) -> None:
    async def test(major: int) -> None:
        async with scene(major, GUARD="fetch(BASE); return true") as s:
            s.lodger.compute("judge")
            refused = await s.lodger.hear(Refused)
            assert refused.code == "machine-error"
            assert "fetch is not allowed here: a guard, an assign, a context" in refused.message
        late = "setTimeout(() => told('late', () => fetch(BASE)), 1); return true"
        async with scene(major, GUARD=late, SERVICE="await new Promise((ok) => setTimeout(ok, 20))") as s:
            await s.event("judge")  # durable, and still code that ran before it was
            assert "fetch is not allowed here" in (await s.outcome("late"))["error"]
            assert s.site.connections == 0

    on(major, test)


@run
async def test_a_module_may_not_fetch_while_it_loads() -> None:
    bundles = {"v1": b"await fetch('http://127.0.0.1:9000/');"}
    async with rig(bundles, sandbox=real_sandbox(), policy=POLICY) as r:
        lodger = r.lodger(xstate=VERSIONS[5])
        lodger.compute("init")
        refused = await lodger.hear(Refused)
        assert refused.code == "invalid-machine"
        assert "fetch is not allowed while the module loads" in refused.message


@MAJORS
def test_an_authorizer_may_fetch_until_it_has_answered(major: int) -> None:
    async def test(major: int) -> None:
        write = """if (request.event?.type !== "go") return true;
          setTimeout(() => tell("late", () => fetch(`${BASE}/late`)), 100);
          return (await fetch(`${BASE}/may`)).json()"""
        read = """setTimeout(() => tell("late", () => fetch(`${BASE}/late`)), 100);
          return fetch(`${BASE}/may?read`).then((r) => r.json())"""
        async with scene(major, WRITE=write, READ=read) as s:
            s.site.pages |= {"/may": text(b"true"), "/late": text(b"")}
            await s.event("go", auth=Json(b"{}"))
            assert "an authorizer has no time left once it has answered" in (await s.outcome("late"))["error"]
            assert await s.lodger.attached.may_read(s.lodger.seq, [Json(b"{}")] * 2) == [True, True]
            saved = s.lodger.saved
            assert saved is not None
            assert "the authorizer that asks for it has answered" in (await s.outcome("late"))["error"]
            assert await s.rig.pool.may_read(s.lodger.code, s.lodger.key, saved, [Json(b"{}")]) == [True]
            assert [got.path for got in s.site.requests] == ["/may", *["/may?read"] * 3]

    on(major, test)


@run
async def test_an_authorizer_that_fetches_for_too_long_refuses_and_its_request_is_ended() -> None:
    write = "return request.type !== 'event' || (await fetch(`${BASE}/silent`)).ok"
    read = "return fetch(`${BASE}/silent`).then(() => true)"
    policy = replace(POLICY, authorize_ms=300)
    async with scene(WRITE=write, READ=read, policy=policy) as s:
        s.site.pages["/silent"] = silent()
        s.lodger.n += 1
        judged = [envelope("go", auth=Json(b"{}"))]
        s.lodger.attached.compute(s.lodger.n, s.lodger.seq, judged, s.lodger.load)
        assert (await s.lodger.hear(Refused)).code == "rejected-by-machine-authorizer"
        await s.site.lost.wait()
        s.site.lost.clear()
        assert await s.lodger.attached.may_read(s.lodger.seq, [Json(b"{}")]) == [False]
        await s.site.lost.wait()
        assert s.fetches() == 0


@MAJORS
def test_what_a_stopped_service_fetches_is_ended_and_it_may_begin_nothing_new(major: int) -> None:
    async def test(major: int) -> None:
        body = """const first = await fetch(`${BASE}/silent`).catch(failed);
          return [first, await fetch(`${BASE}/again`).catch(failed)]"""
        for how in ("stop", "leave", "close"):
            async with scene(major, SERVICE=body) as s:
                s.site.pages["/silent"] = silent()
                await s.event("go")
                await asked(s, 1)
                match how:
                    case "stop":  # as at the deadline
                        s.lodger.attached.stop([ServiceRun(ServiceId("svc"), Seq(2))])
                    case "leave":
                        await s.event("leave")
                    case _:
                        s.lodger.attached.close()
                first, again = await s.outcome()
                assert first["error"].startswith("TypeError: fetch failed: the ")
                assert "fetch failed: the code that asks for it is over" in again["error"]
                await s.site.lost.wait()
                assert s.fetches() == 0
                assert len(s.site.requests) == 1

    on(major, test)


async def asked(s: Scene, count: int) -> None:
    """Wait until that many requests have come."""
    async with asyncio.timeout(PATIENCE_S):
        while len(s.site.requests) < count:
            s.site.came.clear()
            await s.site.came.wait()


@MAJORS
def test_an_action_may_fetch_until_the_time_to_settle_is_over(major: int) -> None:
    async def test(major: int) -> None:
        action = """tell("quick", async () => (await fetch(`${BASE}/quick`)).status);
          tell("slow", () => fetch(`${BASE}/silent`));
          setTimeout(() => tell("late", () => fetch(`${BASE}/quick`)), 1_000)"""
        policy = replace(POLICY, settle_ms=500)
        async with scene(major, ACTION=action, policy=policy) as s:
            s.site.pages |= {"/silent": silent(), "/quick": text(b"")}
            await s.event("act")
            assert await s.outcome("quick") == 200
            assert await s.outcome("slow") == {
                "error": "TypeError: fetch failed: the time to settle is over",
                "cause": "the time to settle is over",
            }
            assert "the time to settle is over" in (await s.outcome("late"))["error"]
            assert len(s.site.requests) == 2
            # An event of its own gives no more time, one from outside does.
            await s.event("act", "self")
            assert "the time to settle is over" in (await s.outcome("quick"))["error"]
            await s.event("act", "timer")
            assert await s.outcome("quick") == 200

    on(major, test)


@run
async def test_what_a_service_still_fetches_when_it_ends_goes_on() -> None:
    body = "tell('log', async () => (await fetch(`${BASE}/log`)).status)"
    async with scene(SERVICE=body) as s:
        release = asyncio.Event()

        async def log(got: Got, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(answer(200))

        s.site.pages["/log"] = log
        await s.service()
        await asked(s, 1)
        release.set()
        assert await s.outcome("log") == 200


# --- how much


@run
async def test_sixteen_requests_of_an_instance_may_be_under_way() -> None:
    body = """const controller = new AbortController(); const { signal } = controller;
      const one = () => fetch(`${BASE}/silent`, { signal }).catch((e) => e.message);
      const all = Array.from({ length: 17 }, one);
      const last = await all[16]; controller.abort("enough");
      return [last, await fetch(`${BASE}/`).then((r) => r.status)]"""
    async with scene(SERVICE=body) as s:
        s.site.pages |= {"/silent": silent(), "/": text(b"")}
        why = "fetch failed: 16 requests of this instance are under way, more may not be"
        assert await s.service() == [why, 200]


@run
async def test_sixty_four_requests_of_a_machine_may_be_under_way() -> None:
    body = """const all = Array.from({ length: 14 }, () => fetch(`${BASE}/silent`).catch((e) => e.message));
      return Promise.race(all)"""
    async with scene(SERVICE=body) as s:
        s.site.pages["/silent"] = silent()
        for number in range(5):
            lodger = s.lodger if number == 0 else s.rig.lodger(f"i{number}", xstate=VERSIONS[5])
            other = Scene(s.rig, s.site, lodger)
            if number:
                await other.event("init")
            await other.event("go")
        assert await s.outcome() == "fetch failed: 64 requests of this machine are under way, more may not be"
        await asked(s, 64)
        assert s.fetches() == 64


@run
async def test_events_go_on_while_instances_download() -> None:
    """Sixteen downloads of one instance neither hold up its neighbour's events nor the watchdog."""
    body = """const sizes = await Promise.all(Array.from({ length: 16 }, async () =>
        (await (await fetch(`${BASE}/big`)).arrayBuffer()).byteLength));
      return sizes.reduce((a, b) => a + b)"""
    async with scene(SERVICE=body) as s:
        size = 2_000_000
        s.site.pages["/big"] = text(b"\0" * size)
        neighbour = Scene(s.rig, s.site, s.rig.lodger("n", xstate=VERSIONS[5]))
        await neighbour.event("init")
        await s.event("go")
        downloaded = asyncio.ensure_future(s.outcome())
        while not downloaded.done():
            await neighbour.event("unknown")
        assert downloaded.result() == 16 * size
        assert len(s.rig.workers()) == 1


@run
async def test_the_worker_with_a_request_under_way_is_not_evicted() -> None:
    async with scene(ACTION="fetch(`${BASE}/silent`)") as s:
        s.site.pages["/silent"] = silent()
        await s.event("act")
        await asked(s, 1)
        [worker] = s.rig.workers()
        assert worker.is_working


@run
async def test_a_worker_that_dies_takes_its_requests_with_it() -> None:
    async with scene(SERVICE="await fetch(`${BASE}/silent`)") as s:
        s.site.pages["/silent"] = silent()
        await s.event("go")
        await asked(s, 1)
        [worker] = s.rig.workers()
        worker.kill("is killed")
        await s.site.lost.wait()
        assert len(worker.fetches) == 0


@run
async def test_odd_headers_of_an_answer_harm_nobody() -> None:
    body = """const all = [];
      const x = (response) => response.headers.get("x");
      for (let n = 0; n < 3; n++) all.push(await fetch(`${BASE}/${n}`).then(x, failed));
      return all"""
    async with scene(SERVICE=body) as s:

        def odd(value: bytes) -> Handler:
            async def handler(got: Got, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 200 O\xffK\r\ncontent-length: 0\r\nx: " + value + b"\r\n\r\n")

            return handler

        s.site.pages |= {"/0": odd(b"a\x01\x7fb"), "/1": odd(b"\xfc"), "/2": odd(b"")}
        assert await s.service() == ["a\x01\x7fb", "ü", ""]
        await s.event("unknown")


@run
async def test_code_that_breaks_the_web_breaks_itself_alone() -> None:
    body = """Headers.prototype[Symbol.iterator] = Response.prototype.clone = undefined;
      globalThis.Request = globalThis.Response = globalThis.ReadableStream = undefined;
      const told = await fetch(`${BASE}/`).catch(failed);
      return told.error"""
    async with scene(SERVICE=body) as s:
        s.site.pages["/"] = text(b"")
        assert "TypeError" in str(await s.service())
        await s.event("unknown")
