"""From one version of a machine to another: when, by which way, and what it commits.

A wish stands until the next outside envelope finds the instance settled: nothing runs then, and what a lost
service was owed has been told to the old version. The envelope stays first in the mailbox while the state is
migrated. The upgrade is a commit and a transition of its own; then the envelope begins, on the new version.
If it fails nothing has changed, the envelope is refused, and the wish stands.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from statebacked.core import bounds, mailbox, rejections, steps
from statebacked.core.phases import (
    SETTLED,
    Activation,
    Arm,
    Become,
    Command,
    Post,
    Publish,
    Settled,
    Upgrade,
    Upgraded,
    UpgradeFailed,
    Upgrading,
)
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope, External, Initialize, Wish
from statebacked.model.ids import EnvelopeId, Monotonic, RowKey, Seq, VersionId
from statebacked.model.machine import Migration
from statebacked.model.rows import Commit, PendingTimer, Timer
from statebacked.model.step import Arrival
from statebacked.model.values import Now

After = tuple[Activation, Commit | None]


def is_due(a: Activation, envelope: Envelope) -> bool:
    """Whether a wish is to come true before that envelope, which is the next."""
    if a.desired is None or not isinstance(a.phase, Settled):
        return False
    return not mailbox.is_inside(envelope) and not isinstance(envelope.payload, Initialize)


def begin(a: Activation, now: Now, policy: Policy, out: list[Command]) -> Activation:
    """The envelope that is next is still in the mailbox."""
    assert a.desired is not None
    number = a.computes + 1
    out.append(Upgrade(number, a.seq, a.desired, a.timers))
    upgrade_by = Monotonic(now.mono + policy.upgrade_ms)
    phase = Upgrading(number, a.desired, a.mailbox[0].id, upgrade_by)
    return replace(a, phase=phase, computes=number, throttled_until=None)


def answered(
    a: Activation, signal: Upgraded | UpgradeFailed, now: Now, policy: Policy, out: list[Command]
) -> After:
    """The state of the new version is there, or will not come."""
    phase = a.phase
    if not isinstance(phase, Upgrading) or phase.number != signal.number:
        return a, None
    if isinstance(signal, UpgradeFailed):
        return fail(a, signal, now, policy, out)
    return _arrive(a, phase, signal, now, policy, out)


def _arrive(
    a: Activation, phase: Upgrading, signal: Upgraded, now: Now, policy: Policy, out: list[Command]
) -> After:
    draft = steps.Draft()
    pending = _carry(a, signal.arrival, Seq(a.seq + 1), draft)
    carried = replace(a, phase=SETTLED, version=phase.version, desired=None, timers=pending)
    envelope = _upgrade_envelope(a, signal)
    after = steps.apply(carried, envelope, signal.arrival.step, now, draft)
    if reason := bounds.excess(after, draft, (), policy):
        return fail(a, UpgradeFailed(signal.number, "migration-failed", reason), now, policy, out)
    assert draft.head is not None
    out += [Become(phase.version), Publish(draft.head.view)]
    if draft.timers_set:
        timers = draft.timers_set.values()
        out.append(Arm(tuple([rejections.due_timer(a, timer, timer.due, 0) for timer in timers])))
    if draft.family is not None and draft.family.messages:
        out.append(Post(tuple(draft.family.messages)))
    return after, replace(draft.commit(a, after, now), version=phase.version, wish=Wish(None))


def fail(a: Activation, signal: UpgradeFailed, now: Now, policy: Policy, out: list[Command]) -> After:
    """Nothing has changed, and the envelope that was to come next is refused: if it is still there, for
    callers are turned away when the server goes down."""
    assert isinstance(a.phase, Upgrading)
    back = replace(a, phase=SETTLED)
    if not a.mailbox or a.mailbox[0].id != a.phase.due:
        return back, None
    envelope, left = a.mailbox[0], replace(back, mailbox=a.mailbox[1:])
    return rejections.reject(left, envelope, signal.code, signal.message, now, policy, out)


def _upgrade_envelope(a: Activation, signal: Upgraded) -> Envelope:
    """Its id is unique in the history, like any other."""
    id = EnvelopeId(f"upgrade:{a.seq + 1}")
    return Envelope(id=id, payload=External(signal.event), source="upgrade")


def _carry(a: Activation, arrival: Arrival, seq: Seq, draft: steps.Draft) -> tuple[PendingTimer, ...]:
    """The pending timers that go on. One that has another name now is another row, due when the old was."""
    moved = {one.key: one for one in arrival.moved}
    kept: list[PendingTimer] = []
    renamed: list[PendingTimer] = []
    for timer in a.timers:
        to = moved.get(timer.key)
        if timer.key not in arrival.removed and (to is None or to.send_id == timer.send_id):
            kept.append(timer)
            continue
        draft.timers_removed.append(timer.key)
        if to is not None:
            key = RowKey(f"{seq}.m{len(renamed)}")
            draft.timers_set[key] = Timer(key=key, send_id=to.send_id, due=timer.due, event=to.event)
            renamed.append(PendingTimer(key, to.send_id, timer.due))
    return (*kept, *renamed)


def find_path(
    migrations: Sequence[Migration], start: VersionId, goal: VersionId
) -> tuple[Migration, ...] | None:
    """A shortest path; None when there is no path, empty when start is the goal.

    `migrations` are all of a machine's in order of creation. Between two versions the newest one counts: so a
    migration that turned out to be wrong is put right by another.
    """
    onward: dict[VersionId, dict[VersionId, Migration]] = {}
    for migration in migrations:
        onward.setdefault(migration.from_version, {})[migration.to_version] = migration
    came_by: dict[VersionId, Migration | None] = {start: None}
    frontier = [start]
    while frontier and goal not in came_by:
        reached = []
        for source in frontier:
            for target, migration in onward.get(source, {}).items():
                if target not in came_by:
                    came_by[target] = migration
                    reached.append(target)
        frontier = reached
    return _walk_back(came_by, goal) if goal in came_by else None


def _walk_back(came_by: dict[VersionId, Migration | None], goal: VersionId) -> tuple[Migration, ...]:
    path: list[Migration] = []
    at = goal
    while (migration := came_by[at]) is not None:
        path.append(migration)
        at = migration.from_version
    return tuple(reversed(path))
