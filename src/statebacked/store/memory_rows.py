"""The rows of the store in memory: instances, timers and messages."""

from dataclasses import dataclass, field
from typing import Literal

from statebacked.model.ids import (
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import (
    Head,
    Message,
    Timer,
    Transition,
)
from statebacked.model.values import Json, Link, Parent


@dataclass(slots=True, kw_only=True)
class InstanceRow:
    """One life of a name. `epoch` is the last writer's."""

    id: InstanceId
    key: InstanceKey
    version: VersionId
    created_at: Instant
    status: Literal["running", "paused"] = "running"
    epoch: Epoch
    head: Head
    context: Json
    services: tuple[ServiceRun, ...]
    transitions: list[Transition] = field(default_factory=list)
    parent: Parent | None = None
    links: dict[ServiceRun, Link] = field(default_factory=dict)
    desired: VersionId | None = None


@dataclass(slots=True, kw_only=True)
class TimerRow:
    """A durable delay. With `dead_at` it is a dead letter, of whose event `head` is left if that is set.
    `row` rises in the order of setting."""

    row: int
    instance: InstanceId
    timer: Timer
    fire_at: Instant
    attempts: int = 0
    dead_at: Instant | None = None
    reason: str | None = None
    head: Json | None = None


@dataclass(slots=True, kw_only=True)
class MessageRow:
    """A message, filed under its owner. With `dead_at` it is a dead letter, of whose event `head` is left if
    that is set. `row` rises in the order of sending; `to` is the recipient, the sender itself for kinds
    `self` and `failed`."""

    row: int
    instance: InstanceId
    sender: InstanceKey
    to: InstanceKey
    message: Message
    fire_at: Instant
    attempts: int = 0
    dead_at: Instant | None = None
    reason: str | None = None
    head: Json | None = None
