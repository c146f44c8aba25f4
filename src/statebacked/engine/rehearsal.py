"""What an upgrade would come to, for one instance, changing nothing."""

from dataclasses import dataclass

from statebacked.engine.codes import Codes
from statebacked.engine.loaded import saved_state
from statebacked.model.errors import Unavailable
from statebacked.model.ids import InstanceKey, InstanceName, MachineName, OrgId, VersionId
from statebacked.model.values import Json
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.machines import MigrationFailed, Migrator, Route
from statebacked.ports.store import Store, StoreFailed

_NOBODY = InstanceName("")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """`value` is the state now, `target` what it would become; None: it fails, and `reason` says why."""

    name: InstanceName
    value: Json
    target: Json | None = None
    reason: str = ""


class Rehearsal:
    """Migrates durable states and throws the result away."""

    def __init__(self, catalogue: Catalogue, store: Store, migrator: Migrator) -> None:
        self._codes = Codes(catalogue)
        self._store = store
        self._migrator = migrator

    async def route(self, org: OrgId, machine: MachineName, start: VersionId, goal: VersionId) -> Route:
        """The way that upgrades would take now. Raises NotFound, NoMigrationPath, Unavailable."""
        try:
            return await self._codes.route(InstanceKey(org, machine, _NOBODY), start, goal)
        except StoreFailed as failure:
            raise Unavailable("the store cannot be read; try again") from failure

    async def rehearse(self, route: Route, name: InstanceName) -> Rehearsed | None:
        """None: there is no such instance (any more), or it runs another version. Raises Unavailable."""
        key = InstanceKey(route.source.org, route.source.machine, name)
        try:
            record = await self._store.load(key)
        except StoreFailed as failure:
            raise Unavailable("the store cannot be read; try again") from failure
        if record is None or record.version != route.source.version:
            return None
        try:
            arrival = await self._migrator.migrate(route, key, saved_state(record), record.timers)
        except MigrationFailed as failure:
            return Rehearsed(name, record.view.value, reason=failure.reason)
        return Rehearsed(name, record.view.value, arrival.step.value)
