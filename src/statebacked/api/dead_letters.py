"""Dead letters: deliveries that were given up. List, redrive, discard."""

from collections.abc import Mapping

import msgspec

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import iso
from statebacked.model.ids import InstanceName, MachineName, parse_instance_name, parse_machine_name
from statebacked.model.rows import DeadLetter
from statebacked.model.tagged import shown
from statebacked.model.values import Address
from statebacked.ports.store import DeadLetters


class DeadLetterRoutes:
    """Handlers of /dead-letters."""

    def __init__(self, engine: Engine, letters: DeadLetters) -> None:
        self._engine = engine
        self._letters = letters

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {
            "listDeadLetters": self.list,
            "redriveDeadLetter": self.redrive,
            "discardDeadLetter": self.discard,
        }

    async def list(self, call: OrgCall) -> Reply:
        machine, instance = _filter(call)
        page = call.page(query=f"{machine or ''} {instance or ''}")
        letters = await self._letters.list_dead_letters(
            call.principal.org, machine=machine, instance=instance, after=page.after, limit=page.rows_to_read
        )
        items = [_item(letter) for letter in letters[: page.limit]]
        return json_reply({"deadLetters": items, **page.cursor(len(letters), lambda n: letters[n].id)})

    async def redrive(self, call: OrgCall) -> Reply:
        await self._engine.redrive(call.principal.org, call.segment("letter"))
        return Reply(204)

    async def discard(self, call: OrgCall) -> Reply:
        await self._engine.discard(call.principal.org, call.segment("letter"))
        return Reply(204)


def _filter(call: OrgCall) -> tuple[MachineName | None, InstanceName | None]:
    query = call.query()
    machine = parse_machine_name(query["machine"]) if query.get("machine") else None
    instance = parse_instance_name(query["instance"]) if query.get("instance") else None
    return machine, instance


def _item(letter: DeadLetter) -> dict[str, object]:
    item: dict[str, object] = {
        "id": letter.id,
        "kind": letter.kind,
        "machine": letter.sender.machine,
        "instance": letter.sender.name,
        "event": msgspec.Raw(shown(letter.event)),
        "dueAt": iso(letter.due),
        "attempts": letter.attempts,
        "reason": letter.reason,
        "deadAt": iso(letter.dead_at),
    }
    if letter.is_truncated:
        item["truncated"] = True
    if isinstance(letter.to, Address):
        item["to"] = {"machine": letter.to.machine, "instance": letter.to.name}
    return item
