"""The nouns that every layer shares. Frozen, slotted; no behaviour beyond what a value itself means.

JSON that belongs to users (contexts, events, snapshots) travels as `Json`: UTF-8 bytes of exactly one
JSON value, made and read by the worker, stored and sent as they are, never parsed on the way.
"""

from typing import NamedTuple, NewType

from msgspec import Struct

from statebacked.model.ids import InstanceId, InstanceName, Instant, MachineName, Monotonic, ServiceRun

Json = NewType("Json", bytes)


class Now(NamedTuple):
    """One reading of both clocks: wall time for what users see, monotonic time for deadlines."""

    wall: Instant
    mono: Monotonic


class Address(NamedTuple):
    """Another instance of the same org."""

    machine: MachineName
    name: InstanceName


class ToParent(Struct, frozen=True, gc=False):
    """The instance that spawned this one; nobody, when a client made it."""


TO_PARENT = ToParent()
Target = Address | ToParent


class Parent(Struct, frozen=True, gc=False):
    """Who spawned a persistent child, and for which run of which of its services. `depth` is the child's own:
    1 for a child of an instance that a client made."""

    instance: InstanceId
    address: Address
    link: ServiceRun
    depth: int


class Link(NamedTuple):
    """A persistent child, as its parent has it: what comes from it under another run is not heard."""

    run: ServiceRun
    child: Address


Indexed = tuple[tuple[str, tuple[str, ...]], ...]  # each index of a version, with the values of an instance
