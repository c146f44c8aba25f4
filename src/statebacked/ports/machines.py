"""Where the code of users runs: machines, and the migrations between their versions."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from statebacked.model.envelopes import Envelope
from statebacked.model.ids import (
    ActivationNumber,
    InstanceId,
    InstanceKey,
    InstanceName,
    MachineName,
    MigrationId,
    OrgId,
    Seq,
    ServiceRun,
    VersionId,
)
from statebacked.model.logs import OutputType
from statebacked.model.rows import PendingTimer
from statebacked.model.step import Arrival, WorkerSignal
from statebacked.model.values import Json


class Code(NamedTuple):
    """One version of one org's machine code: what a worker process is dedicated to."""

    org: OrgId
    machine: MachineName
    version: VersionId
    xstate: str  # exact version, or "inlined-4" / "inlined-5"
    migration: MigrationId | None = None  # then it is this migration to `version`, and no machine


MachineLog = Callable[[Code, InstanceKey | None, OutputType, str], None]
"""Takes a line for the owner of a machine, from an instance or (None) from none. Never waits or raises."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A durable state, from which a worker that lacks it resumes."""

    seq: Seq
    snapshot: Json
    context: Json


LoadSaved = Callable[[], Awaitable[Saved]]


class Attached(Protocol):
    """One activation in a worker. Answers come to `receive` on the event loop, in the worker's order.

    No method waits or raises for what happens in the worker: a worker that dies says WorkerLost, once,
    and the next compute runs in a fresh one.
    """

    def compute(self, number: int, seq: Seq, envelopes: Sequence[Envelope], load: LoadSaved) -> None:
        """Authorise and compute on the state of `seq` (0: not yet created). Answer: Stepped or Refused.
        `load` is called when the worker lacks that state; if it fails the answer is Refused `unavailable`."""

    def perform(self, seq: Seq) -> None:
        """seq is durable: run its effects. Answer: Performed."""

    def stop(self, services: Sequence[ServiceRun]) -> None:
        """Stop these runs; nothing of theirs is heard afterwards but what is already under way."""

    def close(self) -> None:
        """Forget the live state, held effects and services. A later compute starts from a saved state."""

    async def may_read(self, seq: Seq, auths: Sequence[Json]) -> Sequence[bool] | None:
        """allowRead on exactly the state of seq, for each authContext. None when the worker lacks that seq.
        Raises WorkerGone when the process died under it."""


class WorkerGone(Exception):
    """The worker died under a call that changes nothing; `reason` is fit for the machine's owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Validated(NamedTuple):
    """What a throw-away sandbox found a bundle to be. `xstate` is stored with the version; `warnings` are for
    whoever uploads it."""

    xstate: str
    warnings: tuple[str, ...] = ()


class Machines(Protocol):
    """Sandboxed workers, at least one process per (org, version)."""

    def attach(
        self,
        code: Code,
        key: InstanceKey,
        instance: InstanceId,
        activation: ActivationNumber,
        receive: Callable[[WorkerSignal], None],
    ) -> Attached:
        """Costs nothing until the first compute."""

    async def may_read(
        self, code: Code, key: InstanceKey, saved: Saved, auths: Sequence[Json]
    ) -> Sequence[bool]:
        """allowRead on a saved state of an instance that is not activated. Raises WorkerGone."""

    async def may_read_each(
        self, code: Code, states: Sequence[tuple[InstanceName, Saved]], auth: Json
    ) -> Sequence[bool]:
        """allowRead for one caller on saved states of several instances, asked all at once. Raises
        WorkerGone."""

    async def validate(self, bundle: bytes, xstate_hint: str | None) -> Validated:
        """Load a bundle in a throw-away process. Raises InvalidMachine with the whole reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From one version of a machine to another, by way of migrations."""

    source: Code
    migrations: tuple[Code, ...]
    target: Code


class MigrationFailed(Exception):
    """A migration, or a version that it leaves or arrives in, does not take this state; `reason` is fit for
    the machine's owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Migrator(Protocol):
    """Migrations in sandboxed workers, one process per (org, migration)."""

    async def migrate(
        self, route: Route, key: InstanceKey, saved: Saved, timers: Sequence[PendingTimer]
    ) -> Arrival:
        """What a settled state becomes. Nothing is performed, nothing is changed. Raises MigrationFailed, and
        Unavailable when no worker can be had now."""

    async def validate_migration(self, bundle: bytes) -> Validated:
        """Load a migration in a throw-away process. Raises InvalidMachine with the whole reason."""
