"""What must hold, whatever happens: each law is a function of what a witness saw, named by what it says.

The witness plays every committed step again with the machine itself, resolves timers on its own and keeps its
own list of what runs; it shares no code with the core.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import Commit, Rejection, StateView, Status, Transition
from statebacked.model.step import CancelTimer
from statebacked.model.values import Json, Link, Parent, Target
from tests.sim.machine import (
    FIRST_VERSION,
    UNBORN,
    Event,
    Reaction,
    State,
    decode_event,
    indexes_of,
    public_of,
    react,
    restore,
    value_of,
)

UNWORDED_DONE = Json(b'{"type":"statebacked.child-done"}')
UNWORDED_ERROR = Json(b'{"type":"statebacked.service-failed"}')  # where the worker does not word it


class Broken(AssertionError):
    """A law does not hold."""


def must(holds: bool, law: str) -> None:
    if not holds:
        raise Broken(law)


@dataclass(slots=True)
class Row:
    """A timer row as the witness has it."""

    send_id: SendId
    due: Instant
    event: Json
    fire_at: Instant
    attempts: int = 0
    to: Target | None = None


@dataclass(slots=True)
class Life:
    """One instance as its commits tell it."""

    instance: InstanceId
    key: InstanceKey
    states: list[State] = field(default_factory=lambda: [UNBORN])
    views: list[StateView | None] = field(default_factory=lambda: [None])
    stored_context: bytes = b"null"
    events: dict[EnvelopeId, int] = field(default_factory=dict)
    seen: set[Json] = field(default_factory=set)
    timers: dict[RowKey, Row] = field(default_factory=dict)
    messages: dict[RowKey, Json] = field(default_factory=dict)
    services: set[ServiceRun] = field(default_factory=set)
    ended_in_silence: set[ServiceRun] = field(
        default_factory=set
    )  # their end changed nothing, or was refused
    status: Status = "running"
    desired: VersionId | None = None
    parent: Parent | None = None
    links: dict[str, Link] = field(default_factory=dict)
    floor: int = 0  # the ts of the last life of that name
    is_deleted: bool = False
    version: VersionId = FIRST_VERSION
    dead_letters: "dict[Cause, Row | Json]" = field(default_factory=dict)  # of its own
    told: list[tuple[RowKey, SendId]] = field(default_factory=list)  # timers that a migration has been shown
    redriven: set[RowKey] = field(default_factory=set)  # messages to itself that live again: in no order

    def in_order(self) -> list[RowKey]:
        """Its messages to itself, in the order in which they must be heard."""
        return [key for key in self.messages if key not in self.redriven]

    @property
    def seq(self) -> int:
        return len(self.states) - 1

    @property
    def state(self) -> State:
        return self.states[-1]


Lives = dict[InstanceId, Life]


def follow(
    life: Life, commit: Commit, at: Instant, epoch: Epoch, policy: Policy
) -> list[tuple[Transition, Reaction]]:
    """Check a commit that the store has just accepted, asked for at wall time `at`; take it over. What its
    transitions do."""
    only_the_owner_writes(commit, epoch)
    history_is_contiguous(life, commit)
    nothing_is_written_for_nothing(life, commit)
    rows = [_consume(life, cause) for cause in commit.consumed if cause.owner is None]
    if rows and commit.transitions:
        must(commit.transitions[0].event == rows[0], "a row that is consumed is the event of the transition")
    timers_set: list[Row] = []
    removed: list[RowKey] = []
    sends: list[Json] = []
    steps: list[tuple[Transition, Reaction]] = []
    for transition in commit.transitions:
        reaction = _replay(life, transition, at)
        steps.append((transition, reaction))
        event = decode_event(transition.event)
        _follow_services(life, event, reaction, transition)
        _follow_timers(life, reaction, at, timers_set, removed)
        sends += reaction.sends
    _compare_timers(life, commit, timers_set, removed)
    _compare_messages(life, commit, sends)
    life.status = commit.status or life.status
    life.desired = commit.wish.version if commit.wish is not None else life.desired
    if commit.deleted_at is not None:
        life.is_deleted = True
        return steps
    services_are_recorded(life, commit)
    head_is_the_newest_state(life, commit)
    if commit.rejected is not None and commit.rejected.cause.owner is None:
        failed_deliveries_are_retried(life, commit.rejected, at, policy)
    return steps


# --- the history -------------------------------------------------------------------------------------


def only_the_owner_writes(commit: Commit, epoch: Epoch) -> None:
    must(commit.epoch == epoch, "an owner whose epoch is over writes nothing")


def nothing_is_written_for_nothing(life: Life, commit: Commit) -> None:
    rows = bool(commit.consumed or commit.rejected or commit.repeatables)
    kept = bool(commit.parent or commit.status or commit.wish or commit.deleted_at is not None)
    changes = commit.head is not None or set(commit.services) != life.services
    must(rows or kept or changes, "a commit changes something")


def history_is_contiguous(life: Life, commit: Commit) -> None:
    must(commit.base == life.seq, "a commit stands on the newest state")
    must(
        (commit.birth is not None) == (life.seq == 0 and commit.head is not None), "an instance is born once"
    )
    if commit.birth is not None and commit.head is not None:
        must(commit.head.context is not None, "an instance is born with a context")
    seqs = [t.seq for t in commit.transitions]
    must(seqs == list(range(life.seq + 1, life.seq + 1 + len(seqs))), "history has no gap")


def _replay(life: Life, transition: Transition, at: Instant) -> Reaction:
    must(transition.version == life.version, "an event is computed by the version that the instance runs")
    reaction = react(life.state, transition.event, life.version)
    if not isinstance(reaction, Reaction):
        raise Broken("only an event that selects a transition stands in the history")
    a_state_follows_from_the_one_before(transition, reaction)
    take_over(life, transition, reaction.state, at)
    return reaction


def a_state_follows_from_the_one_before(transition: Transition, reaction: Reaction) -> None:
    must(transition.value == value_of(reaction.state), "each state follows from the one before by its event")


def an_event_is_once_in_the_history(life: Life, transition: Transition) -> None:
    if transition.event not in (UNWORDED_ERROR, UNWORDED_DONE):
        must(transition.event not in life.seen, f"an event is once in the history: {transition.event_id}")
    life.seen.add(transition.event)
    if not transition.event_id.startswith("inside:"):
        must(
            transition.event_id not in life.events,
            f"an envelope is once in the history: {transition.event_id}",
        )
    life.events[transition.event_id] = transition.seq


def take_over(life: Life, transition: Transition, state: State, at: Instant) -> None:
    """The state after a transition."""
    an_event_is_once_in_the_history(life, transition)
    ts_strictly_rises(life, transition, at)
    life.states.append(state)
    life.views.append(_view(transition, state))


def ts_strictly_rises(life: Life, transition: Transition, at: Instant) -> None:
    last = life.views[-1].ts if life.views[-1] is not None else life.floor
    must(transition.at == at, "a transition is dated by the wall clock of its decision")
    must(transition.ts == max(at, last + 1), "ts is the wall clock, and strictly rises")


def _view(transition: Transition, state: State) -> StateView:
    return StateView(
        seq=transition.seq,
        ts=transition.ts,
        value=value_of(state),
        tags=Json(b"[]"),
        done=state.snapshot.done,
        public=public_of(state),
    )


def head_is_the_newest_state(life: Life, commit: Commit) -> None:
    must((commit.head is None) == (not commit.transitions), "a head comes with its history")
    if commit.head is None:
        return
    must(commit.head.view == life.views[-1], "the head's view is of the newest state")
    if commit.head.context is not None:
        life.stored_context = commit.head.context
    must(restore(commit.head.snapshot, life.stored_context) == life.state, "the stored state is the newest")


def index_rows_are_those_of_the_head(life: Life, rows: Collection[tuple[str, str]]) -> None:
    indexed = () if life.is_deleted else indexes_of(life.state)
    expected = {(index, value) for index, values in indexed for value in values}
    must({*rows} == expected, "the rows of an index are what the newest state gives it")


# --- services ----------------------------------------------------------------------------------------


def _follow_services(life: Life, event: Event, reaction: Reaction, transition: Transition) -> None:
    run = _run_of(event, transition)
    if run is not None:
        must(run in life.services, f"an event comes from a run that runs: {run}")
        if event.is_ending() or transition.event == UNWORDED_ERROR:
            life.services.discard(run)
    gone = {*reaction.stops, *reaction.starts}
    life.services = {run for run in life.services if run.id not in gone}
    life.services |= {ServiceRun(id, transition.seq) for id in reaction.starts}
    if reaction.state.snapshot.done:
        life.services.clear()


def _run_of(event: Event, transition: Transition) -> ServiceRun | None:
    if transition.event == UNWORDED_ERROR and transition.event_id.startswith("failed:"):
        _, seq, id = transition.event_id.split(":")
        return ServiceRun(ServiceId(id), Seq(int(seq)))
    return None if event.run is None else ServiceRun(ServiceId(event.run[0]), Seq(event.run[1]))


def services_are_recorded(life: Life, commit: Commit) -> None:
    recorded = set(commit.services)
    must(recorded <= life.services, "a service that has ended is not recorded as running")
    must(len(recorded) == len(commit.services), "a service is recorded once")
    missing = life.services - recorded
    must(missing <= life.ended_in_silence, "a service that runs or is owed an error stays recorded")
    must(not (recorded & life.ended_in_silence), "a service whose end was consumed is not recorded any more")
    life.services = recorded


# --- timers and messages -----------------------------------------------------------------------------


def _consume(life: Life, cause: Cause) -> Json:
    if cause.table == "timer":
        must(cause.key in life.timers, "a timer fires once, and never once it is cancelled")
        return life.timers.pop(cause.key).event
    must(cause.key in life.messages, "a message is consumed once")
    is_next = cause.key in (*life.redriven, *life.in_order()[:1])
    must(is_next, "messages are consumed in the order of sending")
    life.redriven.discard(cause.key)
    return life.messages.pop(cause.key)


def _follow_timers(
    life: Life, reaction: Reaction, at: Instant, timers_set: list[Row], removed: list[RowKey]
) -> None:
    """Keys are the core's affair: rows that this commit sets have none yet, and wait in `timers_set`."""
    for operation in reaction.timers:
        if isinstance(operation, CancelTimer):
            _cancel_newest(life, operation.send_id, timers_set, removed)
        else:
            due = Instant(at + operation.delay_ms)
            timers_set.append(Row(operation.send_id, due, operation.event, fire_at=due, to=operation.to))
    if reaction.state.snapshot.done:
        removed += life.timers
        life.timers.clear()
        timers_set.clear()


def _cancel_newest(life: Life, send_id: SendId, timers_set: list[Row], removed: list[RowKey]) -> None:
    for n in range(len(timers_set) - 1, -1, -1):
        if timers_set[n].send_id == send_id:
            del timers_set[n]
            return
    for key in reversed(life.timers):
        if life.timers[key].send_id == send_id:
            removed.append(key)
            del life.timers[key]
            return


def _compare_timers(life: Life, commit: Commit, timers_set: list[Row], removed: list[RowKey]) -> None:
    found = [(t.send_id, t.due, t.event, t.to) for t in commit.timers_set]
    must(
        found == [(r.send_id, r.due, r.event, r.to) for r in timers_set], "timers are stored as they were set"
    )
    must(
        sorted(removed) == sorted(commit.timers_removed), "cancel removes the newest of its send id, no other"
    )
    for timer, row in zip(commit.timers_set, timers_set, strict=True):
        must(timer.key not in life.timers, "every timer has its own key")
        life.timers[timer.key] = row


def _compare_messages(life: Life, commit: Commit, sends: list[Json]) -> None:
    own = [m for m in commit.messages if m.kind == "self"]
    must([m.event for m in own] == sends, "what the machine sends itself is stored with its step")
    for message in own:
        must(message.key not in life.messages, "every message has its own key")
        life.messages[message.key] = message.event


def failed_deliveries_are_retried(life: Life, rejection: Rejection, at: Instant, policy: Policy) -> None:
    key = rejection.cause.key
    must(rejection.at == at, "a rejection is dated by the wall clock")
    if rejection.cause.table == "message":
        must(key in life.messages, "only a message that is there is rejected")
        must(rejection.retry_at is None, "a message to itself is given up at once")
        life.dead_letters[rejection.cause] = life.messages.pop(key)
        life.redriven.discard(key)
        return
    must(key in life.timers, "only a timer that is pending is rejected")
    row = life.timers[key]
    row.attempts += 1
    must(rejection.attempts == row.attempts, "every failed delivery counts one attempt")
    if row.attempts >= policy.attempts_max:
        must(rejection.retry_at is None, "the last attempt is the last")
        life.dead_letters[rejection.cause] = life.timers.pop(key)
        return
    pause = min(policy.retry_first_ms * 2 ** (row.attempts - 1), policy.retry_longest_ms)
    must(rejection.retry_at == at + pause, "a failed delivery is retried with back-off")
    row.fire_at = Instant(at + pause)
