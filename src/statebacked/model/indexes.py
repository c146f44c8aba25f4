"""Indexes: which rows a query asks for, and what it gets.

An index row is a (value, instance name). Rows stand in the order of their values, by Unicode code points, and
within a value in the order of names.
"""

from typing import Literal, NamedTuple

from msgspec import Struct

from statebacked.model.ids import InstanceName, MachineName, OrgId, Seq, VersionId
from statebacked.model.values import Json

Op = Literal["eq", "ne", "gt", "gte", "lt", "lte"]
Order = Literal["asc", "desc"]


class IndexKey(NamedTuple):
    """One index of one machine."""

    org: OrgId
    machine: MachineName
    name: str


class Place(NamedTuple):
    """A row, or a gap between rows: `name` may be "" or BEHIND."""

    value: str
    name: str


BEHIND = "\x7f"  # above every instance name


class Range(NamedTuple):
    """The rows between two places, both left out. None: from the first row, to the last. No rows when
    `above` comes behind `below`."""

    above: Place | None
    below: Place | None


class IndexRow(NamedTuple):
    """An instance is in an index once for each of its values."""

    value: str
    name: InstanceName


class ReadablePage(NamedTuple):
    """Rows that their reader may see. `last`: the last row that was looked at; None when no more follow."""

    rows: list[IndexRow]
    last: IndexRow | None


class IndexedState(Struct, frozen=True, gc=False):
    """An index row with the newest durable state of its instance, both of one moment."""

    row: IndexRow
    version: VersionId
    seq: Seq
    snapshot: Json
    context: Json
