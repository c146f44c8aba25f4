"""Timers that are due take turns, by org and by instance; of a crowd few are held, and none is lost."""

import random
from collections.abc import Sequence
from itertools import count

from msgspec.structs import replace

from statebacked.engine.bells import Held, Rack
from statebacked.model.ids import (
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    SendId,
)
from statebacked.model.limits import INSTANCE_TIMERS_HELD_MAX, ORG_TIMERS_HELD_MAX
from statebacked.model.rows import DueTimer, Timer
from statebacked.model.values import Json

NOW = Instant(1_000_000)
ROWS = count(1)


def due(instance: str, n: int, *, org: str = "a", at: int = 0, row: int | None = None) -> DueTimer:
    """Of the store, unless `row` is 0."""
    key = InstanceKey(OrgId(org), MachineName("m"), InstanceName(instance))
    timer = Timer(key=RowKey(f"1.{n}"), send_id=SendId("s"), due=Instant(at), event=Json(b"{}"))
    row = next(ROWS) if row is None else row
    return DueTimer(
        instance=InstanceId(instance), key=key, timer=timer, fire_at=Instant(at), attempts=0, row=row
    )


def hung(*timers: DueTimer) -> Rack:
    rack = Rack()
    for one in timers:
        rack.hang(one)
    return rack


def names(taken: Sequence[Held]) -> list[str]:
    return [f"{held.due.instance}{held.due.timer.key}" for held in taken]


def test_orgs_take_turns_and_so_do_their_instances() -> None:
    rack = hung(
        *(due("x", n) for n in range(4)), *(due("y", n) for n in range(2)), due("z", 0, org="b", at=99)
    )
    assert names(rack.take(NOW, 3)) == ["x1.0", "z1.0", "y1.0"]
    assert names(rack.take(NOW, 9)) == ["x1.1", "y1.1", "x1.2", "x1.3"]
    assert rack.take(NOW, 9) == []


def test_the_timers_of_one_instance_come_in_the_order_of_the_store() -> None:
    rack = hung(due("x", 1, at=7), due("x", 2, at=5), due("x", 3, at=5), due("x", 4, at=6, row=0))
    assert names(rack.take(NOW, 9)) == ["x1.2", "x1.3", "x1.4", "x1.1"]


def test_a_timer_is_held_once_and_until_it_is_due() -> None:
    late = due("x", 1, at=NOW + 5)
    rack = hung(late, late)
    assert (rack.take(NOW, 9), rack.next_at()) == ([], NOW + 5)
    assert names(rack.take(Instant(NOW + 5), 9)) == ["x1.1"]
    assert rack.next_at() is None


def test_an_instance_that_is_busy_loses_its_turns_and_not_its_place() -> None:
    rack = hung(due("x", 1), due("x", 2), due("y", 1))
    x1, _, x2 = rack.take(NOW, 3)
    for held in (x2, x1):
        rack.put_back(held, Instant(NOW + 250))
    rack.hang(due("x", 3))
    assert (rack.take(Instant(NOW + 249), 9), rack.next_at()) == ([], NOW + 250)
    assert names(rack.take(Instant(NOW + 250), 9)) == ["x1.1", "x1.2", "x1.3"]


def test_of_an_instance_with_many_the_rest_is_left_to_the_store_and_read_behind_the_held_ones() -> None:
    rows = [due("x", n, at=n // 10) for n in range(3 * INSTANCE_TIMERS_HELD_MAX)]
    rack = hung(*rows)
    assert rack.left_to_the_store() == ([], ["x"])
    got = []
    for _ in range(3):
        taken = rack.take(NOW, len(rows))
        got += names(taken)
        for bells, after in rack.emptied(taken):
            rest = [row for row in rows if (row.fire_at, row.row) > after][:INSTANCE_TIMERS_HELD_MAX]
            rack.refill(bells, rest, is_all=len(rest) < INSTANCE_TIMERS_HELD_MAX)
    assert got == [f"x1.{n}" for n in range(len(rows))]


def test_what_is_armed_while_more_is_read_is_not_lost() -> None:
    rows = [due("x", n, at=n) for n in range(INSTANCE_TIMERS_HELD_MAX + 1)]
    rack = hung(*rows)
    taken = rack.take(NOW, len(rows))
    ((bells, after),) = rack.emptied(taken)
    assert rack.emptied(taken) == [], "it is being read"
    rack.hang(due("x", 9_999, at=5_000, row=0))
    rack.refill(bells, [row for row in rows if (row.fire_at, row.row) > after], is_all=True)
    assert names(rack.take(NOW, 9)) == [f"x1.{INSTANCE_TIMERS_HELD_MAX}", "x1.9999"]


def test_whatever_is_armed_and_read_every_timer_comes_once() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        rack, numbers = Rack(), count()
        store: list[DueTimer] = []
        got: list[str] = []
        for _ in range(60):
            for _ in range(chance.choice([1, 1, 150, 400])):
                armed = due("x", next(numbers), at=chance.randint(0, 20))
                store.append(armed)
                rack.hang(replace(armed, row=0))
            got += handed_out(rack, store, got, chance.randint(1, 300))
        while some := handed_out(rack, store, got, 1_000):
            got += some
        assert sorted(got) == sorted(row.timer.key for row in store), f"seed {seed}"


def handed_out(rack: Rack, store: list[DueTimer], before: list[str], limit: int) -> list[str]:
    """What the rack gives. What it then lacks is read from what the store still has."""
    taken = rack.take(NOW, limit)
    keys: list[str] = [held.due.timer.key for held in taken]
    gone = {*before, *keys}
    for bells, after in rack.emptied(taken):
        left = sorted((row.fire_at, row.row, row) for row in store if row.timer.key not in gone)
        rows = [row for *place, row in left if tuple(place) > after][:INSTANCE_TIMERS_HELD_MAX]
        rack.refill(bells, rows, is_all=len(rows) < INSTANCE_TIMERS_HELD_MAX)
    return keys


def test_an_org_holds_so_many_and_is_read_anew_when_half_of_them_are_gone() -> None:
    rack = hung(*(due(f"x{n}", 0, at=n) for n in range(ORG_TIMERS_HELD_MAX + 1)), due("y", 0, org="b"))
    assert rack.left_to_the_store() == (["a"], [])
    assert names(rack.take(NOW, 2)) == ["x01.0", "y1.0"], "another org is not concerned"
    assert not rack.lacks_some(NOW)
    rack.take(NOW, ORG_TIMERS_HELD_MAX // 2)
    assert rack.lacks_some(NOW)
    assert not rack.lacks_some(Instant(ORG_TIMERS_HELD_MAX - 1)), "what was left out is not due"
