"""Activations, signals and steps for the tables, short to write down."""

from typing import TypeVar

from statebacked.core import phases
from statebacked.core.instance import activate, conceive, decide
from statebacked.core.phases import Activation, Command, Decision, Deliver, Signal, Stepping
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause, Envelope, External, Initialize, Internal
from statebacked.model.ids import (
    ActivationNumber,
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    Monotonic,
    OrgId,
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import Commit, InstanceRecord, Message, PendingTimer, StateView
from statebacked.model.step import CancelTimer, Chattered, Performed, Refused, Sent, SetTimer, Step, Stepped
from statebacked.model.values import Json, Now

INSTANCE = InstanceId("ins_1")
KEY = InstanceKey(OrgId("org_1"), MachineName("m"), InstanceName("n"))
VERSION = VersionId("ver_1")
NUMBER = ActivationNumber(7)
EPOCH = Epoch(3)
POLICY = Policy()
WALL = 1_000_000  # wall time of monotonic time 0

C = TypeVar("C")


def at(mono: int) -> Now:
    return Now(Instant(WALL + mono), Monotonic(mono))


def view(seq: int, *, ts: int = 500, done: bool = False) -> StateView:
    return StateView(
        seq=Seq(seq), ts=Instant(ts), value=Json(b'"a"'), tags=Json(b"[]"), done=done, public=Json(b"1")
    )


def record(
    *,
    seq: int = 1,
    services: tuple[ServiceRun, ...] = (),
    timers: tuple[PendingTimer, ...] = (),
    messages: tuple[Message, ...] = (),
) -> InstanceRecord:
    return InstanceRecord(
        id=INSTANCE,
        key=KEY,
        version=VERSION,
        status="running",
        created_at=Instant(1),
        view=view(seq),
        snapshot=Json(b"{}"),
        context=Json(b"{}"),
        services=services,
        timers=timers,
        messages=messages,
    )


def loaded(**parts: object) -> Activation:
    """An instance at seq 1, loaded and settled."""
    return activate(record(**parts), NUMBER, EPOCH)  # type: ignore[arg-type]


def unborn() -> Activation:
    return conceive(INSTANCE, KEY, VERSION, NUMBER, EPOCH)


# --- envelopes and signals ---------------------------------------------------------------------------


def run(id: str = "s", seq: int = 2) -> ServiceRun:
    return ServiceRun(ServiceId(id), Seq(seq))


def init(id: str = "c0") -> Deliver:
    return Deliver(
        Envelope(
            id=EnvelopeId(id), payload=Initialize(None), source="client", auth=Json(b"{}"), wants_reply=True
        )
    )


def client(id: str = "c1", *, auth: bytes = b"{}") -> Deliver:
    event = External(Json(b'{"type":"go"}'))
    return Deliver(
        Envelope(id=EnvelopeId(id), payload=event, source="client", auth=Json(auth), wants_reply=True)
    )


def pending(key: str = "1.0", send_id: str = "t", due: int = WALL) -> PendingTimer:
    return PendingTimer(RowKey(key), SendId(send_id), Instant(due))


def timer(key: str = "1.0", *, attempts: int = 0) -> Deliver:
    return Deliver(
        Envelope(
            id=EnvelopeId(f"timer:{key}"),
            payload=External(Json(b'{"type":"after"}')),
            source="timer",
            cause=Cause("timer", RowKey(key)),
            attempts=attempts,
        )
    )


def message(key: str = "1.0") -> Message:
    return Message(key=RowKey(key), event=Json(b'{"type":"self"}'))


def inside(token: int, *, service: ServiceRun | None = None, ends: bool = False, after: int = 0) -> Sent:
    return Sent(
        internal=Internal(Json(b'{"type":"in"}'), token), service=service, ends_service=ends, after=after
    )


def chat(token: int, service: ServiceRun | None, *, ends: bool = False) -> Chattered:
    return Chattered(inside(token, service=service, ends=ends))


def step(**parts: object) -> Step:
    """A selected transition that changes the context to 2."""
    defaults: dict[str, object] = {"value": b'"b"', "snapshot": b"{2}", "context": b"2", "public": b"2"}
    return Step(changed=True, **{**defaults, **parts})  # type: ignore[arg-type]


UNCHANGED = Step(changed=False)


def starting(*ids: str, **parts: object) -> Step:
    return step(starts=tuple(ServiceId(id) for id in ids), has_effects=True, **parts)


def setting(*send_ids: str, delay_ms: int = 100) -> tuple[SetTimer, ...]:
    return tuple(SetTimer(SendId(id), delay_ms, Json(b'{"type":"after"}')) for id in send_ids)


def cancelling(send_id: str) -> CancelTimer:
    return CancelTimer(SendId(send_id))


def stepped(a: Activation, *steps: Step) -> Stepped:
    """The answer to the compute under way."""
    return Stepped(a.computes, steps)


def refused(a: Activation, code: str = "machine-error") -> Refused:
    return Refused(a.computes, code, "no")


def performed(seq: int, *sent: Sent) -> Performed:
    return Performed(Seq(seq), sent)


# --- deciding ----------------------------------------------------------------------------------------


def deciding(a: Activation, signal: Signal, now: int = 0, policy: Policy = POLICY) -> Decision:
    return decide(a, signal, at(now), policy)


def after(a: Activation, *signals: Signal, now: int = 0, policy: Policy = POLICY) -> Activation:
    for signal in signals:
        a = decide(a, signal, at(now), policy).activation
    return a


def stepping(a: Activation | None = None, *, now: int = 0, policy: Policy = POLICY) -> Activation:
    """The event of client c1 is being computed."""
    return after(a or loaded(), client("c1"), now=now, policy=policy)


def serving(*ids: str, now: int = 0, policy: Policy = POLICY) -> Activation:
    """Client c1 waits while services that its event started run."""
    a = stepping(now=now, policy=policy)
    a = after(a, stepped(a, starting(*(ids or ("s",)))), now=now, policy=policy)
    return after(a, performed(2), now=now, policy=policy)


def computing(a: Activation) -> list[str]:
    """Ids of the envelopes that are being computed."""
    return [e.id for e in a.phase.envelopes] if isinstance(a.phase, Stepping) else []


def waiting_in_mailbox(a: Activation) -> list[str]:
    return [e.id for e in a.mailbox]


def owed(a: Activation) -> list[ServiceRun | None]:
    return [e.service for e in a.owed]


def commands(decision: Decision, kind: type[C]) -> list[C]:
    return [command for command in decision.commands if isinstance(command, kind)]


def names(decision: Decision) -> list[str]:
    """The commands but for the alarm."""
    return [type(c).__name__ for c in decision.commands if not isinstance(c, phases.WakeAt)]


def only(decision: Decision, kind: type[C]) -> C:
    found = commands(decision, kind)
    assert len(found) == 1, found
    return found[0]


def committed(decision: Decision) -> Commit:
    assert decision.commit is not None
    return decision.commit


def told(decision: Decision) -> list[tuple[str, str]]:
    """Who is refused, and with which code."""
    return [(c.to, c.code) for c in commands(decision, phases.ReplyRefused)]


def answered(decision: Decision) -> list[tuple[str, int]]:
    """Who is answered, and with which seq."""
    return [(c.to, c.view.seq) for c in commands(decision, phases.Reply)]


def alarm(command_source: Decision) -> Command | None:
    return next((c for c in command_source.commands if isinstance(c, phases.WakeAt)), None)
