"""What one worker is asked about states, each question under a number of its own: allowRead, and the parts of
an upgrade. It is answered once, or given up when its time is over."""

import asyncio
from collections.abc import Sequence
from typing import Final

from statebacked.model.ids import InstanceName
from statebacked.ports.machines import MigrationFailed, WorkerGone
from statebacked.runtime import worker_frames
from statebacked.runtime.protocol import ProtocolError
from statebacked.runtime.receipt import ParsePart

READS_MAX: Final = 4_096
_MESSAGE_CHARACTERS_MAX: Final = 16_000

Answer = (
    worker_frames.Lacks
    | worker_frames.Readable
    | worker_frames.Outlined
    | worker_frames.ArrivedFrame
    | worker_frames.Stuck
)


class Read(asyncio.Future[list[bool] | None]):
    """allowRead under way, about the instances of those names. The result has `count` answers, or is None
    when the worker lacks the state."""

    def __init__(self, names: Sequence[InstanceName], count: int, expires_at: float) -> None:
        super().__init__()
        self.names = names
        self.count = count
        self.expires_at = expires_at


class Part(asyncio.Future[object]):
    """A part of an upgrade under way. The result is what `parse` makes of the answer."""

    def __init__(self, name: InstanceName, parse: ParsePart, expires_at: float) -> None:
        super().__init__()
        self.names = [name]
        self.parse = parse
        self.expires_at = expires_at


class Reads:
    """Those that are under way, in the order in which they were asked. False when there are none."""

    def __init__(self) -> None:
        self._under_way: dict[int, Read | Part] = {}
        self._names: dict[int, InstanceName] = {}  # of questions about several, by number
        self._begun = 0

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def begin(self, read: Read | Part) -> int:
        """Its number. Raises WorkerGone when too many are under way."""
        if len(self._under_way) >= READS_MAX:
            raise WorkerGone("has too many reads under way")
        n = self._begun + 1
        self._begun += len(read.names)  # a log frame names each instance by a number of its own
        self._under_way[n] = read
        if len(read.names) > 1:
            self._names.update(enumerate(read.names, n))
        return n

    def is_judging(self, number: int) -> bool:
        """allowRead is under way under that number."""
        return isinstance(self._under_way.get(number), Read)

    def speaker(self, number: int) -> InstanceName | None:
        """The instance that a log frame of that number is about."""
        name = self._names.get(number)
        if name is not None:
            return name
        read = self._under_way.get(number)
        return read.names[0] if read is not None and read.names else None

    def _take(self, n: int) -> Read | Part | None:
        read = self._under_way.pop(n, None)
        if read is not None and len(read.names) > 1:
            for number in range(n, n + len(read.names)):
                del self._names[number]
        return read

    def expire(self, now: float) -> list[int]:
        """Give up on those whose time is over; their numbers."""
        expired: list[int] = []
        for n, read in self._under_way.items():
            if read.expires_at > now and not read.done():
                break
            expired.append(n)
        for n in expired:
            given_up = self._take(n)
            if given_up is not None and not given_up.done():
                given_up.set_exception(WorkerGone("does not answer"))
        return expired

    def fail(self, reason: str) -> None:
        """The worker is gone."""
        for read in self._under_way.values():
            if not read.done():
                read.set_exception(WorkerGone(reason))
        self._under_way.clear()
        self._names.clear()

    def answered(self, frame: Answer, sections: list[bytes], indexes: frozenset[str]) -> bool:
        """`indexes` are those of the version. Whether somebody waited for it. Raises ProtocolError."""
        read = self._take(frame.n)
        if read is None or read.done():
            return False
        try:
            if isinstance(read, Read):
                read.set_result(_judgement(read, frame))
            elif isinstance(frame, worker_frames.Stuck):
                read.set_exception(MigrationFailed(frame.message[:_MESSAGE_CHARACTERS_MAX]))
            else:
                read.set_result(_part(read, frame, sections, indexes))
        except ProtocolError:
            read.set_exception(WorkerGone("broke the protocol"))
            raise
        return True


def _judgement(read: Read, frame: Answer) -> list[bool] | None:
    match frame:
        case worker_frames.Lacks():
            return None
        case worker_frames.Readable(ok=ok) if len(ok) == read.count:
            return ok
        case worker_frames.Readable():
            raise ProtocolError("a read with too many or too few answers")
        case _:
            raise ProtocolError("a read that is answered as an upgrade")


def _part(part: Part, frame: Answer, sections: list[bytes], indexes: frozenset[str]) -> object:
    if isinstance(frame, worker_frames.Outlined | worker_frames.ArrivedFrame):
        return part.parse(frame, sections, indexes)
    raise ProtocolError("an upgrade that is answered as a read")
