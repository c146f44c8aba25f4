"""Transitions a second of one worker process, without server and store: `python -m bench.worker [4|5]`.

Every event is authorised, computed and answered with its state; the counter in the context changes on every
other event. Latency is for one event alone, throughput for 64 activations with one event each in flight.
"""

import os
import statistics
import struct
import sys
import time

from tests.runtime.driver import WorkerProcess, encode

EVENTS = 60_000
ALONE = 5_000
IN_FLIGHT = 64
PREDICTABLE = {4: "predictableActionArguments: true,", 5: ""}
COUNT = {4: "(context) => context.n + 1", 5: "({ context }) => context.n + 1"}
BUNDLE = """
import { createMachine, assign } from "xstate";
export const allowRead = () => true;
export const allowWrite = ({ authContext }) => typeof authContext.sid === "string";
export default createMachine({
  %(predictable)s
  id: "toggler",
  initial: "off",
  context: { n: 0, text: "%(filler)s" },
  states: {
    off: { on: { toggle: { target: "on", actions: assign({ n: %(count)s }) } } },
    on: { on: { toggle: "off" } },
  },
});
"""
ITEM = {"k": "event", "source": "client", "auth": True}
AUTH = '{"sid":"s-0123456789"}'
EVENT = '{"type":"toggle"}'


def request(number: int, a: int, seq: int) -> bytes:
    header = {
        "t": "compute",
        "n": number,
        "a": a,
        "seq": seq,
        "name": f"i{a}",
        "base": False,
        "items": [ITEM],
    }
    return encode(header, [EVENT, AUTH])


def open_worker(worker: WorkerProcess, major: int, context_bytes: int, count: int) -> None:
    parts = {"predictable": PREDICTABLE[major], "count": COUNT[major], "filler": "x" * context_bytes}
    assert worker.load(BUNDLE % parts)["t"] == "loaded"
    for a in range(1, count + 1):
        header, _ = worker.compute(
            a, 0, [{"k": "init", "source": "client", "auth": True, "context": False}], [AUTH]
        )
        assert header["t"] == "step"


def measure_alone(major: int, context_bytes: int) -> tuple[float, float]:
    """Median and 99th percentile of one round trip, in ms."""
    times = []
    with WorkerProcess(major) as worker:
        open_worker(worker, major, context_bytes, 1)
        for seq in range(1, ALONE + 1):
            began = time.perf_counter()
            worker.write(request(seq, 1, seq))
            worker.receive("step")
            times.append((time.perf_counter() - began) * 1_000)
    settled = times[ALONE // 5 :]
    return statistics.median(settled), statistics.quantiles(settled, n=100)[98]


def measure_throughput(major: int, context_bytes: int, events: int) -> tuple[float, float]:
    """Transitions a second with 64 in flight, and the worker's CPU µs for each."""
    with WorkerProcess(major) as worker:
        open_worker(worker, major, context_bytes, IN_FLIGHT)
        run_pipelined(worker, 1, events // 4)
        cpu = worker.cpu_seconds()
        began = time.perf_counter()
        done = run_pipelined(worker, 1 + events // 4 // IN_FLIGHT, events)
        elapsed = time.perf_counter() - began
        return done / elapsed, (worker.cpu_seconds() - cpu) / done * 1e6


def run_pipelined(worker: WorkerProcess, first_seq: int, events: int) -> int:
    """One event for each activation in flight at any time; frames are only counted, not parsed."""
    rounds = events // IN_FLIGHT
    sequence = [first_seq] * (IN_FLIGHT + 1)
    worker.write(b"".join(request(0, a, first_seq) for a in range(1, IN_FLIGHT + 1)))
    left, pending = rounds * IN_FLIGHT, bytearray()
    while left:
        pending += os.read(worker.stdout_fd, 1 << 20)
        answers, at = [], 0
        while len(pending) - at >= 8:
            length, head = struct.unpack_from(">II", pending, at)
            if len(pending) - at < 4 + length:
                break
            begin = pending.index(b'"a":', at + 8, at + 8 + head) + 4
            a = int(pending[begin : pending.index(b",", begin)])
            at += 4 + length
            left -= 1
            sequence[a] += 1
            if sequence[a] < first_seq + rounds:
                answers.append(request(0, a, sequence[a]))
        del pending[:at]
        if answers:
            worker.write(b"".join(answers))
    return rounds * IN_FLIGHT


def main() -> None:
    majors = [int(argument) for argument in sys.argv[1:]] or [4, 5]
    print(f"{'':24}{'alone p50':>12}{'p99':>10}{'64 in flight':>16}{'worker CPU':>14}")
    for major in majors:
        for context_bytes in (20, 100_000):
            p50, p99 = measure_alone(major, context_bytes)
            rate, cpu = measure_throughput(
                major, context_bytes, EVENTS if context_bytes < 1_000 else EVENTS // 10
            )
            name = f"XState {major}, {context_bytes:,} bytes"
            print(f"{name:24}{p50:9.3f} ms{p99:7.3f} ms{rate:12,.0f} /s{cpu:11.1f} µs")


if __name__ == "__main__":
    main()
