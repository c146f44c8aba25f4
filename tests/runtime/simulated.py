"""Worker processes in memory, on the test's event loop and clock: what a seed says happens, and when.

A process takes one frame after the other, each in its time, as the real one does: code that loops lets
nothing behind it be heard. What a question does stands in its own JSON: "ok", "slow", "loop", "die", "mute".
"""

import asyncio
import json
import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from statebacked.runtime.cgroups import NO_GROUP
from statebacked.runtime.process import Listener, Process, Sandbox

Header = dict[str, Any]  # Any: frames are looked into freely
_RESIDENT_BYTES = 50 * 1024 * 1024


class SimulatedProcess(Process):
    """`reasons` of its end are those of a real process."""

    def __init__(self, listener: Listener, rng: Random, pid: int) -> None:
        super().__init__(listener, NO_GROUP)
        self._pid = pid
        self._rng = rng
        self._pending: deque[tuple[Header, list[bytes]]] = deque()
        self._input = b""
        self._unheard: deque[bytes] = deque()
        self._is_stopped = False  # a loop, or dead: it takes no frame any more
        self._is_busy = False
        self._is_reading_paused = False
        self._is_killed_by_others = False
        self._seqs: dict[int, int] = {}

    @property
    def pid(self) -> int:
        return self._pid

    # --- the host's side

    def write(self, parts: Any) -> None:
        self._loop.call_later(self._delay(), self._arrive, b"".join(parts))

    def pause_reading(self) -> None:
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        self._is_reading_paused = False
        self._loop.call_soon(self._tell)

    def kill(self, reason: str) -> None:
        self._verdict = self._verdict or reason
        self._is_stopped = True
        self._loop.call_later(self._delay(), self._end)

    @property
    def was_killed_by_others(self) -> bool:
        return self._is_killed_by_others and self._verdict is None

    def resident_bytes(self) -> int:
        return 0 if self.is_over else _RESIDENT_BYTES

    def cpu_seconds(self) -> float:
        return 0.0

    def stderr_tail(self) -> str:
        return ""

    # --- what happens to it

    def die(self, *, by_others: bool) -> None:
        """It ends at once; what it has written before is heard."""
        if not self.is_over and not self._is_stopped:
            self._is_stopped = True
            self._is_killed_by_others = by_others
            self._loop.call_later(self._delay(), self._end)

    def _end(self) -> None:
        if not self.is_over:
            self._is_reading_paused = False
            self._tell()
            self.is_over = True
            self._listener.ended(self._verdict or ("was killed" if self._is_killed_by_others else "exited"))

    # --- frames

    def _delay(self) -> float:
        return 0.001 + 0.0001 * self._rng.randrange(10)

    def _arrive(self, data: bytes) -> None:
        self._input += data
        while len(self._input) >= 4:
            size = struct.unpack(">I", self._input[:4])[0]
            if len(self._input) < 4 + size:
                break
            self._pending.append(_parsed(self._input[4 : 4 + size]))
            self._input = self._input[4 + size :]
        self._go_on()

    def _go_on(self) -> None:
        if self._pending and not self._is_busy and not self._is_stopped:
            self._is_busy = True
            header, sections = self._pending.popleft()
            what = _what(header, sections)
            took_s = self._rng.uniform(0.2, 1.5) if what == "slow" else self._delay()
            self._loop.call_later(took_s, self._take, what, header, sections)

    def _take(self, what: str, header: Header, sections: list[bytes]) -> None:
        if self._is_stopped:
            return
        if what == "loop":
            self._is_stopped = True  # until it is killed
            return
        if what == "die":
            self.die(by_others=False)
            return
        if what != "mute":
            getattr(self, "_" + header["t"].replace("-", "_"), self._nothing)(header, sections)
        self._is_busy = False
        self._go_on()

    def _say(self, header: Header, sections: list[bytes] | None = None) -> None:
        if sections:
            header = {**header, "raw": [len(section) for section in sections]}
        head = json.dumps(header).encode()
        body = struct.pack(">I", len(head)) + head + b"".join(sections or [])
        self._unheard.append(struct.pack(">I", len(body)) + body)
        self._loop.call_later(self._delay(), self._tell)

    def _tell(self) -> None:
        while self._unheard and not self._is_reading_paused and not self.is_over:
            self._listener.received(self._unheard.popleft())

    # --- answers

    def _nothing(self, header: Header, sections: list[bytes]) -> None: ...

    def _boot(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "ready", "protocol": 1, "xstate": "5.99.0"})

    def _load(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "loaded", "major": 5, "inlined": False})

    def _ping(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "pong", "n": header["n"]})

    def _compute(self, header: Header, sections: list[bytes]) -> None:
        n, a, seq = header["n"], header["a"], header["seq"]
        if not header["base"] and seq and self._seqs.get(a) not in {seq, seq - 1}:
            self._say({"t": "lacks", "n": n, "a": a})
            return
        self._seqs[a] = seq + 1 if seq else 1
        step = {"changed": True, "done": False, "ctx": True, "pub": False, "ev": False}
        self._say({"t": "step", "n": n, "a": a, "steps": [step]}, [b'"on"', b"[]", b"{}", b"{}"])

    def _read(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "readable", "n": header["n"], "ok": [True] * header["auths"]})

    def _read_each(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "readable", "n": header["n"], "ok": [True] * len(header["names"])})

    def _leave(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "outlined", "n": header["n"]}, [sections[0]])

    def _migrate(self, header: Header, sections: list[bytes]) -> None:
        self._say({"t": "outlined", "n": header["n"]}, sections)

    def _arrive_frame(self, header: Header, sections: list[bytes]) -> None:
        step = {"changed": True, "ctx": True, "idx": []}
        arrived = {"t": "arrived", "n": header["n"], "step": step, "kept": [], "gone": []}
        self._say(arrived, [b'"on"', b"[]", *sections])


def _parsed(body: bytes) -> tuple[Header, list[bytes]]:
    size = struct.unpack(">I", body[:4])[0]
    header = json.loads(body[4 : 4 + size])
    sections, at = [], 4 + size
    for length in header.get("raw", []):
        sections.append(body[at : at + length])
        at += length
    if header["t"] == "arrive":
        header["t"] = "arrive-frame"
    return header, sections


def _what(header: Header, sections: list[bytes]) -> str:
    """What the question does in the worker that takes it."""
    match header["t"]:
        case "read" | "read-each":
            do = json.loads(sections[-1])["do"]
        case "compute":
            do = json.loads(sections[-1])["type"] if header["items"][0]["k"] == "event" else "ok"
        case "leave" | "migrate":
            do = json.loads(sections[0]).get(header["t"], "ok")
        case "arrive-frame":
            do = json.loads(sections[0]).get("arrive", "ok")
        case _:
            do = "ok"
    return str(do)


class Dice:
    """The world's chance, and the processes that it has started."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.processes: list[SimulatedProcess] = []

    def process(self, listener: Listener) -> SimulatedProcess:
        process = SimulatedProcess(listener, self.rng, 1_000_000 + len(self.processes))
        self.processes.append(process)
        return process


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSandbox(Sandbox):
    """Starts processes in memory, for XState 5."""

    dice: Dice

    def majors(self) -> list[int]:
        return [5]

    async def start(self, major: int, folder: Path, listener: Listener) -> Process:
        await asyncio.sleep(self.dice.rng.uniform(0.005, 0.05))
        return self.dice.process(listener)
