"""How much is heard of what workers say and nobody asked for: log lines, events of services, requests.

Theory of operation. Such a frame costs its bytes, and UNASKED_COST more for itself and for each log line,
since small ones cost the server as much time as long ones. In a turn of the event loop one worker is heard
for TURN_COST_MAX, so that others have their turn. Between two looks of the watchdog it is heard for
WORKER_UNASKED_BYTES_MAX, and all workers together for UNASKED_BYTES_MAX: beyond it, a worker that has said
more than its least share is held until the next look. Nobody reads its pipe meanwhile, so it waits when it
writes.
"""

from typing import Final

from statebacked.model import limits
from statebacked.runtime import worker_frames
from statebacked.runtime.fetch_frames import Fetch, FetchUpload

UNASKED_COST: Final = 1_000
FETCH_COST: Final = 10_000  # a task, a look-up of a name, a connection
TURN_COST_MAX: Final = 50_000
LEAST_SHARE: Final = 50_000


def cost_of(frame: worker_frames.FromWorker, frame_bytes: int, sections: list[bytes]) -> int:
    """What it costs to hear a frame, without its log lines."""
    match frame:
        case FetchUpload():  # what it may upload is bounded by the credit that it was given
            return UNASKED_COST + frame_bytes - sum([len(section) for section in sections])
        case Fetch():
            return FETCH_COST + frame_bytes
        case _:
            return UNASKED_COST + frame_bytes


class Unasked:
    """What all workers have said since the last look."""

    def __init__(self) -> None:
        self._cost = 0

    def looked(self) -> None:
        """The watchdog has looked: everybody is heard again."""
        self._cost = 0

    def spend(self, cost: int, own: int) -> bool:
        """Whether the worker is heard further. `own` is what it has cost since the last look, `cost`
        included."""
        self._cost += cost
        if own > limits.WORKER_UNASKED_BYTES_MAX:
            return False
        return self._cost <= limits.UNASKED_BYTES_MAX or own <= LEAST_SHARE
