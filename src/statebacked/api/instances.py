"""Instances, as far as no event goes through them often: create, list, admin state, history."""

from collections.abc import Mapping

import msgspec

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.machines import find_machine
from statebacked.api.repeats import HEADER, Repeats
from statebacked.api.replies import Reply, json_reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import (
    CreateInstance,
    iso,
    parse_body,
    parse_context,
    state_body,
    transition_item,
    version_info,
)
from statebacked.model.envelopes import Repeatable
from statebacked.model.errors import InvalidCursor, NotFound
from statebacked.model.ids import InstanceKey, Seq, VersionId, parse_instance_name
from statebacked.model.limits import EVENT_BODY_BYTES_MAX
from statebacked.model.machine import InstanceSummary
from statebacked.model.tagged import shown
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.store import Store


class InstanceRoutes:
    """Handlers of /machines/{machine} (POST) and /machines/{machine}/i."""

    def __init__(self, engine: Engine, store: Store, catalogue: Catalogue, repeats: Repeats) -> None:
        self._engine = engine
        self._repeats = repeats
        self._store = store
        self._catalogue = catalogue

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {
            "createInstance": self.create,
            "listInstances": self.list,
            "getAdminState": self.admin_state,
            "listTransitions": self.list_transitions,
        }

    async def create(self, call: OrgCall) -> Reply:
        raw = await call.body(EVENT_BODY_BYTES_MAX)
        body = parse_body(raw, CreateInstance)
        principal = call.principal
        key = InstanceKey(principal.org, call.machine(), parse_instance_name(body.slug))
        version = VersionId(body.machine_version_id) if body.machine_version_id else None
        context = parse_context(body.context)

        async def ask(repeatable: Repeatable | None) -> Reply:
            created = self._engine.create_instance(key, context, version, principal.auth, repeatable)
            return Reply(200, state_body(await created))

        header = call.headers.get(HEADER)
        if header is None:
            return await ask(None)
        return await self._repeats.once(header, principal, ("POST instance", key), raw, ask)

    async def list(self, call: OrgCall) -> Reply:
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        page = call.page(query=machine.name)
        instances = await self._store.list_instances(
            machine.org, machine.name, after=page.after, limit=page.rows_to_read
        )
        items = [_summary(instance) for instance in instances[: page.limit]]
        return json_reply({"instances": items, **page.cursor(len(instances), lambda n: instances[n].name)})

    async def admin_state(self, call: OrgCall) -> Reply:
        record = await self._engine.admin_read(call.instance())
        version = await self._catalogue.find_version(record.key.org, record.key.machine, record.version)
        assert version is not None, record.version
        desired = None
        if record.desired is not None:
            desired = await self._catalogue.find_version(record.key.org, record.key.machine, record.desired)
        return json_reply(
            {
                "state": msgspec.Raw(record.view.value),
                "context": msgspec.Raw(shown(record.context)),
                "status": record.status,
                **({"throttled": True} if self._engine.is_throttled(record.key) else {}),
                "tags": msgspec.Raw(record.view.tags),
                "done": record.view.done,
                "machineVersion": version_info(version),
                **({} if desired is None else {"desiredMachineVersion": version_info(desired)}),
                "createdAt": iso(record.created_at),
                "ts": record.view.ts,
            }
        )

    async def list_transitions(self, call: OrgCall) -> Reply:
        key = call.instance()
        record = await self._store.load(key)
        if record is None:
            raise NotFound(f"there is no instance {key.name} of machine {key.machine} in this org")
        # A new life of the name has another history.
        page = call.page(query=record.id)
        after = _parse_seq(page.after)
        transitions = await self._store.list_transitions(key, after=after, limit=page.rows_to_read)
        items = [transition_item(transition) for transition in transitions[: page.limit]]
        cursor = page.cursor(len(transitions), lambda n: str(transitions[n].seq))
        return json_reply({"transitions": items, **cursor})


def _summary(instance: InstanceSummary) -> dict[str, object]:
    return {
        "slug": instance.name,
        "createdAt": iso(instance.created_at),
        "status": instance.status,
        "machineVersion": {
            "id": instance.version,
            "createdAt": iso(instance.version_created_at),
            "clientInfo": instance.client_info or "",
        },
    }


def _parse_seq(position: str) -> Seq:
    try:
        return Seq(int(position or "0"))
    except ValueError as exc:
        raise InvalidCursor("the cursor is not of this list") from exc
