"""What must hold of one activation, judged at each command that it executes and whenever it rests."""

from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from statebacked.core import fairness, phases
from statebacked.core.phases import Activation, Performing, Settled, Settling, Stepping, Upgrading
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope, External, Internal
from statebacked.model.ids import EnvelopeId, ServiceRun
from statebacked.model.rows import DueTimer, StateView
from statebacked.model.step import Chattered, Performed
from statebacked.model.values import Json, Now
from tests.sim.decisions import Decided, is_owed_error, kept_of, known_ids, sent_to_nobody
from tests.sim.laws import Life, must
from tests.sim.machine import decode_event

SLACK_MS = 400  # pipes, commits and a loaded machine
OUTSIDE = ("client", "timer", "instance")


@dataclass(slots=True)
class Watch:
    """What a bystander knows of an activation without asking the core."""

    policy: Policy
    untold: int = 0  # dead letters of its own that live again, and of which it has not been told yet
    began: dict[EnvelopeId, float] = field(default_factory=dict)
    arrivals: dict[EnvelopeId, int] = field(default_factory=dict)
    alive: set[ServiceRun] = field(default_factory=set)  # started here, and nothing heard to the contrary
    unheard: dict[Json, ServiceRun | None] = field(default_factory=dict)  # inside events given, not begun
    prompt: set[Json] = field(default_factory=set)  # those of them that were sent while performing
    given: set[Json] = field(default_factory=set)
    deadline: float = 0.0
    tentative: tuple[EnvelopeId, float] | None = None
    last_order: tuple[int, int] = (0, 0)
    last_number: dict[ServiceRun, int] = field(default_factory=dict)
    stepping_since: float | None = None
    performing_since: float | None = None
    loaded_at: int = 0  # the seq at which it was loaded
    asked: int = 0  # the newest number of a compute or an upgrade
    computing: int = 0
    upgrading: int = 0
    upgrading_since: float | None = None
    is_unavailable: bool = False  # no worker could be had for the last upgrade
    performing: int = 0
    performed: int = 0
    is_guilty: bool = False  # the worker that was lost last was killed for what it computed
    times: dict[EnvelopeId, int] = field(default_factory=dict)  # of being computed, as the first of its batch
    losses: dict[EnvelopeId, int] = field(default_factory=dict)  # of workers that ended computing it
    over: set[ServiceRun] = field(default_factory=set)  # their error event was refused
    allowance: int | None = None  # thousandths of steps that no client causes, left when one began last
    allowance_at: int = 0
    empty_since: int | None = None  # its bucket has been empty again and again from then on
    is_throttling_told: bool = False
    last_published: int = 0
    is_draining: bool = False
    is_abandoned: bool = False
    may_stop: bool = False


# --- what is given to the core -----------------------------------------------------------------------


def hear(w: Watch, d: Decided) -> None:
    w.is_unavailable = isinstance(d.signal, phases.UpgradeFailed) and d.signal.code == "unavailable"
    match d.signal:
        case phases.Deliver(envelope) if envelope.id not in known_ids(d):  # a row comes again
            w.times.pop(envelope.id, None)
            w.losses.pop(envelope.id, None)
        case Chattered(sent):
            if sent.service in d.before.services:
                w.unheard[sent.internal.event] = sent.service
        case Performed(seq):
            if isinstance(d.before.phase, Performing) and d.before.phase.seq == seq:
                w.performed = seq
            for sent in kept_of(d):
                w.unheard[sent.internal.event] = sent.service
                w.prompt.add(sent.internal.event)
        case _:
            pass


def losses_so_far(w: Watch, a: Activation) -> int:
    return w.losses.get(a.phase.envelopes[0].id, 0) if isinstance(a.phase, Stepping) else 0


def answer_by(w: Watch, a: Activation) -> float:
    """When the worker's time is over."""
    match a.phase:
        case Stepping():
            since = w.stepping_since
        case Performing():
            since = w.performing_since
        case Upgrading():
            return inf if w.upgrading_since is None else w.upgrading_since + w.policy.upgrade_ms
        case _:
            since = None
    return inf if since is None else since + w.policy.compute_ms


def allowance_left(w: Watch, now: Now) -> int:
    """Thousandths of a step."""
    full = 1_000 * w.policy.unasked_burst
    if w.allowance is None:
        return full
    return min(full, w.allowance + w.policy.unasked_per_s * (now.mono - w.allowance_at))


def _rested(w: Watch) -> int:
    """What a bucket gains in a second, if it is not full before."""
    return min(1_000 * w.policy.unasked_per_s, 1_000 * w.policy.unasked_burst)


def throttling_is_told_once(w: Watch, d: Decided, *, is_held_back: bool) -> None:
    """Who has long had to wait, again and again, without resting for a second in between, is throttled."""
    is_due = False
    if is_held_back and w.empty_since is None:
        w.empty_since = d.now.mono
    elif is_held_back and not w.is_throttling_told:
        assert w.empty_since is not None
        is_due = w.is_throttling_told = d.now.mono - w.empty_since >= w.policy.throttled_ms
    must(d.has(phases.Throttled) == is_due, "that an instance is throttled is told once")


def throttling_shows(w: Watch, a: Activation, now: Now) -> None:
    is_long = w.empty_since is not None and now.mono - w.empty_since >= w.policy.throttled_ms
    left = allowance_left(w, now)
    is_throttled = is_long and left < _rested(w)
    must(fairness.is_throttled(a, now, w.policy) == is_throttled, "who is throttled shows it until it rests")
    is_full = left >= 1_000 * w.policy.unasked_burst
    must(fairness.is_full(a, now, w.policy) == is_full, "who has a full bucket may be forgotten")


def lose_worker(w: Watch, a: Activation | None, *, is_guilty: bool = False) -> None:
    """`a`: when it died; None: it was told to forget its copy."""
    w.is_guilty = is_guilty
    if a is not None and isinstance(a.phase, Stepping):
        first = a.phase.envelopes[0]
        w.losses[first.id] = w.losses.get(first.id, 0) + 1
    w.alive.clear()
    w.unheard.clear()
    w.is_abandoned = True
    w.tentative = None


def lose_service(w: Watch, run: ServiceRun | None) -> None:
    if run is not None:
        w.alive.discard(run)
        for event in [e for e, r in w.unheard.items() if r == run]:
            del w.unheard[event]


# --- commands ----------------------------------------------------------------------------------------


def computes(w: Watch, life: Life | None, a: Activation, command: phases.Compute, now: Now) -> None:
    """One compute begins. `a` is the activation as the decision left it."""
    _accept_tentative(w)
    first = command.envelopes[0]
    must(not w.is_draining, "nothing begins while the server goes down")
    must(command.seq == (0 if life is None else life.seq), "an event is computed on the newest durable state")
    a_batch_holds_plain_events(w, a, command)
    callers_take_turns(w, a, command)
    if life is not None:
        owed_errors_come_first(w, life, a, first)
        nothing_overtakes_a_self_send(w, life, a, first)
        an_inside_event_is_of_a_run_that_runs(w, life, first)
        inside_events_keep_their_order(w, life, first)
        the_deadline_is_checked_first(w, a, first, now)
        nobody_waits_for_the_next_event(a, first)
        a_wish_comes_true_first(life, a, first)
    for envelope in command.envelopes:
        w.began.pop(envelope.id, None)  # in the order of the newest time
        w.began[envelope.id] = now.mono
    assert isinstance(a.phase, Stepping)
    if first.source in OUTSIDE or isinstance(a.phase.before, Settled):
        w.tentative = (first.id, now.mono)
    _each_question_has_a_new_number(w, command.number)
    w.computing = command.number
    if first.source != "client":
        left = allowance_left(w, now)
        must(left >= 1_000, "a step that no client asks for waits for its bucket")
        if left >= _rested(w):
            w.empty_since, w.is_throttling_told = None, False
        w.allowance, w.allowance_at = left - 1_000, now.mono
    if first.source in OUTSIDE:  # ids of inside events repeat when a worker is replaced
        w.times[first.id] = w.times.get(first.id, 0) + 1
        ends = w.times[first.id] <= w.policy.losses_max
        must(ends, "an event that ends its worker is not computed for ever")
    w.stepping_since = now.mono


def _each_question_has_a_new_number(w: Watch, number: int) -> None:
    must(number > w.asked, "each question to a worker has a number of its own")
    w.asked = number


def _accept_tentative(w: Watch) -> None:
    if w.tentative is not None:
        w.deadline = w.tentative[1] + w.policy.settle_ms
        w.tentative = None


def upgrades(w: Watch, command: phases.Upgrade, now: Now) -> None:
    _accept_tentative(w)
    _each_question_has_a_new_number(w, command.number)
    w.upgrading = command.number
    w.upgrading_since = now.mono


def complains(w: Watch, d: Decided | None, envelope: Envelope) -> None:
    if d is not None and sent_to_nobody(d):
        return  # the event itself happened
    _buys_no_time(w, envelope.id)
    w.times.pop(envelope.id, None)  # a timer comes again
    w.losses.pop(envelope.id, None)
    if envelope.ends_service:
        lose_service(w, envelope.service)


def refuses(w: Watch, life: Life | None, a: Activation, command: phases.ReplyRefused, now: Now) -> None:
    _buys_no_time(w, command.to)
    match command.code:
        case "mailbox-full":
            pass  # see decisions.is_full
        case "unavailable":
            must(w.is_draining or w.is_unavailable, "only a server that goes down is unavailable")
        case "conflict":
            must(life is not None, "only a name that exists is taken")
        case "not-found":
            must(life is None or life.is_deleted, "only an instance that does not exist is not found")
        case "invalid-state":
            must(a.status == "paused", "only a paused instance takes nothing")
        case "migration-failed":
            must(w.upgrading > 0, "only an upgrade that was asked for fails")
        case "machine-timeout":
            late = w.stepping_since is not None and now.mono - w.stepping_since >= w.policy.compute_ms
            must(late, "a compute has its time")
        case "machine-fault":
            fatal = w.is_guilty or w.times[command.to] >= w.policy.losses_max
            must(fatal, "an event is blamed when its worker is killed for it, or dies again and again")
        case _:
            must(command.to in w.began, "a machine refuses only what it has seen")


def _buys_no_time(w: Watch, id: EnvelopeId) -> None:
    if w.tentative is not None and w.tentative[0] == id:
        w.tentative = None


def a_batch_holds_plain_events(w: Watch, a: Activation, command: phases.Compute) -> None:
    must(1 <= len(command.envelopes) <= w.policy.batch_max, "a batch is not longer than the policy says")
    if len(command.envelopes) > 1:
        plain = all(_is_plain(e) for e in command.envelopes)
        must(plain, "only events of clients are computed together")
    left = a.mailbox[0] if a.mailbox else None
    if left is not None and _is_plain(left) and all(_is_plain(e) for e in command.envelopes):
        must(len(command.envelopes) == w.policy.batch_max, "a batch is as long as the policy allows")


def _is_plain(envelope: Envelope) -> bool:
    return envelope.source == "client" and isinstance(envelope.payload, External)


def callers_take_turns(w: Watch, a: Activation, command: phases.Compute) -> None:
    begun = [w.arrivals[e.id] for e in command.envelopes if e.source == "client"]
    waiting = [w.arrivals[e.id] for e in a.mailbox if e.source == "client"]
    must(begun == sorted(begun), "events of clients are computed in the order of arrival")
    must(not begun or not waiting or begun[-1] < min(waiting), "no caller overtakes another")


def owed_errors_come_first(w: Watch, life: Life, a: Activation, first: Envelope) -> None:
    is_settled = isinstance(a.phase, Stepping) and isinstance(a.phase.before, Settled)
    is_awaited = bool(a.mailbox)
    owed = life.services - w.alive
    if is_owed_error(first):
        must(first.service in owed, "only a service that is lost or stopped gets its error")
        must(first.service not in w.over, "a refused error is over")
        must(not is_settled or is_awaited, "an error that is owed waits for the next event")
    else:
        must(not owed, f"errors of lost and stopped services come before the next event: {owed}")


def nothing_overtakes_a_self_send(w: Watch, life: Life, a: Activation, first: Envelope) -> None:
    """What arrives, from outside or from a running service, waits until the machine's own turn is over."""
    is_prompt = isinstance(first.payload, Internal) and first.payload.event in w.prompt
    if first.source in OUTSIDE or (isinstance(first.payload, Internal) and not is_prompt):
        must(not life.in_order(), "nothing overtakes a self-send")
        prompt = [run for event, run in w.unheard.items() if event in w.prompt]
        heard = all(run is not None and run not in a.services for run in prompt)
        must(heard, "nothing overtakes what was sent while performing")
    in_order = life.in_order()
    if first.source == "self" and first.cause is not None and first.cause.key in in_order:
        must(in_order[0] == first.cause.key, "self-sends are delivered in the order of sending")


def an_inside_event_is_of_a_run_that_runs(w: Watch, life: Life, first: Envelope) -> None:
    if first.source != "service" or is_owed_error(first):
        return
    must(first.service in life.services, "an event of a run that has ended is dropped")
    must(first.service in w.alive, "an event of a run that is stopped or lost is dropped")


def inside_events_keep_their_order(w: Watch, life: Life, first: Envelope) -> None:
    match first.payload:
        case Internal(event=raw):
            must(raw not in w.given, "an inside event is computed once")
            w.given.add(raw)
            w.unheard.pop(raw, None)
        case External(event=raw):
            pass
        case _:
            return
    event = decode_event(raw)
    if first.service is not None:
        must(
            event.number > w.last_number.get(first.service, 0),
            "a service is heard in the order of its events",
        )
        w.last_number[first.service] = event.number
    if first.source == "self" and (first.cause is None or first.cause.key in life.in_order()):
        assert event.order is not None
        must(event.order >= w.last_order, "self-sends are heard in the order of sending")
        w.last_order = event.order


def the_deadline_is_checked_first(w: Watch, a: Activation, first: Envelope, now: Now) -> None:
    assert isinstance(a.phase, Stepping)
    if first.source == "service" and isinstance(a.phase.before, Settling):
        must(now.mono < w.deadline, "past the deadline no event of a service begins")


def nobody_waits_for_the_next_event(a: Activation, first: Envelope) -> None:
    inside = [e for e in a.mailbox if e.source not in OUTSIDE]
    if first.source in OUTSIDE and not a.services and not inside:
        must(not a.waiting, "where nothing runs callers are answered before the next event begins")


def a_wish_comes_true_first(life: Life, a: Activation, first: Envelope) -> None:
    assert isinstance(a.phase, Stepping)
    if isinstance(a.phase.before, Settled) and first.source in OUTSIDE:
        must(life.desired is None, "a wish comes true before the next event from outside")


def performs(w: Watch, life: Life | None, seq: int, now: Now) -> None:
    _accept_tentative(w)
    must(life is not None and life.seq == seq, "no effect before its commit")
    assert life is not None
    w.alive |= {run for run in life.services if run.seq == seq}
    w.performing = seq
    w.performing_since = now.mono


def replies(w: Watch, life: Life | None, a: Activation, command: phases.Reply, now: Now) -> None:
    if not isinstance(a.phase, Stepping):
        _accept_tentative(w)
    view = command.view
    assert life is not None
    must(view.seq == life.seq, "a reply shows the latest state")
    must(life.events.get(command.to, 0) <= view.seq, "a reply shows what its own event did")
    must(not (view.is_unchanged and command.to in life.events), "what has changed something is not unchanged")
    inside = any(e.source in ("self", "service") for e in a.mailbox)
    is_over = w.is_draining or w.is_abandoned or a.status == "paused" or command.to not in w.began
    if (a.services or inside) and not is_over:
        waited = now.mono - w.began[command.to] >= w.policy.settle_ms
        must(waited or now.mono >= w.deadline, "a reply waits until the instance settles")


def tells(life: Life | None, view: StateView) -> None:
    """Also of an owner whose time is over, and who does not know it yet."""
    must(life is not None and view.seq <= life.seq, "nobody is told before the commit")
    assert life is not None
    must(replace(view, is_unchanged=False) == life.views[view.seq], "what is told is durable")


def publishes(w: Watch, command: phases.Publish) -> None:
    view = command.view
    must(view.seq > w.last_published, "every push is newer than the one before")
    w.last_published = view.seq


def stops(w: Watch, a: Activation, command: phases.Stop, now: Now) -> None:
    if not isinstance(a.phase, Stepping):
        _accept_tentative(w)
    if not w.is_draining and not w.may_stop:
        must(now.mono >= w.deadline, "services are not stopped before the deadline")
    for run in command.services:
        lose_service(w, run)


def arms(w: Watch, life: Life, due: DueTimer) -> None:
    must(due.timer.key in life.timers, "only a durable timer is armed")
    row = life.timers[due.timer.key]
    found = (due.timer.send_id, due.timer.due, due.timer.event, due.attempts, due.fire_at)
    must(
        found == (row.send_id, row.due, row.event, row.attempts, row.fire_at),
        "a timer is armed as it is stored",
    )
    must(due.instance == life.instance and due.key == life.key, "a timer is armed for its instance")


# --- at rest -----------------------------------------------------------------------------------------


def rest(w: Watch, life: Life | None, a: Activation, outside: dict[EnvelopeId, Envelope], now: Now) -> None:
    """No decision is under way and no commit either: the activation and the record say the same."""
    memory_and_record_agree(life, a, untold=w.untold)
    nobody_is_forgotten(w, a, outside)
    phases_end(w, a, now)
    what_can_go_on_goes_on(w, a)
    mailbox_is_bounded(w, a)
    throttling_shows(w, a, now)
    if life is not None and isinstance(a.phase, Settled):
        must(not (w.alive & life.services), "when an instance is settled no service runs")
    if isinstance(a.phase, Settled | Settling) and not a.mailbox:
        heard = all(run is not None and run not in a.services for run in w.unheard.values())
        must(heard, "what a running service says is heard")
    if life is not None:
        must(life.seq in (w.loaded_at, w.last_published), "every new state is pushed")
    w.is_abandoned = False
    w.may_stop = False


def memory_and_record_agree(life: Life | None, a: Activation, *, untold: int) -> None:
    if life is None:
        must(a.view is None and a.seq == 0, "an instance that is not stored does not exist")
        return
    must(a.instance == life.instance and a.key == life.key, "memory and record agree: identity")
    must(a.seq == life.seq and a.view == life.views[-1], "memory and record agree: state")
    must((a.status, a.desired) == (life.status, life.desired), "memory and record agree: status and wish")
    must(a.parent == life.parent, "memory and record agree: the parent")
    must({*a.links} == {*life.links.values()}, "memory and record agree: children")
    must(a.version == life.version, "memory and record agree: version")
    is_same = list(life.timers) == [t.key for t in a.timers]
    must(is_same or untold > 0, "memory and record agree: timers")
    for timer in a.timers:
        row = life.timers[timer.key]
        must((timer.send_id, timer.due) == (row.send_id, row.due), "memory and record agree: timers")
    begun = a.phase.envelopes if isinstance(a.phase, Stepping) else ()
    own = a.phase.own if isinstance(a.phase, Performing) else ()
    runs = [*a.services, *(e.service for e in a.owed)]
    runs += [e.service for e in begun if is_owed_error(e)]
    must(len(runs) == len(set(runs)), "a run is running or owed, once")
    must(set(runs) == life.services, "memory and record agree: services")
    causes = [e.cause for e in (*begun, *a.mailbox, *own) if e.source == "self"]
    keys = [cause.key for cause in causes if cause is not None]
    must(len(keys) == len(set(keys)), "a message of its own waits once")
    ordered = life.in_order()
    must([k for k in keys if k in ordered] == ordered, "memory and record agree: messages")
    must(life.redriven <= {*keys} or untold > 0, "memory and record agree: redriven messages")


def nobody_is_forgotten(w: Watch, a: Activation, outside: dict[EnvelopeId, Envelope]) -> None:
    if not outside:
        must(not a.waiting, "only callers wait for a reply")
        return
    begun = a.phase.envelopes if isinstance(a.phase, Stepping) else ()
    places = [e.id for e in (*begun, *a.mailbox) if e.wants_reply] + [c.to for c in a.waiting]
    must(sorted(places) == sorted(outside), "every caller is waited for in exactly one place")


def what_can_go_on_goes_on(w: Watch, a: Activation) -> None:
    match a.phase:
        case Stepping(number=number):
            must(number == w.computing, "what is under way has been asked for")
        case Performing(seq=seq):
            must(seq == w.performing, "what is under way has been asked for")
            must(seq != w.performed, "what is performed is over")
        case Upgrading(number=number):
            must(number == w.upgrading, "what is under way has been asked for")
        case _ if a.throttled_until is not None or a.status == "paused":
            pass  # see decisions.what_waits_waits_for_its_bucket
        case Settling():
            must(not a.owed and not a.mailbox, "an instance that settles takes what waits")
            must(bool(a.services), "an instance in which nothing runs is settled")
        case Settled():
            must(w.is_draining or not a.mailbox, "a settled instance takes what waits")


def phases_end(w: Watch, a: Activation, now: Now) -> None:
    if not isinstance(a.phase, Stepping):
        w.stepping_since = None
    elif w.stepping_since is not None:
        must(now.mono - w.stepping_since <= w.policy.compute_ms + SLACK_MS, "a compute ends at compute_by")
    if not isinstance(a.phase, Performing):
        w.performing_since = None
    elif w.performing_since is not None:
        must(now.mono - w.performing_since <= w.policy.compute_ms + SLACK_MS, "a perform ends at perform_by")
    if not isinstance(a.phase, Upgrading):
        w.upgrading_since = None
    elif w.upgrading_since is not None:
        waited = now.mono - w.upgrading_since
        must(waited <= w.policy.upgrade_ms + SLACK_MS, "an upgrade ends at upgrade_by")
    longest = 2 * (w.policy.compute_ms + SLACK_MS)
    for caller in a.waiting:
        waited = now.mono - w.began[caller.to]
        must(waited <= w.policy.settle_ms + longest, "a caller is answered settle_ms after its event began")
    if a.services and w.tentative is None:
        must(now.mono <= w.deadline + longest, "no service outlives settle_by")
    if isinstance(a.phase, Settling):
        must(not w.is_draining, "a server that goes down settles now")


def mailbox_is_bounded(w: Watch, a: Activation) -> None:
    if len(a.mailbox) > w.policy.mailbox_per_service_max:
        services = [e.service for e in a.mailbox if e.service is not None]
        for run in set(services):
            bound = w.policy.mailbox_per_service_max + 3  # what it said while it started comes on top
            must(services.count(run) <= bound, "a service does not fill the mailbox")
    size = len(a.mailbox)
    if size > w.policy.mailbox_per_auth_max:
        clients = [e.auth for e in a.mailbox if e.source == "client" and e.auth is not None]
        must(len(clients) <= w.policy.mailbox_max + w.policy.batch_max, "the mailbox is bounded")
        for auth in set(clients):
            fair = clients.count(auth) <= w.policy.mailbox_per_auth_max + w.policy.batch_max
            must(fair, "no caller fills the mailbox alone")
