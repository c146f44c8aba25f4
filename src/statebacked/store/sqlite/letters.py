"""Buries a row: makes it a dead letter of its org, as far as that has room. Triggers keep the totals."""

import sqlite3

from statebacked.model.ids import InstanceId, RowKey
from statebacked.model.rows import Rejection
from statebacked.store.letters import LetterLimits, LetterTotals, head_of, room_for
from statebacked.store.sqlite.queries import load_queries


def bury(
    cursor: sqlite3.Cursor, rejected: Rejection, place: tuple[InstanceId, RowKey], limits: LetterLimits
) -> None:
    """Inside a transaction that the caller holds; the row stands at `place`."""
    sql, table = load_queries(), rejected.cause.table
    kind, size, *totals = cursor.execute(sql[f"{table}_to_bury"], place).fetchone()
    room = room_for(size, LetterTotals(*totals), limits)
    if room == "none":
        cursor.execute(sql[f"delete_{table}"], place)
        return
    row = (rejected.attempts, rejected.at, rejected.reason, *place)
    if room == "whole":
        cursor.execute(sql[f"bury_{table}"], row)
        return
    (event,) = cursor.execute(sql[f"{table}_event"], place).fetchone()
    cursor.execute(sql[f"bury_head_of_{table}"], (head_of(kind, event), *row))
