"""Writes commits inside a transaction that the writer holds: the statements of one event.

Theory of operation. The transaction excludes every other writer, so what a statement has read stays true
until COMMIT. One read a group tells the lease's epoch. For each member, one conditional statement then
decides (the UPDATE that compares seq, or the INSERT of a birth) before anything else of that member is
written; rows that the member consumes are looked up just before it. A member that loses its race has
therefore written nothing, and its neighbours in the group do not notice.

The plain case is two statements: UPDATE of the head, INSERT of the transition. The INSERTs of a whole group
run in one `executemany` at its end, which saves the Python between them.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from statebacked.model.envelopes import Cause
from statebacked.model.ids import RowKey
from statebacked.model.rows import Commit, Head, Outcome, Rejection
from statebacked.store.letters import LETTER_LIMITS, LetterLimits
from statebacked.store.sqlite.indexes import write_indexes
from statebacked.store.sqlite.letters import bury
from statebacked.store.sqlite.queries import load_queries
from statebacked.store.sqlite.surroundings import SurroundingsWriter, target_columns

# A row is rewritten as a whole, pages that overflow included: a longer context, which most events leave as it
# is, stands apart.
CONTEXT_INLINE_BYTES_MAX = 2_000

_TransitionRow = tuple[object, ...]
_NO_SERVICES = b"[]"


class CommitWriter:
    """Writes groups of commits through one cursor."""

    def __init__(self, letter_limits: LetterLimits = LETTER_LIMITS) -> None:
        self._letter_limits = letter_limits
        self._sql = load_queries()
        self._surroundings = SurroundingsWriter()
        self._update_head = self._sql["update_head"]
        self._update_head_keeping_context = self._sql["update_head_keeping_context"]
        self._insert_transition = self._sql["insert_transition"]

    def write(self, cursor: sqlite3.Cursor, commits: Sequence[Commit]) -> list[Outcome]:
        """The outcome of each, in order; what COMMITTED ones wrote is durable after the caller's COMMIT.

        Raises sqlite3.Error; the transaction is then to be rolled back.
        """
        (epoch,) = cursor.execute(self._sql["lease_epoch"]).fetchone()
        outcomes = []
        transitions: list[_TransitionRow] = []
        for commit in commits:
            outcome = (
                self._write_one(cursor, commit, transitions) if commit.epoch == epoch else Outcome.FENCED
            )
            outcomes.append(outcome)
        if transitions:
            cursor.executemany(self._insert_transition, transitions)
        return outcomes

    def _write_one(
        self, cursor: sqlite3.Cursor, commit: Commit, transitions: list[_TransitionRow]
    ) -> Outcome:
        if commit.birth is not None:
            outcome = self._bear(cursor, commit)
        elif commit.base == 0 and commit.head is None and commit.rejected is not None:
            outcome = self._judge_unborn(cursor, commit)
        elif (commit.consumed or commit.rejected) and not self._causes_stand(cursor, commit):
            at_seq = cursor.execute(self._sql["is_at_seq"], (commit.instance, commit.base)).fetchone()
            outcome = Outcome.CAUSE_GONE if at_seq else Outcome.FENCED
        else:
            outcome = self._update(cursor, commit)
        if outcome is not Outcome.COMMITTED:
            return outcome
        for t in commit.transitions:
            row = (
                commit.instance,
                t.seq,
                t.ts,
                t.at,
                t.event_id,
                t.event,
                t.value,
                t.source,
                t.actor,
                t.version,
            )
            transitions.append(row)
        if commit.consumed or commit.timers_removed or commit.timers_set or commit.messages:
            self._write_rows(cursor, commit)
        if commit.rejected is not None:
            self._reject(cursor, commit, commit.rejected)
        if commit.indexes is not None:
            write_indexes(cursor, commit.instance, commit.indexes)
        if not _is_plain(commit):
            self._surroundings.write(cursor, commit)
        if commit.deleted_at is not None:
            cursor.executemany(self._insert_transition, transitions)  # nothing of it may come after
            transitions.clear()
            self._surroundings.delete(cursor, commit.instance, commit.deleted_at)
        return Outcome.COMMITTED

    def _judge_unborn(self, cursor: sqlite3.Cursor, commit: Commit) -> Outcome:
        """A message that was to create the instance is rejected; nothing of the instance is written."""
        if cursor.execute(self._sql["does_exist"], (commit.instance,)).fetchone():
            return Outcome.FENCED
        return Outcome.COMMITTED if self._causes_stand(cursor, commit) else Outcome.CAUSE_GONE

    def _update(self, cursor: sqlite3.Cursor, commit: Commit) -> Outcome:
        services = msgspec.json.encode(commit.services) if commit.services else _NO_SERVICES
        head = commit.head
        if head is None:
            row: tuple[object, ...] = (commit.epoch, services, commit.instance, commit.base)
            cursor.execute(self._sql["update_services"], row)
        elif head.context is None:
            row = (*_head_row(commit, head, services), commit.instance, commit.base)
            cursor.execute(self._update_head_keeping_context, row)
        else:
            context = head.context if len(head.context) <= CONTEXT_INLINE_BYTES_MAX else b""
            row = (*_head_row(commit, head, services), context, commit.instance, commit.base)
            cursor.execute(self._update_head, row)
            if not context and cursor.rowcount:
                cursor.execute(self._sql["put_large_context"], (commit.instance, head.context))
                return Outcome.COMMITTED
        return Outcome.COMMITTED if cursor.rowcount else Outcome.FENCED

    def _bear(self, cursor: sqlite3.Cursor, commit: Commit) -> Outcome:
        birth, head = commit.birth, commit.head
        assert birth is not None
        assert head is not None
        assert head.context is not None, "a birth has no context to keep"
        if commit.consumed and not self._causes_stand(cursor, commit):
            return self._why_not_born(cursor, commit)
        services = msgspec.json.encode(commit.services)
        identity = (commit.instance, *birth.key, birth.version, birth.created_at)
        context = head.context if len(head.context) <= CONTEXT_INLINE_BYTES_MAX else b""
        row = (*_head_row(commit, head, services), context, *identity)
        cursor.execute(self._sql["insert_instance"], row)
        if cursor.rowcount:
            if not context:
                cursor.execute(self._sql["put_large_context"], (commit.instance, head.context))
            return Outcome.COMMITTED
        return self._why_not_born(cursor, commit)

    def _why_not_born(self, cursor: sqlite3.Cursor, commit: Commit) -> Outcome:
        """The name goes before the id, and both before the message that was to create it."""
        assert commit.birth is not None
        if cursor.execute(self._sql["is_name_taken"], commit.birth.key).fetchone():
            return Outcome.NAME_TAKEN
        exists = cursor.execute(self._sql["does_exist"], (commit.instance,)).fetchone()
        return Outcome.FENCED if exists else Outcome.CAUSE_GONE

    def _causes_stand(self, cursor: sqlite3.Cursor, commit: Commit) -> bool:
        """Whether every row that the commit consumes or rejects is there and no dead letter."""
        causes = commit.consumed
        if commit.rejected is not None:
            causes = (*causes, commit.rejected.cause)
        return all(self._cause_stands(cursor, commit, cause) for cause in causes)

    def _cause_stands(self, cursor: sqlite3.Cursor, commit: Commit, cause: Cause) -> bool:
        name = "is_timer_live" if cause.table == "timer" else "is_message_live"
        place = (cause.owner or commit.instance, cause.key)
        return cursor.execute(self._sql[name], place).fetchone() is not None

    def _write_rows(self, cursor: sqlite3.Cursor, commit: Commit) -> None:
        instance = commit.instance
        for cause in commit.consumed:
            name = "delete_timer" if cause.table == "timer" else "delete_message"
            cursor.execute(self._sql[name], (cause.owner or instance, cause.key))
        if commit.timers_removed:
            self._delete_timers(cursor, commit, commit.timers_removed)
        for timer in commit.timers_set:
            row = (instance, timer.key, timer.send_id, timer.due, timer.event, *target_columns(timer.to))
            cursor.execute(self._sql["insert_timer"], row)
        for message in commit.messages:
            if message.kind == "self":
                cursor.execute(self._sql["insert_message"], (instance, message.key, message.event))
            else:
                self._surroundings.post(cursor, message.owner or instance, message)

    def _delete_timers(self, cursor: sqlite3.Cursor, commit: Commit, keys: Sequence[RowKey]) -> None:
        cursor.executemany(self._sql["delete_timer"], [(commit.instance, key) for key in keys])

    def _reject(self, cursor: sqlite3.Cursor, commit: Commit, rejected: Rejection) -> None:
        place = (rejected.cause.owner or commit.instance, rejected.cause.key)
        if rejected.retry_at is None:
            bury(cursor, rejected, place, self._letter_limits)
        else:
            row = (rejected.attempts, rejected.retry_at, rejected.reason, *place)
            cursor.execute(self._sql[f"retry_{rejected.cause.table}"], row)


def _is_plain(commit: Commit) -> bool:
    """Nothing beside the state and its rows is written: nearly every commit."""
    return not (
        commit.linked
        or commit.unlinked
        or commit.repeatables
        or commit.parent
        or commit.status
        or commit.wish
        or commit.version
        or (commit.birth is not None and commit.birth.parent)
    )


def _head_row(commit: Commit, head: Head, services: bytes) -> tuple[object, ...]:
    view = head.view
    return (
        view.seq, view.ts, view.done, commit.epoch, services, view.value, view.tags, head.snapshot
    )  # fmt: skip
