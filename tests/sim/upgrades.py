"""What must hold of an instance that changes its version: when, in which commit, what becomes of timers."""

from statebacked.core import phases
from statebacked.core.phases import Activation, Upgrading
from statebacked.model.ids import Epoch, Instant, RowKey
from statebacked.model.values import Commit, Control, Initialize, SetTimer, Transition
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
