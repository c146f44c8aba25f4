"""The worst that a worker can say: what it costs is bounded in a turn of the loop, and between two looks.

Work is counted in lines and bytes that are handled, never in time.
"""

import asyncio
import json
import struct
from pathlib import Path
from random import Random

import pytest

from statebacked.model import limits
from statebacked.model.ids import InstanceKey, InstanceName, MachineName, OrgId, VersionId
from statebacked.ports.machines import Code
from statebacked.runtime.protocol import FrameReader, ProtocolError
from statebacked.runtime.reads import Read, Reads
from statebacked.runtime.unasked import LEAST_SHARE, TURN_COST_MAX, UNASKED_COST, Unasked
from statebacked.runtime.validate import without_paths
from statebacked.runtime.worker import Worker
from tests.runtime.simulated import Dice, SimulatedSandbox
from tests.virtual_time import run_in_virtual_time

CHUNK_BYTES = 262_144  # what one read of a pipe gives at most
CODE = Code(OrgId("org"), MachineName("m"), VersionId("v"), "5.99.0")
LINES_PER_LOOK = limits.WORKER_UNASKED_BYTES_MAX // UNASKED_COST


def frame(header: object, *sections: bytes) -> bytes:
    head = json.dumps(header, separators=(",", ":")).encode()
    body = struct.pack(">I", len(head)) + head + b"".join(sections)
    return struct.pack(">I", len(body)) + body


class Nobody:
    def worker_woke(self) -> None: ...
    def worker_over(self, worker: Worker, reason: str) -> None: ...


class Heard:
    """A loaded worker of which the test is the process; it counts the lines that come out."""

    def __init__(self, unasked: Unasked | None = None) -> None:
        self.lines: list[str] = []
        self.unasked = unasked or Unasked()
        self.worker = Worker(5, Nobody(), self._log, in_flight_max=1, unasked=self.unasked)

    def _log(self, code: Code, key: InstanceKey | None, stream: str, line: str) -> None:
        self.lines.append(line)

    async def load(self) -> "Heard":
        sandbox = SimulatedSandbox(deno="", dist=Path(), dice=Dice(Random(1)))
        await self.worker.boot(sandbox, Path(), 1_000)
        await self.worker.load(CODE, b"{}", ())
        return self

    def look(self) -> None:
        """As the watchdog does."""
        self.worker.listen_again()
        self.unasked.looked()

    async def settle(self) -> None:
        """Until nothing more is read before the next look."""
        for _ in range(1_000):
            await asyncio.sleep(0)


LINE = frame({"t": "log", "stream": "stdout", "lines": [""]})
FLOODS = {
    "lines in frames of their own": LINE,
    "answers that nobody waits for": frame({"t": "readable", "n": 77, "ok": [True]}),
    "pongs": frame({"t": "pong", "n": 1}),
    "steps of nobody": frame({"t": "step", "n": 1, "a": 5, "steps": []}),
    "events of nobody's services": frame(
        {"t": "inside", "a": 5, "token": 1, "service": ["s", 1], "ends": False, "raw": [2]}, b"{}"
    ),
    "credit for no request": frame({"t": "fetch_more", "f": 1, "bytes": 1}),
    "the end of no request": frame({"t": "fetch_abort", "f": 1}),
    "pieces of no request": frame({"t": "fetch_upload", "f": 1, "ends": False, "raw": [0]}),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_small_frames_is_heard_a_little_in_a_turn_and_bounded_between_two_looks(
    flood: str,
) -> None:
    async def happen() -> None:
        heard = await Heard().load()
        worker, one = heard.worker, FLOODS[flood]
        count = CHUNK_BYTES // len(one)
        worker.received(one * count)
        assert _taken(worker, one, count) <= TURN_COST_MAX // UNASKED_COST + 1
        await heard.settle()
        assert worker.is_held
        assert _taken(worker, one, count) <= LINES_PER_LOOK + 1
        for _ in range(count // 400 + 1):
            heard.look()
            await heard.settle()
        assert _taken(worker, one, count) == count, "what was held is heard in the end"
        assert not worker.is_over
        worker.retire()

    run_in_virtual_time(happen())


def _taken(worker: Worker, one: bytes, count: int) -> int:
    reader = worker._reader
    left = len(reader._data) - reader._at + len(reader._held)
    return count - left // len(one)


def test_lines_of_one_frame_over_the_limit_are_dropped_and_counted() -> None:
    async def happen() -> None:
        heard = await Heard().load()
        lines = [""] * 85_000
        heard.worker.received(frame({"t": "log", "stream": "stdout", "lines": lines}))
        assert len(heard.lines) == LINES_PER_LOOK
        await heard.settle()
        heard.look()
        assert heard.lines[-1] == f"({85_000 - LINES_PER_LOOK} more lines were dropped)"
        heard.worker.retire()

    run_in_virtual_time(happen())


def test_all_workers_together_are_heard_for_a_bounded_time_between_two_looks() -> None:
    async def happen() -> None:
        unasked = Unasked()
        all_heard = [await Heard(unasked).load() for _ in range(40)]
        for heard in all_heard:
            heard.worker.received(LINE * (CHUNK_BYTES // len(LINE)))
        quiet = await Heard(unasked).load()
        await quiet.settle()
        most = limits.UNASKED_BYTES_MAX + 40 * (LEAST_SHARE + 2 * TURN_COST_MAX)
        assert sum(len(heard.lines) for heard in all_heard) * 2 * UNASKED_COST <= most
        assert min(len(heard.lines) for heard in all_heard) >= LEAST_SHARE // UNASKED_COST // 3
        quiet.worker.received(LINE * 3)
        assert len(quiet.lines) == 3, "who says little is heard at once"
        for heard in [*all_heard, quiet]:
            heard.worker.retire()

    run_in_virtual_time(happen())


def test_what_a_worker_said_before_its_end_is_heard() -> None:
    async def happen() -> None:
        heard = await Heard().load()
        heard.worker.received(LINE * 400)
        assert len(heard.lines) < 400
        heard.worker.ended("exited with code 1")
        assert len(heard.lines) == 400

    run_in_virtual_time(happen())


def test_a_long_frame_in_small_pieces_is_copied_a_bounded_number_of_times() -> None:
    section = b'"' + b"x" * 3_900_000 + b'"'
    data = frame({"t": "step", "n": 1, "a": 1, "steps": [], "raw": [len(section)]}, section)
    reader, frames = FrameReader(), 0
    for at in range(0, len(data), 997):
        before = len(reader._data)
        reader.add(data[at : at + 997])
        frames += reader.next_frame() is not None
        assert before == 0, "nothing but the frame that is whole is made a bytes object"
    assert frames == 1


def test_a_request_with_endless_headers_is_refused_unread() -> None:
    headers = [["a", "b"]] * 100_000
    fetch = {"t": "fetch", "f": 1, "method": "GET", "url": "http://a/", "headers": headers}
    with pytest.raises(ProtocolError, match="a request of"):
        FrameReader().feed(frame({**fetch, "redirect": "follow", "body": False}))


def test_who_speaks_is_found_without_a_search() -> None:
    async def happen() -> None:
        reads = Reads()
        many = [InstanceName(f"i{n}") for n in range(1_000)]
        first = reads.begin(Read(many, 1_000, 1.0))
        one = reads.begin(Read([InstanceName("one")], 1, 2.0))
        assert [reads.speaker(first), reads.speaker(first + 999), reads.speaker(one)] == ["i0", "i999", "one"]
        assert reads.expire(1.5) == [first]
        assert [reads.speaker(first), reads.speaker(first + 999), reads.speaker(one)] == [None, None, "one"]
        assert not reads._names
        reads.fail("over")

    run_in_virtual_time(happen())


@pytest.mark.parametrize("text", [" " * 1_000_000, "(" * 1_000_000, "at " * 300_000, "\n at blob:" * 100_000])
def test_a_message_of_code_that_does_not_load_is_cut_and_read_in_linear_time(text: str) -> None:
    assert len(without_paths(text, Path("/nowhere"), {})) <= 16_000
