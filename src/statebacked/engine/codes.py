"""Which code a version is, remembered: versions never change."""

from collections import OrderedDict

from statebacked.core.upgrade import find_path
from statebacked.model.errors import NoCurrentVersion, NoMigrationPath, NotFound
from statebacked.model.ids import InstanceKey, MachineName, OrgId, VersionId
from statebacked.model.machine import Version
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.machines import Code, Route

CODES_MAX = 10_000


class Codes:
    """Looks versions up in the catalogue, each once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._codes: OrderedDict[VersionId, Code] = OrderedDict()

    async def of(self, key: InstanceKey, version: VersionId) -> Code:
        """The code that an existing instance runs. Raises NotFound."""
        return await self._find(key.org, key.machine, version)

    async def for_creation(self, key: InstanceKey, version: VersionId | None) -> Code:
        """The named version, or the machine's current one. Raises NotFound or NoCurrentVersion."""
        if version is not None:
            return await self._find(key.org, key.machine, version)
        machine = await self._catalogue.find_machine(key.org, key.machine)
        if machine is None:
            raise NotFound("there is no machine of that name")
        if machine.current is None:
            raise NoCurrentVersion("the machine has no current version: create one and make it current")
        return self._remember(machine.current)

    async def route(self, key: InstanceKey, start: VersionId, goal: VersionId) -> Route:
        """By way of a shortest path of migrations. Raises NotFound and NoMigrationPath."""
        source, target = await self.of(key, start), await self.of(key, goal)
        path = find_path(await self._catalogue.list_migrations(key.org, key.machine), start, goal)
        if path is None:
            raise NoMigrationPath(f"no migrations lead from {start} to {goal}: create them first")
        codes = [Code(one.org, one.machine, one.to_version, one.xstate, one.id) for one in path]
        return Route(source=source, migrations=tuple(codes), target=target)

    async def _find(self, org: OrgId, machine: MachineName, version: VersionId) -> Code:
        code = self._codes.get(version)
        if code is not None and (code.org, code.machine) == (org, machine):
            return code
        found = await self._catalogue.find_version(org, machine, version)
        if found is None:
            raise NotFound("there is no such machine or version")
        return self._remember(found)

    def _remember(self, version: Version) -> Code:
        code = Code(version.org, version.machine, version.id, version.xstate)
        self._codes[version.id] = code
        if len(self._codes) > CODES_MAX:
            self._codes.popitem(last=False)
        return code
