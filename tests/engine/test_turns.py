"""Messages take turns by org, nobody has more under way than its share, and children are made in turns."""

from statebacked.engine.buckets import Bucket
from statebacked.engine.turns import Nursery, Turns
from statebacked.model.ids import InstanceId, InstanceKey, InstanceName, MachineName, Monotonic, OrgId
from statebacked.model.limits import ORG_MESSAGES_UNDER_WAY_MAX, RECIPIENT_MESSAGES_UNDER_WAY_MAX


def to(name: str, org: str = "a") -> InstanceKey:
    return InstanceKey(OrgId(org), MachineName("m"), InstanceName(name))


def begun(turns: Turns[InstanceKey]) -> list[InstanceKey]:
    """What begins while there is room."""
    taken = []
    while (item := turns.take()) is not None:
        turns.began(item)
        taken.append(item)
    return taken


def filled(*recipients: InstanceKey) -> Turns[InstanceKey]:
    turns: Turns[InstanceKey] = Turns()
    for one in recipients:
        turns.add(one, one)
    return turns


def test_orgs_take_turns() -> None:
    turns = filled(to("1"), to("2"), to("3"), to("4", "b"))
    assert begun(turns) == [to("1"), to("4", "b"), to("2"), to("3")]


def test_a_recipient_that_hangs_keeps_nothing_from_others_of_its_org() -> None:
    turns = filled(*[to("slow")] * (RECIPIENT_MESSAGES_UNDER_WAY_MAX + 2), to("other"))
    assert begun(turns) == [to("slow")] * RECIPIENT_MESSAGES_UNDER_WAY_MAX + [to("other")]
    turns.add(to("slow"), to("slow"))
    assert begun(turns) == []
    for _ in range(2):
        turns.ended(to("slow"))
    assert begun(turns) == [to("slow")] * 2
    turns.ended(to("slow"))
    assert begun(turns) == [to("slow")]
    turns.ended(to("slow"))
    assert begun(turns) == []


def test_an_org_whose_recipients_hang_keeps_nothing_from_others() -> None:
    turns = filled(*(to(str(n)) for n in range(ORG_MESSAGES_UNDER_WAY_MAX + 3)), to("1", "b"))
    first = begun(turns)
    assert (len(first), to("1", "b") in first) == (ORG_MESSAGES_UNDER_WAY_MAX + 1, True)
    turns.add(to("late"), to("late"))
    assert begun(turns) == []
    rest: list[InstanceKey] = []
    while len(rest) < 4:
        turns.ended(first.pop(0))
        rest += begun(turns)
    assert rest == [*(to(str(ORG_MESSAGES_UNDER_WAY_MAX + n)) for n in range(3)), to("late")]


def test_nothing_is_lost_whatever_ends_when() -> None:
    turns = filled(*(to(str(n % 7), str(n % 3)) for n in range(2_000)))
    under_way: list[InstanceKey] = []
    count = 0
    while some := begun(turns) or under_way:
        if some is not under_way:
            under_way += some
            count += len(some)
        turns.ended(under_way.pop(count % len(under_way)))
    assert count == 2_000


def test_parents_take_turns_and_nobody_overtakes_who_waits() -> None:
    nursery: Nursery[str] = Nursery(Bucket(1, 1, 2))
    many, few = InstanceId("many"), InstanceId("few")
    admitted = [nursery.admit(many, f"m{n}", Monotonic(0)) for n in range(5)]
    assert admitted == [True, True, False, False, False]
    assert not nursery.admit(few, "f0", Monotonic(1)), "others wait"
    assert nursery.release(Monotonic(1)) == ["m2"]
    assert nursery.release(Monotonic(3)) == ["f0", "m3"]
    assert nursery.release(Monotonic(3)) == []
    assert nursery.release(Monotonic(9)) == ["m4"]
    assert not nursery
