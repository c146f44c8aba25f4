"""Messages between instances, dead letters and kept answers, read from the file and looked after."""

import sqlite3
from typing import Final

from statebacked.model.ids import (
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    ServiceRun,
)
from statebacked.model.rows import DeadLetter, DueMessage, KeptAnswer, Message
from statebacked.model.values import TO_PARENT, Address, Target
from statebacked.store.sqlite.catalogue import SqliteCatalogue
from statebacked.store.sqlite.readers import Row

_ID_DIGITS: Final = 15


class SqliteOutbox(SqliteCatalogue):
    """Implements ports.Outbox, ports.DeadLetters and ports.Answers."""

    async def due_messages(self, until: Instant, *, after: int, limit: int) -> list[DueMessage]:
        rows = await self._readers.all(self._sql["due_messages"], (until, after, limit))
        return [_due(row) for row in rows]

    async def next_messages(self, owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
        rows = await self._readers.all(self._sql["next_messages"], (owner, to.machine, to.name, limit))
        return [_due(row) for row in rows]

    async def last_ts(self, key: InstanceKey) -> Instant:
        row = await self._readers.one(self._sql["last_ts"], key)
        return Instant(0 if row is None else row[0])

    async def list_dead_letters(
        self,
        org: OrgId,
        *,
        machine: MachineName | None,
        instance: InstanceName | None,
        after: str,
        limit: int,
    ) -> list[DeadLetter]:
        table, row = _place(after)
        letters: list[DeadLetter] = []
        if table in ("", "message"):
            rows = await self._readers.all(
                self._sql["dead_messages"], (org, machine, instance, row if table else 0, limit)
            )
            letters += [_dead_message(one) for one in rows]
        if len(letters) < limit:
            start = row if table == "timer" else 0
            parameters = (org, machine, instance, start, limit - len(letters))
            letters += [
                _dead_timer(one) for one in await self._readers.all(self._sql["dead_timers"], parameters)
            ]
        return letters

    async def redrive(self, org: OrgId, letter: str, at: Instant) -> DeadLetter | None:
        found = await self._find_letter(org, letter)
        if found is None or found.is_truncated:
            return found
        table, row = _place(letter)
        changed = await self._write_count(f"redrive_{table}", (row, at))
        return found if changed else None

    async def discard(self, org: OrgId, letter: str) -> bool:
        if await self._find_letter(org, letter) is None:
            return False
        table, row = _place(letter)
        return await self._write_count(f"discard_{table}", (row,)) > 0

    async def sweep_dead_letters(self, before: Instant) -> None:
        await self._write_count("sweep_messages", (before,))
        await self._write_count("sweep_timers", (before,))

    async def find_answer(self, org: OrgId, scope: bytes, key: str) -> KeptAnswer | None:
        row = await self._readers.one(self._sql["find_answer"], (org, scope, key))
        if row is None:
            return None
        instance, event_id, body_sha256, created_at, status, answer = row
        return KeptAnswer(
            instance=instance,
            event_id=event_id,
            body_sha256=body_sha256,
            created_at=created_at,
            status=status,
            answer=answer,
        )

    async def keep_answer(self, org: OrgId, scope: bytes, key: str, status: int, answer: bytes) -> None:
        await self._write_count("keep_answer", (status, answer, org, scope, key))

    async def sweep_answers(self, before: Instant) -> None:
        await self._write_count("sweep_answers", (before,))

    async def _find_letter(self, org: OrgId, letter: str) -> DeadLetter | None:
        table, row = _place(letter)
        if table == "":
            return None
        rows = await self._readers.all(self._sql[f"dead_{table}s"], (org, None, None, row - 1, 1))
        found = [(_dead_message if table == "message" else _dead_timer)(one) for one in rows]
        return found[0] if found and found[0].id == letter else None

    async def _write_count(self, name: str, parameters: tuple[object, ...]) -> int:
        def write(cursor: sqlite3.Cursor) -> int:
            return cursor.execute(self._sql[name], parameters).rowcount

        return await self._writer.run(write)


def target_of(kind: str | None, machine: MachineName, name: InstanceName) -> Target | None:
    """The recipient of a timer's event; None: its own instance."""
    if kind is None:
        return None
    return Address(machine, name) if kind == "address" else TO_PARENT


def _address_of(kind: str, machine: MachineName, name: InstanceName) -> Address | None:
    """The recipient as the message names it: what tells an owner of its child names none."""
    return None if kind in ("self", "failed") else Address(machine, name)


def _place(letter: str) -> tuple[str, int]:
    """The table and row of a dead letter's id; no table when it is none."""
    table, _, row = letter.partition("-")
    if table not in ("message", "timer") or not row.isdigit() or len(row) != _ID_DIGITS:
        return "", 0
    return table, int(row)


def _due(row: Row) -> DueMessage:
    (number, owner, org, from_machine, from_name, key, kind, to_machine, to_name,
     service, run, event, version, depth, fire_at, attempts) = row  # fmt: skip
    sender = InstanceKey(org, from_machine, from_name)
    message = Message(
        key=key,
        kind=kind,
        to=_address_of(kind, to_machine, to_name),
        event=event,
        link=None if service is None else ServiceRun(service, run),
        version=version,
        depth=depth,
    )
    return DueMessage(
        row=number,
        owner=owner,
        sender=sender,
        to=InstanceKey(org, to_machine, to_name),
        message=message,
        fire_at=fire_at,
        attempts=attempts,
    )


def _dead_message(row: Row) -> DeadLetter:
    (number, instance, org, machine, name, key, kind, to_machine, to_name,
     event, fire_at, attempts, reason, dead_at, is_truncated) = row  # fmt: skip
    return DeadLetter(
        id=f"message-{number:0{_ID_DIGITS}}",
        kind=kind,
        instance=instance,
        sender=InstanceKey(org, machine, name),
        to=_address_of(kind, to_machine, to_name),
        event=event,
        due=fire_at,
        attempts=attempts,
        reason=reason or "",
        dead_at=dead_at,
        key=key,
        is_truncated=bool(is_truncated),
    )


def _dead_timer(row: Row) -> DeadLetter:
    (number, instance, org, machine, name, key, send_id, to_kind, to_machine, to_name,
     event, due, attempts, reason, dead_at, is_truncated) = row  # fmt: skip
    return DeadLetter(
        id=f"timer-{number:0{_ID_DIGITS}}",
        kind="timer",
        instance=instance,
        sender=InstanceKey(org, machine, name),
        to=target_of(to_kind, to_machine, to_name),
        event=event,
        due=due,
        attempts=attempts,
        reason=reason or "",
        dead_at=dead_at,
        key=key,
        send_id=send_id,
        is_truncated=bool(is_truncated),
    )
