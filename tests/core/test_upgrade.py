"""From one version to another: the way there, and what an upgrade commits."""

import dataclasses
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core import given
from tests.store.builders import migration

from statebacked.core import phases
from statebacked.core.mailbox import failed_service, own_message
from statebacked.core.phases import Activation, CauseGone, Deliver, Drain, Tick, Upgraded, UpgradeFailed
from statebacked.core.upgrade import find_path
from statebacked.model.envelopes import Cause, Wish
from statebacked.model.ids import Monotonic, RowKey, SendId, VersionId
from statebacked.model.machine import Migration
from statebacked.model.step import Arrival, Moved
from statebacked.model.values import Json

VERSIONS = [VersionId(f"ver_{n}") for n in range(5)]


def chain(*paths: str) -> list[Migration]:
    return [migration(f"mig_{n}", path) for n, path in enumerate(paths)]


def ids(path: Sequence[Migration] | None) -> list[str] | None:
    return None if path is None else [one.id for one in path]


def test_staying_takes_no_migration() -> None:
    assert find_path([], VERSIONS[0], VERSIONS[0]) == ()


def test_versions_without_a_way_between_them_have_none() -> None:
    assert find_path(chain("ver_1>ver_0", "ver_0>ver_2"), VERSIONS[0], VERSIONS[1]) is None


def test_the_shortest_way_is_taken() -> None:
    migrations = chain("ver_0>ver_1", "ver_1>ver_2", "ver_2>ver_3", "ver_0>ver_4", "ver_4>ver_3")
    assert ids(find_path(migrations, VERSIONS[0], VERSIONS[3])) == ["mig_3", "mig_4"]


def test_between_two_versions_the_newest_migration_counts() -> None:
    migrations = chain("ver_0>ver_1", "ver_1>ver_2", "ver_0>ver_1")
    assert ids(find_path(migrations, VERSIONS[0], VERSIONS[2])) == ["mig_2", "mig_1"]


EDGES = st.lists(st.tuples(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS)), max_size=12)


@hypothesis.given(EDGES, st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_a_path_is_found_when_the_goal_is_reachable_and_is_as_short_as_the_distance(
    edges: list[tuple[VersionId, VersionId]], start: VersionId, goal: VersionId
) -> None:
    migrations = chain(*(f"{source}>{target}" for source, target in edges))
    path = find_path(migrations, start, goal)
    assert (None if path is None else len(path)) == distance(edges, start, goal)
    at = start
    for one in path or ():
        assert one.from_version == at
        assert one in migrations
        at = one.to_version
    assert path is None or at == goal


def distance(edges: list[tuple[VersionId, VersionId]], start: VersionId, goal: VersionId) -> int | None:
    """By relaxing every edge as often as there are versions."""
    far = {start: 0}
    for _ in VERSIONS:
        for source, target in edges:
            if source in far:
                far[target] = min(far.get(target, 99), far[source] + 1)
    return far.get(goal)


# --- the upgrade of an instance ------------------------------------------------------------------

NEW = VersionId("ver_new")
EVENT = Json(b'{"type":"statebacked.upgrade"}')


def wishing(**record: object) -> Activation:
    return replace(given.loaded(), desired=NEW, **record)


def upgraded(a: Activation, *moved: Moved, removed: tuple[str, ...] = (), **step: object) -> Upgraded:
    """The answer to the upgrade under way."""
    keys = tuple(RowKey(key) for key in removed)
    return Upgraded(a.computes, EVENT, Arrival(given.step(indexes=(), **step), moved, keys))


def failed(a: Activation, code: str = "migration-failed") -> UpgradeFailed:
    return UpgradeFailed(a.computes, code, "no")


def test_a_wish_waits_for_the_next_event() -> None:
    a = wishing()
    assert given.deciding(a, Tick()).commands == ()
    decision = given.deciding(a, given.client("c1"), now=5)
    upgrade = given.only(decision, phases.Upgrade)
    assert (upgrade.version, upgrade.seq) == (NEW, a.seq)
    assert given.names(decision) == ["Upgrade"]
    assert given.waiting_in_mailbox(decision.activation) == ["c1"], "it waits where it was"


def test_an_upgrade_is_a_transition_of_its_own_before_the_event() -> None:
    a = given.after(wishing(), given.client("c1"))
    decision = given.deciding(a, upgraded(a), now=7)
    commit = given.committed(decision)
    (transition,) = commit.transitions
    assert (transition.event, transition.source, transition.actor) == (EVENT, "upgrade", None)
    assert (transition.version, commit.version, commit.wish) == (NEW, NEW, Wish(None))
    assert (transition.seq, commit.base) == (a.seq + 1, a.seq)
    assert commit.indexes == ()
    assert given.names(decision) == ["Become", "Publish", "Compute"]
    assert given.computing(decision.activation) == ["c1"]
    assert given.only(decision, phases.Compute).seq == a.seq + 1
    assert (decision.activation.version, decision.activation.desired) == (NEW, None)
    after = given.deciding(decision.activation, given.stepped(decision.activation, given.step()))
    assert given.committed(after).transitions[0].version == NEW
    assert given.committed(after).version is None


@pytest.mark.parametrize("code", ["migration-failed", "no-migration-path", "unavailable"])
def test_an_upgrade_that_fails_refuses_the_event_and_changes_nothing(code: str) -> None:
    a = given.after(wishing(), given.client("c1"), given.client("c2"))
    decision = given.deciding(a, failed(a, code))
    assert given.told(decision) == [("c1", code)]
    assert decision.commit is None
    # The wish stands: the next event tries again.
    assert given.names(decision) == ["ReplyRefused", "Upgrade"]
    assert (decision.activation.version, decision.activation.desired) == (a.version, NEW)


def test_a_timer_that_finds_a_failing_migration_is_retried() -> None:
    a = given.after(wishing(timers=(given.pending(),)), given.timer())
    decision = given.deciding(a, failed(a))
    rejected = given.committed(decision).rejected
    assert rejected is not None
    assert (rejected.attempts, rejected.reason) == (1, "migration-failed: no")


def test_an_upgrade_that_fails_for_what_is_gone_is_over() -> None:
    wish = wishing(timers=(given.pending("1.0"),))
    a = given.after(wish, given.timer("1.0"), given.client())
    decision = given.deciding(a, CauseGone((Cause("timer", RowKey("1.0")),)))
    assert given.names(decision) == ["Upgrade"]
    assert given.waiting_in_mailbox(decision.activation) == ["c1"]


def test_an_upgrade_that_is_not_answered_is_given_up() -> None:
    a = given.after(wishing(), given.client("c1"))
    late = given.POLICY.upgrade_ms
    assert given.alarm(given.deciding(wishing(), given.client("c1"))) == phases.WakeAt(Monotonic(late))
    assert given.told(given.deciding(a, Tick(), now=late - 1)) == []
    decision = given.deciding(a, Tick(), now=late)
    assert given.told(decision) == [("c1", "migration-failed")]
    stale = given.deciding(decision.activation, upgraded(a), now=late)
    assert (stale.commit, stale.commands) == (None, ())


def test_an_answer_to_nothing_is_not_heard() -> None:
    for a in (given.loaded(), given.stepping(), given.after(wishing(), given.client("c1"))):
        for answer in (replace(upgraded(a), number=99), replace(failed(a), number=99)):
            decision = given.deciding(a, answer)
            assert (decision.commit, decision.commands, decision.activation) == (None, (), a)


def test_errors_of_lost_services_come_first_and_on_the_old_version() -> None:
    a = replace(wishing(), owed=(failed_service(given.run(), "service-lost", "x"),))
    a = given.after(a, given.client("c1"))
    assert given.computing(a) == ["failed:2:s"]
    done = given.deciding(a, given.stepped(a, given.step()))
    assert given.committed(done).transitions[0].version == a.version
    assert given.only(done, phases.Upgrade).seq == a.seq + 1


def test_while_a_service_runs_events_stay_on_the_old_version() -> None:
    a = replace(given.serving(), desired=NEW)
    a = given.after(a, given.client("c2"))
    assert given.computing(a) == ["c2"]


def test_what_the_machine_sent_itself_stays_on_the_old_version() -> None:
    a = replace(wishing(), mailbox=(own_message(given.message()),))
    a = given.after(a, Tick())
    assert given.computing(a) == ["message:1.0"]


def test_a_creation_upgrades_nothing() -> None:
    decision = given.deciding(wishing(), given.init("c0"))
    assert given.told(decision) == [("c0", "conflict")]


def test_a_caller_who_is_turned_away_meanwhile_is_told_once() -> None:
    a = given.after(wishing(), given.client("c1"))
    draining = given.deciding(a, Drain())
    assert given.told(draining) == [("c1", "unavailable")]
    assert given.told(given.deciding(draining.activation, failed(a))) == []
    arrived = given.deciding(draining.activation, upgraded(a))
    assert given.committed(arrived).version == NEW
    assert isinstance(arrived.activation.phase, phases.Settled)


def test_an_upgrade_that_fails_refuses_nobody_else_when_its_caller_is_turned_away() -> None:
    a = given.after(wishing(timers=(given.pending(),)), given.client("c1"), given.timer(), Drain())
    decision = given.deciding(a, failed(a))
    assert (decision.commit, len(decision.activation.mailbox)) == (None, 1)


def test_what_waits_meanwhile_keeps_its_order() -> None:
    a = given.after(wishing(), given.client("c1"), given.client("c2"))
    a = given.after(a, upgraded(a))
    assert given.computing(a) == ["c1"]
    assert given.waiting_in_mailbox(a) == ["c2"]


def test_a_timer_that_moved_keeps_its_due_time_under_its_new_name() -> None:
    timers = tuple(given.pending(f"1.{n}", f"t{n}", due=1_000 + n) for n in range(4))
    a = given.after(wishing(timers=timers), given.client("c1"))
    moved = Moved(RowKey("1.0"), SendId("new"), Json(b'{"type":"new"}'))
    same = Moved(RowKey("1.1"), SendId("t1"), Json(b'{"type":"t1"}'))
    answer = upgraded(a, moved, same, removed=("1.2",), timers=given.setting("fresh", delay_ms=50))
    decision = given.deciding(a, answer, now=10)
    commit = given.committed(decision)
    assert commit.timers_removed == ("1.0", "1.2")
    new, fresh = commit.timers_set
    assert (new.send_id, new.due, new.event) == ("new", 1_000, Json(b'{"type":"new"}'))
    assert (fresh.send_id, fresh.due) == ("fresh", given.at(10).wall + 50)
    pending = [(t.key, t.send_id) for t in decision.activation.timers]
    assert pending == [("1.1", "t1"), ("1.3", "t3"), (new.key, "new"), (fresh.key, "fresh")]
    assert [due.fire_at for due in given.only(decision, phases.Arm).timers] == [1_000, fresh.due]


def test_the_timer_that_caused_the_upgrade_comes_again_under_its_new_name() -> None:
    a = given.after(wishing(timers=(given.pending("1.0"),)), given.timer("1.0"))
    moved = Moved(RowKey("1.0"), SendId("new"), Json(b'{"type":"new"}'))
    decision = given.deciding(a, upgraded(a, moved))
    assert decision.activation.mailbox == ()
    assert given.names(decision) == ["Become", "Publish", "Arm"]


def test_an_upgrade_to_a_final_state_takes_all_timers() -> None:
    a = given.after(wishing(timers=(given.pending("1.0"), given.pending("1.1", "u"))), given.client("c1"))
    moved = Moved(RowKey("1.0"), SendId("new"), Json(b'{"type":"new"}'))
    commit = given.committed(given.deciding(a, upgraded(a, moved, done=True)))
    assert (set(commit.timers_removed), commit.timers_set) == ({"1.0", "1.1"}, ())


def test_an_upgrade_that_would_leave_too_many_timers_fails() -> None:
    policy = dataclasses.replace(given.POLICY, timers_max=2)
    a = given.after(wishing(timers=(given.pending(),)), given.client("c1"), policy=policy)
    answer = upgraded(a, timers=given.setting("x", "y"))
    decision = given.deciding(a, answer, policy=policy)
    assert given.told(decision) == [("c1", "migration-failed")]
    assert decision.activation.timers == a.timers


def test_a_wish_is_taken_back_and_made_in_order_with_events() -> None:
    a = given.loaded()
    wish = given.client("w")
    wish = Deliver(replace(wish.envelope, payload=Wish(NEW), auth=None))
    a = given.after(a, wish, Tick())
    assert a.desired == NEW
    back = Deliver(replace(wish.envelope, payload=Wish(a.version)))
    decision = given.deciding(given.after(a, back), Tick())
    assert given.committed(decision).wish == Wish(None)
    assert decision.activation.desired is None
    assert given.computing(given.after(decision.activation, given.client("c1"))) == ["c1"]
