"""What an upgrade would come to, for one instance, changing nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from statebacked.engine.codes import Codes
from statebacked.engine.loaded import saved_state
from statebacked.model.errors import Unavailable
from statebacked.model.ids import InstanceKey, InstanceName, MachineName, OrgId, VersionId
from statebacked.model.limits import DRY_RUN_MS
from statebacked.model.values import Json
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.machines import MigrationFailed, Migrator, Route
from statebacked.ports.store import Store, StoreFailed

_NOBODY = InstanceName("")
_AT_ONCE: Final = 8  # instances that are used have the same workers


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

    async def rehearse_first(self, route: Route, names: Sequence[InstanceName]) -> list[Rehearsed | None]:
        """As many of the instances, from the first on, as are judged in time: none is begun after DRY_RUN_MS
        but the first. Raises Unavailable when the first cannot be judged."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DRY_RUN_MS / 1000
        waiting = iter(enumerate(names))
        judged: dict[int, Rehearsed | None] = {}
        refusal: Unavailable | None = None

        async def judge() -> None:
            nonlocal refusal
            for n, name in waiting:
                if refusal is not None or (n and loop.time() >= until):
                    return
                try:
                    judged[n] = await self.rehearse(route, name)
                except Unavailable as unavailable:
                    refusal = unavailable

        await asyncio.gather(*(judge() for _ in range(_AT_ONCE)))
        first: list[Rehearsed | None] = []
        while len(first) in judged:
            first.append(judged[len(first)])
        if refusal is not None and not first:
            raise refusal
        return first

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
