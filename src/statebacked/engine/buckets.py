"""Token buckets: so many in a period, with a burst."""

from statebacked.model.ids import Monotonic


class Bucket:
    """Holds `burst` at first and gains `count` in every `period_ms`."""

    __slots__ = ("_at", "_burst", "_gain", "_left")

    def __init__(self, count: int, period_ms: int, burst: int) -> None:
        self._gain = count / period_ms
        self._burst = burst
        self._left = float(burst)
        self._at: Monotonic | None = None

    def take(self, now: Monotonic) -> bool:
        """Whether there was one to take."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._gain)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
