"""What must hold of an instance that changes its version: when, in which commit, what becomes of timers."""

from collections.abc import Sequence
from random import Random

from statebacked.core import phases
from statebacked.core.phases import Activation, Upgrading
from statebacked.core.upgrade import find_path
from statebacked.model.envelopes import Control, Initialize
from statebacked.model.ids import Epoch, Instant, MachineName, MigrationId, OrgId, RowKey, VersionId
from statebacked.model.machine import Migration
from statebacked.model.rows import Commit, Transition
from statebacked.model.step import SetTimer
from tests.sim.decisions import Decided, upgrade_is_due
from tests.sim.laws import (
    Life,
    Row,
    head_is_the_newest_state,
    history_is_contiguous,
    must,
    only_the_owner_writes,
    take_over,
)
from tests.sim.machine import Migrated, Reaction, decode_event, migrate, value_of

OUTSIDE = ("client", "timer", "instance")


# --- the decision ------------------------------------------------------------------------------------


def judge(d: Decided, after: Activation) -> None:
    is_upgraded = upgrade_is_due(d)
    must(
        (d.commit is not None and d.commit.version is not None) == is_upgraded,
        "a state that is migrated is committed, and nothing else changes the version",
    )
    must(d.has(phases.Become) == is_upgraded, "an instance is of its new version once that is durable")
    if is_upgraded:
        assert isinstance(d.before.phase, Upgrading)
        must(after.version == d.before.phase.version, "an upgrade comes to the version that was wished")
        must(after.desired is None, "a wish that came true is none any more")
        must(not isinstance(after.phase, Upgrading), "an upgrade that is done is over")
    else:
        must(after.version == d.before.version, "nothing else changes the version")
    what_waits_keeps_its_place(d, after)


def what_waits_keeps_its_place(d: Decided, after: Activation) -> None:
    """The envelope behind an upgrade stays first until it begins, is refused or turned away."""
    if not isinstance(after.phase, Upgrading) or isinstance(d.before.phase, Upgrading):
        return
    first = after.mailbox[0]
    must(first.source in OUTSIDE, "an upgrade is for an outside event")
    must(not isinstance(first.payload, Control | Initialize), "an upgrade is for an event")


def begins(life: Life | None, a: Activation, command: phases.Upgrade, *, is_draining: bool) -> None:
    """`a` is the activation as the decision left it."""
    assert life is not None
    must(not is_draining, "nothing begins while the server goes down")
    must(command.seq == life.seq, "the newest durable state is migrated")
    must(command.version == life.desired != life.version, "an instance is migrated to the wished version")
    must(not life.services and not life.in_order(), "an upgrade finds its instance settled")
    must(not a.waiting and not a.owed, "an upgrade finds its instance settled")
    life.told = told = [(timer.key, timer.send_id) for timer in command.timers]
    must(told == [(key, row.send_id) for key, row in life.timers.items()], "a migration sees every timer")


# --- the way there -----------------------------------------------------------------------------------


def any_path_is_a_shortest_one(rng: Random) -> None:
    """Of any migrations, between any two versions."""
    versions = [VersionId(f"v{n}") for n in range(rng.randint(1, 5))]
    migrations = [_migration(n, rng.choice(versions), rng.choice(versions)) for n in range(rng.randint(0, 9))]
    start, goal = rng.choice(versions), rng.choice(versions)
    path = find_path(migrations, start, goal)
    steps = _distance(migrations, start, goal)
    must((path is None) == (steps is None), "there is a path where migrations lead there")
    if path is None:
        return
    must(len(path) == steps, "a path is a shortest one")
    at = start
    for migration in path:
        newest = [m for m in migrations if (m.from_version, m.to_version) == (at, migration.to_version)][-1:]
        must(newest == [migration], "each migration of a path stands on the one before, and is the newest")
        at = migration.to_version
    must(at == goal, "a path leads to its goal")


def _migration(n: int, start: VersionId, goal: VersionId) -> Migration:
    return Migration(
        id=MigrationId(f"mig_{n}"),
        org=OrgId("org"),
        machine=MachineName("machine"),
        from_version=start,
        to_version=goal,
        created_at=Instant(n),
        xstate="5",
        bundle_sha256=b"",
    )


def _distance(migrations: Sequence[Migration], start: VersionId, goal: VersionId) -> int | None:
    reached, steps = {start}, 0
    while goal not in reached:
        wider = reached | {m.to_version for m in migrations if m.from_version in reached}
        if wider == reached:
            return None
        reached, steps = wider, steps + 1
    return steps


# --- the commit --------------------------------------------------------------------------------------


def follow_upgrade(
    life: Life, commit: Commit, at: Instant, epoch: Epoch
) -> list[tuple[Transition, Reaction]]:
    """Instead of a step: one transition, made of the state by the migration."""
    only_the_owner_writes(commit, epoch)
    history_is_contiguous(life, commit)
    must(len(commit.transitions) == 1, "an upgrade is a transition of its own")
    (transition,) = commit.transitions
    an_upgrade_stands_alone(life, commit, transition)
    must(transition.event_id == f"upgrade:{transition.seq}", "an upgrade is called by its place")
    is_named = all(timer.key.startswith(f"{transition.seq}.") for timer in commit.timers_set)
    must(is_named, "a timer that goes along is called by the place of its upgrade")
    migrated = migrate(life.state, life.told, commit.version or "")
    must(decode_event(transition.event).type == "upgrade", "the history says that it was an upgrade")
    must(transition.value == value_of(migrated.state), "the new state is the migrated one")
    take_over(life, transition, migrated.state, at)
    timers_go_along(life, commit, migrated, at)
    head_is_the_newest_state(life, commit)
    life.version, life.desired = transition.version, None
    return [(transition, Reaction(state=migrated.state))]


def an_upgrade_stands_alone(life: Life, commit: Commit, transition: Transition) -> None:
    own = [message for message in commit.messages if message.kind == "self"]
    others = (commit.consumed, commit.rejected, own, commit.services, commit.repeatables)
    must(not any(others), "the commit of an upgrade is for nothing else, and starts nothing")
    must(transition.version == commit.version == life.desired, "an upgrade comes to the wished version")
    must(transition.version != life.version, "an upgrade changes the version")
    must(transition.source == "upgrade" and transition.actor is None, "nobody else caused an upgrade")
    must(commit.wish is not None and commit.wish.version is None, "a wish that came true is none any more")
    must(not life.services and not life.in_order(), "an upgrade finds its instance settled")


def timers_go_along(life: Life, commit: Commit, migrated: Migrated, at: Instant) -> None:
    """Who moved keeps the due time; who is not named stays; fresh ones count from now."""
    before, life.timers = life.timers, {}
    removed: list[RowKey] = []
    renamed: list[Row] = []
    for key, row in before.items():
        to = migrated.moved.get(key)
        if key not in migrated.removed and (to is None or to[0] == row.send_id):
            life.timers[key] = row
            continue
        removed.append(key)
        if to is not None:
            renamed.append(Row(to[0], row.due, to[1], fire_at=row.due))
    fresh = [_fresh(operation, at) for operation in migrated.fresh]
    expected = [*renamed, *fresh]
    if migrated.state.snapshot.done:
        removed, expected = list(before), []
        life.timers.clear()
    must(sorted(commit.timers_removed) == sorted(removed), "timers of states that are gone go, no others")
    found = [(timer.send_id, timer.due, timer.event) for timer in commit.timers_set]
    must(found == [(row.send_id, row.due, row.event) for row in expected], "a timer that moves stays due")
    for timer, row in zip(commit.timers_set, expected, strict=True):
        must(timer.key not in before, "every timer has its own key")
        life.timers[timer.key] = row


def _fresh(operation: SetTimer, at: Instant) -> Row:
    due = Instant(at + operation.delay_ms)
    return Row(operation.send_id, due, operation.event, fire_at=due)
