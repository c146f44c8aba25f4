#!/usr/bin/env bash
# In a clone that is set up: serve, deploy the toggler, create an instance, send it an event.
set -euo pipefail
export STATEBACKED_DATA="$PWD/.statebacked-bench"
.venv/bin/statebacked serve --port 0 >serve.out &
server=$!
trap 'kill "$server"' EXIT
until [ -s serve.out ]; do sleep 0.05; done
.venv/bin/smply machines create --machine example-machine --node examples/toggler/toggler.ts
.venv/bin/smply instances create --machine example-machine --instance session-123 --auth-context '{"sid": "session-123"}'
.venv/bin/smply instances send-event --machine example-machine --instance session-123 --auth-context '{"sid": "session-123"}' --event toggle
