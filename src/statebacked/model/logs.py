"""Lines for the owner of a machine: what its code writes to the console, what the server tells about it.

An entry holds lines that one instance wrote to one stream in one millisecond. Entries are ordered by their
position; `at` never falls with it, and one millisecond holds at most LOG_BATCH_ENTRIES_MAX of them.
"""

from typing import Final, Literal, NamedTuple

from msgspec import Struct

from statebacked.model.ids import InstanceKey, InstanceName, Instant, MachineName, OrgId, VersionId

OutputType = Literal["stdout", "stderr"]

END_OF_TIME: Final = Instant(253_402_300_799_999)  # the last millisecond of year 9999
ENTRY_OVERHEAD_BYTES: Final = 100
_LAST_NUMBER: Final = 2**62


class LogEntry(Struct, frozen=True, kw_only=True, gc=False):
    """`instance` None: it belongs to the machine as a whole (module load, the death of a worker). `text` is
    one or more lines, without the last line end."""

    at: Instant
    org: OrgId
    machine: MachineName
    instance: InstanceName | None
    version: VersionId
    output: OutputType
    text: str

    @property
    def weight(self) -> int:
        """The bytes that count against limits: those of the text, and those of keeping it."""
        return len(self.text.encode()) + ENTRY_OVERHEAD_BYTES


class LogPosition(NamedTuple):
    """The place of an entry among all: its `at`, then the number that the store gave it."""

    at: Instant
    number: int


def end_of(at: Instant) -> LogPosition:
    """The position behind every entry of that millisecond."""
    return LogPosition(at, _LAST_NUMBER)


class LogFilter(Struct, frozen=True, kw_only=True, gc=False):
    """Which entries of an org are wanted; None: any."""

    org: OrgId
    machine: MachineName | None = None
    instance: InstanceName | None = None
    version: VersionId | None = None

    def admits(self, entry: LogEntry) -> bool:
        """Whether the entry is wanted."""
        return (
            entry.org == self.org
            and self.machine in (None, entry.machine)
            and self.instance in (None, entry.instance)
            and self.version in (None, entry.version)
        )


class StoredEntry(NamedTuple):
    """An entry in its place."""

    position: LogPosition
    entry: LogEntry


class LogPage(NamedTuple):
    """Entries in order. `seen_to`: how far the store has looked; with fewer entries than were asked for, no
    other wanted entry stands before the end of that millisecond."""

    entries: tuple[StoredEntry, ...]
    seen_to: Instant


class LogErasure(NamedTuple):
    """The instance of that name was deleted then: what its log holds up to that moment is to be erased."""

    key: InstanceKey
    at: Instant
