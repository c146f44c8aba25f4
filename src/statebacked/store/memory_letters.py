"""Dead letters of the in-memory store: what listing, redriving and discarding them mean."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from statebacked.model.ids import InstanceId, Instant, OrgId, RowKey
from statebacked.model.rows import DeadLetter
from statebacked.store.letters import LetterTotals, head_of, room_for
from statebacked.store.memory_rows import MessageRow, TimerRow

if TYPE_CHECKING:
    from statebacked.store.memory_instances import MemoryInstances


def dead_letters(rows: "MemoryInstances") -> Iterator[DeadLetter]:
    for timer in rows.timers.values():
        if timer.dead_at is not None:
            yield _of_timer(rows, timer, timer.dead_at)
    for message in rows.messages.values():
        if message.dead_at is not None:
            yield _of_message(message, message.dead_at)


def bury(rows: "MemoryInstances", table: str, place: tuple[InstanceId, RowKey], at: Instant) -> None:
    """Make a row a dead letter, whole or as a head, or remove it, as its org has room. Counts anew each time,
    which is what the totals of other stores have to come to."""
    others = list(dead_letters(rows))
    if table == "timer":
        rows.timers[place].dead_at = at
        letter = _of_timer(rows, rows.timers[place], at)
    else:
        rows.messages[place].dead_at = at
        letter = _of_message(rows.messages[place], at)
    others = [other for other in others if other.sender.org == letter.sender.org]
    whole = [len(other.event) for other in others if not other.is_truncated]
    totals = LetterTotals(len(whole), sum(whole), len(others) - len(whole))
    room = room_for(len(letter.event), totals, rows.letter_limits)
    if room == "head":
        _row(rows, letter).head = head_of(letter.kind, letter.event)
    elif room == "none":
        _remove(rows, letter)


def redrive(rows: "MemoryInstances", org: OrgId, letter: str, at: Instant) -> DeadLetter | None:
    found = _find(rows, org, letter)
    if found is not None and not found.is_truncated:
        row = _to_the_end(rows, found)
        row.attempts, row.fire_at, row.dead_at, row.reason = 0, at, None, None
    return found


def discard(rows: "MemoryInstances", org: OrgId, letter: str) -> bool:
    found = _find(rows, org, letter)
    if found is not None:
        _remove(rows, found)
    return found is not None


def sweep(rows: "MemoryInstances", before: Instant) -> None:
    for letter in [letter for letter in dead_letters(rows) if letter.dead_at < before]:
        discard(rows, letter.sender.org, letter.id)


def _find(rows: "MemoryInstances", org: OrgId, letter: str) -> DeadLetter | None:
    return next((d for d in dead_letters(rows) if d.id == letter and d.sender.org == org), None)


def _row(rows: "MemoryInstances", letter: DeadLetter) -> "TimerRow | MessageRow":
    place = (letter.instance, letter.key)
    return rows.timers[place] if letter.kind == "timer" else rows.messages[place]


def _to_the_end(rows: "MemoryInstances", letter: DeadLetter) -> "TimerRow | MessageRow":
    row = _row(rows, letter)
    _remove(rows, letter)
    row.row = rows.next_row()
    if letter.kind == "timer":
        rows.timers[letter.instance, letter.key] = cast("TimerRow", row)
    else:
        rows.messages[letter.instance, letter.key] = cast("MessageRow", row)
    return row


def _remove(rows: "MemoryInstances", letter: DeadLetter) -> None:
    del (rows.timers if letter.kind == "timer" else rows.messages)[letter.instance, letter.key]


def _of_timer(rows: "MemoryInstances", row: TimerRow, dead_at: Instant) -> DeadLetter:
    timer = row.timer
    return DeadLetter(
        id=f"timer-{row.row:015}",
        kind="timer",
        instance=row.instance,
        sender=rows.instances[row.instance].key,
        to=timer.to,
        event=row.head or timer.event,
        due=timer.due,
        attempts=row.attempts,
        reason=row.reason or "",
        dead_at=dead_at,
        key=timer.key,
        send_id=timer.send_id,
        is_truncated=row.head is not None,
    )


def _of_message(row: MessageRow, dead_at: Instant) -> DeadLetter:
    return DeadLetter(
        id=f"message-{row.row:015}",
        kind=row.message.kind,
        instance=row.instance,
        sender=row.sender,
        to=row.message.to,
        event=row.head or row.message.event,
        due=row.fire_at,
        attempts=row.attempts,
        reason=row.reason or "",
        dead_at=dead_at,
        key=row.message.key,
        is_truncated=row.head is not None,
    )
