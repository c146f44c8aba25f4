"""How much may be written: by an instance in a minute, by an org in a day. Over it, lines are dropped."""

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from statebacked.model.ids import InstanceName, Instant, MachineName, OrgId
from statebacked.model.limits import (
    LOG_INSTANCE_MINUTE_BYTES_MAX,
    LOG_LINE_BYTES_MIN,
    LOG_ORG_DAY_BYTES_MAX,
)
from statebacked.model.values import Now

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000

# Machine, and instance if it is one's. Lines of a machine as a whole have a minute of their own.
Writer = tuple[OrgId, MachineName, InstanceName | None]


class Verdict(Enum):
    """What becomes of a line. The first that is dropped for a reason gets the verdict that names it."""

    KEPT = auto()
    FIRST_OVER_MINUTE = auto()
    FIRST_OVER_DAY = auto()
    DROPPED = auto()


def day_of(at: Instant) -> int:
    """The UTC day, counted from 1970."""
    return at // _DAY_MS


class Budget:
    """`spent` is what the orgs have written on the day of `now` before."""

    def __init__(self, spent: Mapping[OrgId, int], now: Now) -> None:
        self._day = day_of(now.wall)
        self._minute = now.mono // _MINUTE_MS
        self._of_orgs: Counter[OrgId] = Counter(spent)
        self._of_writers: Counter[Writer] = Counter()
        self._full_orgs: set[OrgId] = set()
        self._full_writers: set[Writer] = set()

    def is_spent(self, writer: Writer, now: Now) -> bool:
        """Whether every line is dropped now, and that was told."""
        self._turn(now)
        return writer in self._full_writers or writer[0] in self._full_orgs

    def spend(self, writer: Writer, size: int, now: Now) -> Verdict:
        """Whether a line of `size` more bytes may be kept; if so, it counts, as LOG_LINE_BYTES_MIN at least:
        an empty line is as much work as another."""
        size = max(size, LOG_LINE_BYTES_MIN)
        if self.is_spent(writer, now):
            return Verdict.DROPPED
        org = writer[0]
        if self._of_orgs[org] + size > LOG_ORG_DAY_BYTES_MAX:
            self._full_orgs.add(org)
            return Verdict.FIRST_OVER_DAY
        if self._of_writers[writer] + size > LOG_INSTANCE_MINUTE_BYTES_MAX:
            self._full_writers.add(writer)
            return Verdict.FIRST_OVER_MINUTE
        self._of_orgs[org] += size
        self._of_writers[writer] += size
        return Verdict.KEPT

    def _turn(self, now: Now) -> None:
        minute = now.mono // _MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._of_writers.clear()
            self._full_writers.clear()
        day = day_of(now.wall)
        if day != self._day:
            self._day = day
            self._of_orgs.clear()
            self._full_orgs.clear()
