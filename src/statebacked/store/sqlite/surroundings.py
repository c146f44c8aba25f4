"""Writes what stands beside an instance's state: family, status, wish, answers; and removes all of it."""

import sqlite3

from statebacked.model.ids import InstanceId, Instant
from statebacked.model.rows import Commit, Message
from statebacked.model.values import Address, Parent, Target
from statebacked.store.sqlite.queries import load_queries

_REMOVED = (
    "delete_messages_to",
    "delete_timers_of",
    "delete_transitions_of",
    "delete_links_of",
    "delete_parent_of",
    "delete_wish",
    "delete_answers_of",
    "delete_index_rows_of",
    "delete_large_context",
    "delete_instance",
)


def target_columns(to: Target | None) -> tuple[str | None, str | None, str | None]:
    """to_kind, to_machine, to_name of a timer."""
    if to is None:
        return None, None, None
    return ("address", *to) if isinstance(to, Address) else ("parent", None, None)


class SurroundingsWriter:
    """Inside a transaction that the caller holds, after the instance's own guard."""

    def __init__(self) -> None:
        self._sql = load_queries()

    def write(self, cursor: sqlite3.Cursor, commit: Commit) -> None:
        instance = commit.instance
        for run in commit.unlinked:
            cursor.execute(self._sql["delete_link"], (instance, *run))
        for link in commit.linked:
            cursor.execute(self._sql["insert_link"], (instance, *link.run, *link.child))
        parent = commit.birth.parent if commit.birth is not None else commit.parent
        if parent is not None:
            cursor.execute(self._sql["put_parent"], _parent_row(instance, parent))
        if commit.status is not None:
            cursor.execute(self._sql["set_status"], (commit.status, instance))
        if commit.version is not None:
            cursor.execute(self._sql["set_version"], (commit.version, instance))
        if commit.wish is not None:
            if commit.wish.version is None:
                cursor.execute(self._sql["delete_wish"], (instance,))
            else:
                cursor.execute(self._sql["put_wish"], (instance, commit.wish.version))
        for kept, event_id in commit.repeatables:
            row = (instance, kept.scope, kept.key, event_id, kept.body_sha256, kept.at)
            cursor.execute(self._sql["insert_answer"], row)

    def post(self, cursor: sqlite3.Cursor, owner: InstanceId, message: Message) -> None:
        to = message.to or (None, None)
        link = message.link or (None, None)
        row = (owner, message.key, message.kind, *to, *link, message.event, message.version, message.depth)
        cursor.execute(self._sql["post_message"], row)

    def delete(self, cursor: sqlite3.Cursor, instance: InstanceId, at: Instant) -> None:
        cursor.execute(self._sql["record_log_erasure"], (instance, at))
        cursor.execute(self._sql["dig_grave"], (instance,))
        for name in _REMOVED:
            cursor.execute(self._sql[name], (instance,))


def _parent_row(instance: InstanceId, parent: Parent) -> tuple[object, ...]:
    return (instance, parent.instance, *parent.address, *parent.link, parent.depth)
