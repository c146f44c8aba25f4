"""What one socket still has to be sent, bounded: a slow reader misses states, never the newest one.

Frames queue in order while they are few. Past SOCKET_OUT_BYTES_MAX a new state of an instance takes the
place of all older ones of it that still wait. Sans-IO: the shell asks for the next frame when it can send.
"""

from collections import OrderedDict

from statebacked.model.ids import InstanceKey
from statebacked.model.limits import SOCKET_OUT_BYTES_MAX


class Outbox:
    """Frames in the order in which they are to be sent."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, tuple[InstanceKey | None, str]] = OrderedDict()
        self._updates: dict[InstanceKey, list[int]] = {}  # where the waiting states of an instance stand
        self._next = 0
        self._size = 0  # in characters, which are mostly bytes

    def put(self, frame: str) -> None:
        """Send this, whatever else waits."""
        self._append(None, frame)

    def put_update(self, key: InstanceKey, frame: str) -> None:
        """Send the newest state of an instance; older ones of it may be left out."""
        if self._size + len(frame) > SOCKET_OUT_BYTES_MAX:
            self.drop_updates(key)
        self._updates.setdefault(key, []).append(self._next)
        self._append(key, frame)

    def drop_updates(self, key: InstanceKey) -> None:
        """Leave out all that still waits of an instance."""
        for number in self._updates.pop(key, ()):
            self._size -= len(self._frames.pop(number)[1])

    def take(self) -> str | None:
        """The next frame, or None when nothing waits."""
        if not self._frames:
            return None
        number, (key, frame) = self._frames.popitem(last=False)
        self._size -= len(frame)
        if key is not None:
            numbers = self._updates[key]
            numbers.remove(number)
            if not numbers:
                del self._updates[key]
        return frame

    def _append(self, key: InstanceKey | None, frame: str) -> None:
        self._frames[self._next] = (key, frame)
        self._next += 1
        self._size += len(frame)
