"""The executable specification of the ports of instances: what each operation means, in plain dictionaries.

Synchronous, usable without an event loop; memory.py gives it the shape of the ports. Whatever another store
answers to a sequence of operations, it must answer what this one does; tests/store compares them.

It keeps rows, not records: the public part of a view is read from the context, the pending timers of a
record are the rows of its instance that are not dead letters, in the order of setting.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from statebacked.model.envelopes import Cause
from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    OrgId,
    RowKey,
    Seq,
)
from statebacked.model.logs import LogErasure
from statebacked.model.rows import (
    Commit,
    DueMessage,
    DueTimer,
    InstanceRecord,
    KeptAnswer,
    Message,
    Outcome,
    PendingTimer,
    Rejection,
    StateView,
    Timer,
    TimerPlace,
    Transition,
)
from statebacked.ports.store import TIMERS_BEGIN, StoreFailed
from statebacked.store.letters import LETTER_LIMITS, LetterLimits
from statebacked.store.memory_indexes import MemoryIndexes
from statebacked.store.memory_letters import bury
from statebacked.store.memory_rows import InstanceRow, MessageRow, TimerRow
from statebacked.store.public_context import public_context

Wanted = Callable[[DueTimer], bool]
Rows = TypeVar("Rows", TimerRow, MessageRow)


class MemoryInstances:
    """ports.Store without the waiting. Rows stand in dictionaries in the order in which they were written."""

    def __init__(self, letter_limits: LetterLimits = LETTER_LIMITS) -> None:
        self.letter_limits = letter_limits
        self.epoch = Epoch(0)
        self.instances: dict[InstanceId, InstanceRow] = {}
        self.names: dict[InstanceKey, InstanceRow] = {}
        self.timers: dict[tuple[InstanceId, RowKey], TimerRow] = {}
        self.messages: dict[tuple[InstanceId, RowKey], MessageRow] = {}
        self.indexes = MemoryIndexes()
        self.graves: dict[InstanceKey, Instant] = {}
        self.answers: dict[tuple[OrgId, bytes, str], KeptAnswer] = {}
        self._rows = 0
        self.log_erasures: list[LogErasure] = []

    # --- writing -------------------------------------------------------------------------------------

    def acquire(self) -> Epoch:
        self.epoch = Epoch(self.epoch + 1)
        return self.epoch

    def apply(self, commit: Commit) -> Outcome:
        """Write all of a commit or nothing of it. Raises StoreFailed, having written nothing, when a row
        that it sets exists already: no correct writer does that."""
        outcome = self._judge(commit)
        if outcome is Outcome.COMMITTED:
            self._assert_sound(commit)
            self._write_instance(commit)
            self._write_rows(commit)
        return outcome

    def _judge(self, commit: Commit) -> Outcome:
        """The races, in the order in which they are decided."""
        row = self.instances.get(commit.instance)
        if commit.epoch != self.epoch:
            return Outcome.FENCED
        if commit.birth is not None:
            if commit.birth.key in self.names:
                return Outcome.NAME_TAKEN
            if row is not None:
                return Outcome.FENCED
        elif row is None:
            is_rejection = commit.base == 0 and commit.head is None and commit.rejected is not None
            if not is_rejection:
                return Outcome.FENCED
        elif row.head.view.seq != commit.base:
            return Outcome.FENCED
        causes = commit.consumed
        if commit.rejected is not None:
            causes = (*causes, commit.rejected.cause)
        if not all(self._stands(commit.instance, cause) for cause in causes):
            return Outcome.CAUSE_GONE
        return Outcome.COMMITTED

    def _stands(self, instance: InstanceId, cause: Cause) -> bool:
        row = self._table(cause).get((cause.owner or instance, cause.key))
        return row is not None and row.dead_at is None

    def _table(self, cause: Cause) -> dict[tuple[InstanceId, RowKey], TimerRow | MessageRow]:
        rows: dict[tuple[InstanceId, RowKey], TimerRow | MessageRow]
        rows = self.timers if cause.table == "timer" else self.messages  # type: ignore[assignment]
        return rows

    def _assert_sound(self, commit: Commit) -> None:
        seqs = [transition.seq for transition in commit.transitions]
        assert seqs == list(range(commit.base + 1, commit.base + 1 + len(seqs))), "history is no chain"
        assert (commit.head is None) == (not seqs), "a head without its transition, or the reverse"
        assert commit.head is None or commit.head.view.seq == seqs[-1], "the head is not the last transition"
        assert commit.birth is None or (commit.head is not None and commit.head.context is not None)
        assert commit.base > 0 or commit.head is None or commit.birth is not None, (
            "a head without an instance"
        )
        self._refuse_taken_keys(commit)

    def _refuse_taken_keys(self, commit: Commit) -> None:
        consumed = {(cause.table, cause.key) for cause in commit.consumed if cause.owner is None}
        gone = consumed | {("timer", key) for key in commit.timers_removed}
        taken = {("timer", key) for instance, key in self.timers if instance == commit.instance}
        taken |= {("message", key) for instance, key in self.messages if instance == commit.instance}
        new = [("timer", timer.key) for timer in commit.timers_set]
        new += [("message", message.key) for message in commit.messages if message.owner is None]
        if len({*new}) < len(new) or (taken - gone) & {*new}:
            raise StoreFailed("a key of a timer or message is taken")

    def _write_instance(self, commit: Commit) -> None:
        head, birth = commit.head, commit.birth
        if birth is not None:
            assert head is not None
            assert head.context is not None
            row = InstanceRow(
                id=commit.instance,
                key=birth.key,
                version=birth.version,
                created_at=birth.created_at,
                epoch=commit.epoch,
                head=head,
                context=head.context,
                services=commit.services,
                parent=birth.parent,
            )
            self.instances[row.id] = self.names[row.key] = row
        elif commit.base == 0:
            return  # only a message is rejected: there is no instance
        else:
            row = self.instances[commit.instance]
            row.epoch = commit.epoch
            row.services = commit.services
            if head is not None:
                row.head = head
                row.context = row.context if head.context is None else head.context
        row.transitions.extend(commit.transitions)
        self._write_surroundings(row, commit)

    def _write_surroundings(self, row: InstanceRow, commit: Commit) -> None:
        """What stands beside the state: family, status, wish, keys of repeatable requests."""
        for run in commit.unlinked:
            row.links.pop(run, None)
        row.links.update((link.run, link) for link in commit.linked)
        row.parent = commit.parent or row.parent
        row.status = commit.status or row.status
        row.version = commit.version or row.version
        if commit.wish is not None:
            row.desired = commit.wish.version
        for repeatable, event_id in commit.repeatables:
            kept = KeptAnswer(
                instance=row.id,
                event_id=event_id,
                body_sha256=repeatable.body_sha256,
                created_at=repeatable.at,
                status=None,
                answer=None,
            )
            self.answers.setdefault((row.key.org, repeatable.scope, repeatable.key), kept)

    def _write_rows(self, commit: Commit) -> None:
        instance = commit.instance
        for cause in commit.consumed:
            self._table(cause).pop((cause.owner or instance, cause.key), None)
        for key in commit.timers_removed:
            self.timers.pop((instance, key), None)
        for timer in commit.timers_set:
            row = TimerRow(row=self.next_row(), instance=instance, timer=timer, fire_at=timer.due)
            self.timers[instance, timer.key] = row
        for message in commit.messages:
            self._post(message.owner or instance, message)
        if commit.indexes is not None:
            self.indexes.write(instance, self.instances[instance].key, commit.indexes)
        if commit.rejected is not None:
            cause = commit.rejected.cause
            self._reject(cause, (cause.owner or instance, cause.key), commit.rejected)
        if commit.deleted_at is not None:
            self._delete(self.instances[instance], commit.deleted_at)

    def _post(self, owner: InstanceId, message: Message) -> None:
        """Nothing when the owner is gone: there is nobody to hear that its child is gone too."""
        sender = self.instances.get(owner)
        if sender is None:
            return
        to = sender.key if message.to is None else InstanceKey(sender.key.org, *message.to)
        self.messages[owner, message.key] = MessageRow(
            row=self.next_row(),
            instance=owner,
            sender=sender.key,
            to=to,
            message=message if message.owner is None else replace(message, owner=None),
            fire_at=Instant(0),
        )

    def next_row(self) -> int:
        self._rows += 1
        return self._rows

    def _delete(self, gone: InstanceRow, at: Instant) -> None:
        """Everything that is its own, and what was sent to it. What it has sent to others stays."""
        del self.instances[gone.id], self.names[gone.key]
        self.indexes.rows.pop(gone.id, None)
        ts = self.graves[gone.key] = gone.head.view.ts
        erasure = LogErasure(gone.key, max(ts, at))
        if erasure not in self.log_erasures:
            self.log_erasures.append(erasure)
        self.timers = {place: row for place, row in self.timers.items() if row.instance != gone.id}
        self.messages = {place: row for place, row in self.messages.items() if row.to != gone.key}
        self.answers = {place: kept for place, kept in self.answers.items() if kept.instance != gone.id}

    def _reject(self, cause: Cause, place: tuple[InstanceId, RowKey], rejected: Rejection) -> None:
        row = self._table(cause)[place]
        row.attempts, row.reason = rejected.attempts, rejected.reason
        if rejected.retry_at is None:
            bury(self, cause.table, place, rejected.at)
        else:
            row.fire_at = rejected.retry_at

    # --- reading -------------------------------------------------------------------------------------

    def load(self, key: InstanceKey) -> InstanceRecord | None:
        row = self.names.get(key)
        if row is None:
            return None
        view = row.head.view
        return InstanceRecord(
            id=row.id,
            key=key,
            version=row.version,
            status=row.status,
            created_at=row.created_at,
            view=StateView(
                seq=view.seq,
                ts=view.ts,
                value=view.value,
                tags=view.tags,
                done=view.done,
                public=public_context(row.context),
            ),
            snapshot=row.head.snapshot,
            context=row.context,
            services=row.services,
            timers=tuple(_pending(one.timer) for one in _living(self.timers, row.id)),
            messages=tuple(
                one.message for one in _living(self.messages, row.id) if one.message.kind == "self"
            ),
            links=tuple(row.links.values()),
            parent=row.parent,
            desired=row.desired,
            undelivered=sum(
                one.message.kind not in ("self", "failed") for one in _living(self.messages, row.id)
            ),
        )

    def find_transition(self, instance: InstanceId, event_id: EnvelopeId) -> Seq | None:
        row = self.instances.get(instance)
        seqs = [one.seq for one in row.transitions if one.event_id == event_id] if row is not None else []
        return seqs[-1] if seqs else None

    def due_timers(
        self, until: Instant, limit: int, after: TimerPlace = TIMERS_BEGIN, is_wanted: Wanted = lambda _: True
    ) -> list[DueTimer]:
        due = [
            DueTimer(
                instance=row.instance,
                key=self.instances[row.instance].key,
                timer=row.timer,
                fire_at=row.fire_at,
                attempts=row.attempts,
                row=row.row,
            )
            for row in self.timers.values()
            if row.dead_at is None and row.fire_at <= until and self._is_running(row.instance)
        ]
        due.sort(key=lambda one: one.fire_at)  # stable: ties stay in the order of setting
        return [one for one in due if (one.fire_at, one.row) > after and is_wanted(one)][:limit]

    def undelivered(self, limit: int) -> list[InstanceKey]:
        holders = {
            self.instances[row.instance].key: None
            for row in self.messages.values()
            if row.message.kind == "self" and row.dead_at is None and self._is_running(row.instance)
        }
        return list(holders)[:limit]

    def due_messages(self, until: Instant, *, after: int, limit: int) -> list[DueMessage]:
        heads: dict[tuple[InstanceId, InstanceKey], MessageRow] = {}
        for row in self.messages.values():
            if row.message.kind != "self" and row.dead_at is None:
                heads.setdefault((row.instance, row.to), row)
        due = [
            _due(row)
            for row in heads.values()
            if row.fire_at <= until and row.row > after and self._takes_messages(row.to)
        ]
        due.sort(key=lambda one: one.row)
        return due[:limit]

    def next_messages(self, owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
        rows = _living(self.messages, owner)
        return [_due(row) for row in rows if row.message.kind != "self" and row.to == to][:limit]

    def _takes_messages(self, key: InstanceKey) -> bool:
        row = self.names.get(key)
        return row is None or row.status == "running"

    def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        row = self.names.get(key)
        return [] if row is None else [one for one in row.transitions if one.seq > after][:limit]

    def _is_running(self, instance: InstanceId) -> bool:
        return self.instances[instance].status == "running"


def _living(rows: dict[tuple[InstanceId, RowKey], Rows], instance: InstanceId) -> Iterator[Rows]:
    return (row for row in rows.values() if row.instance == instance and row.dead_at is None)


def _due(row: MessageRow) -> DueMessage:
    return DueMessage(
        row=row.row,
        owner=row.instance,
        sender=row.sender,
        to=row.to,
        message=row.message,
        fire_at=row.fire_at,
        attempts=row.attempts,
    )


def _pending(timer: Timer) -> PendingTimer:
    return PendingTimer(timer.key, timer.send_id, timer.due)
