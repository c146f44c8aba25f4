"""Machines: create, list, get."""

from collections.abc import Mapping

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.api.wire import CreateMachine, iso, parse_body, version_info
from statebacked.model.errors import Conflict, InvalidBody, NotFound
from statebacked.model.ids import MachineName, OrgId, parse_index_name, parse_machine_name
from statebacked.model.limits import JSON_BODY_BYTES_MAX, MACHINE_INDEXES_MAX
from statebacked.model.machine import Machine
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock


class MachineRoutes:
    """Handlers of /machines."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {"createMachine": self.create, "listMachines": self.list, "getMachine": self.get}

    async def create(self, call: OrgCall) -> Reply:
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), CreateMachine)
        indexes = tuple(dict.fromkeys(parse_index_name(index) for index in body.indexes))
        if len(indexes) > MACHINE_INDEXES_MAX:
            raise InvalidBody(f"a machine has at most {MACHINE_INDEXES_MAX} indexes")
        machine = Machine(
            org=call.principal.org,
            name=parse_machine_name(body.slug),
            created_at=self._clock.now().wall,
            indexes=indexes,
            current=None,
        )
        if not await self._catalogue.create_machine(machine):
            raise Conflict(f"a machine {machine.name} exists: add a version to it, or choose another name")
        return Reply(201)

    async def list(self, call: OrgCall) -> Reply:
        page = call.page()
        machines = await self._catalogue.list_machines(
            call.principal.org, after=page.after, limit=page.rows_to_read
        )
        items = [_summary(machine) for machine in machines[: page.limit]]
        return json_reply({"machines": items, **page.cursor(len(machines), lambda n: machines[n].name)})

    async def get(self, call: OrgCall) -> Reply:
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        summary = _summary(machine)
        current = {"currentVersion": summary["currentVersion"]} if machine.current else {}
        # Published scripts read currentVersion at the top.
        return json_reply({"machine": {**summary, "indexes": machine.indexes}, **current})


async def find_machine(catalogue: Catalogue, org: OrgId, name: MachineName) -> Machine:
    """The machine of that name in the org. Raises NotFound."""
    machine = await catalogue.find_machine(org, name)
    if machine is None:
        raise NotFound(f"there is no machine {name} in this org")
    return machine


def _summary(machine: Machine) -> dict[str, object]:
    summary: dict[str, object] = {"slug": machine.name, "createdAt": iso(machine.created_at)}
    if machine.current is not None:
        summary["currentVersion"] = version_info(machine.current)
    return summary
