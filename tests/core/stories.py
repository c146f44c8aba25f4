"""Golden stories: what an activation hears, and below the dashes what it decides.

A story is blocks of input lines, `----`, and the output they must give. `python -m tests.core.stories` writes
the outputs anew, to be read before they are committed. Times are milliseconds since the story began.

    new | load services=s@1 timers=1.0:t:500 messages=1.0      an activation
    wait 500                                                   time passes (nothing is heard)
    init c0 | event c1 | timer 1.0                             an envelope arrives
    step [unchanged] [starts=s] [stops=s] [set=t:500] [cancel=t] [sends=2] [effects] [done]
    refuse CODE | performed [self:1@0] [s:2] [s:3!] | say s:4 | say s:5!     (! ends the service)
    lost [guilty] | tick | drain | gone
"""

from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

from tests.core import given

from statebacked.core import phases
from statebacked.core.instance import decide
from statebacked.core.phases import (
    Activation,
    Command,
    Decision,
    Performing,
    Settled,
    Settling,
    Signal,
    Stepping,
    Upgrading,
)
from statebacked.model.envelopes import Cause, ServiceFailed
from statebacked.model.ids import RowKey, SendId, Seq, ServiceId, ServiceRun
from statebacked.model.rows import Commit, PendingTimer
from statebacked.model.step import (
    CancelTimer,
    Chattered,
    Performed,
    Refused,
    Sent,
    SetTimer,
    Step,
    Stepped,
    WorkerLost,
)
from statebacked.model.values import Json

FOLDER = Path(__file__).with_name("transcripts")
ERROR = Json(b'{"type":"error"}')


def told(text: str) -> str:
    """The story with the outputs that it really gives."""
    story = _Story()
    blocks = []
    for block in text.strip().split("\n\n"):
        inputs = block.split("\n----")[0]
        lines = [line for line in inputs.splitlines() if not line.startswith("#")]
        output = [line for each in lines for line in story.hear(each)]
        blocks.append("\n".join([inputs, "----", *output]) if lines else inputs)
    return "\n\n".join(blocks) + "\n"


class _Story:
    def __init__(self) -> None:
        self._a: Activation = given.loaded()
        self._now = 0

    def hear(self, line: str) -> list[str]:
        word, *rest = line.split()
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        match word:
            case "new":
                self._a = given.unborn()
            case "load":
                self._a = _load(options)
            case "wait":
                self._now += int(rest[0])
            case _:
                decision = decide(
                    self._a, self._signal(word, rest, options), given.at(self._now), given.POLICY
                )
                self._a = decision.activation
                return list(_shown(decision))
        return []

    def _signal(self, word: str, rest: list[str], options: dict[str, str]) -> Signal:
        match word:
            case "init":
                return given.init(rest[0])
            case "event":
                return given.client(rest[0])
            case "timer":
                return given.timer(rest[0], attempts=int(options.get("attempts", "0")))
            case "step":
                return Stepped(self._a.computes, (self._step(rest, options),))
            case "refuse":
                return Refused(self._a.computes, rest[0], "no")
            case "performed":
                return Performed(self._a.seq, tuple(self._sent(part) for part in rest))
            case "say":
                return Chattered(self._sent(rest[0]))
            case "lost":
                return WorkerLost(guilty="guilty" in rest)
            case "tick":
                return phases.Tick()
            case "drain":
                return phases.Drain()
            case "gone":
                return phases.CauseGone(tuple(_cause(part) for part in rest))
            case _:
                raise ValueError(word)

    def _step(self, rest: list[str], options: dict[str, str]) -> Step:
        if "unchanged" in rest:
            return given.UNCHANGED
        assert isinstance(self._a.phase, Stepping)
        failed = isinstance(self._a.phase.envelopes[0].payload, ServiceFailed)
        sets = [part.split(":") for part in _list(options, "set")]
        starts = tuple(ServiceId(id) for id in _list(options, "starts"))
        return given.step(
            event=ERROR if failed else None,
            starts=starts,
            stops=tuple(ServiceId(id) for id in _list(options, "stops")),
            timers=(
                *(SetTimer(SendId(id), int(ms), Json(b'{"type":"after"}')) for id, ms in sets),
                *(CancelTimer(SendId(id)) for id in _list(options, "cancel")),
            ),
            sends=tuple(Json(b'{"type":"self"}') for _ in range(int(options.get("sends", "0")))),
            has_effects=bool(starts) or "effects" in rest,
            done="done" in rest,
        )

    def _sent(self, text: str) -> Sent:
        sender, _, token = text.rstrip("!").partition(":")
        token, _, after = token.partition("@")
        runs = [run for run in self._a.services if run.id == sender]
        service = None if sender == "self" else runs[0] if runs else given.run(sender, 99)
        return given.inside(int(token), service=service, ends=text.endswith("!"), after=int(after or 0))


def _list(options: dict[str, str], name: str) -> list[str]:
    return options[name].split(",") if name in options else []


def _load(options: dict[str, str]) -> Activation:
    services = [part.split("@") for part in _list(options, "services")]
    timers = [part.split(":") for part in _list(options, "timers")]
    return given.loaded(
        services=tuple(ServiceRun(ServiceId(id), Seq(int(seq))) for id, seq in services),
        timers=tuple(
            PendingTimer(RowKey(key), SendId(id), given.at(int(due)).wall) for key, id, due in timers
        ),
        messages=tuple(given.message(key) for key in _list(options, "messages")),
    )


# --- output --------------------------------------------------------------------------------------------


def _shown(decision: Decision) -> Iterable[str]:
    if decision.commit is not None:
        yield _commit(decision.commit)
    for command in decision.commands:
        yield f"  {_command(command)}"
    yield f"  = {_state(decision.activation)}"


def _commit(commit: Commit) -> str:
    parts = [f"seq {t.seq} by {t.event_id}" for t in commit.transitions]
    parts += [f"consume {cause.table} {cause.key}" for cause in commit.consumed]
    parts += [f"set {t.key} {t.send_id} at {_ms(t.due)}" for t in commit.timers_set]
    parts += [f"remove {key}" for key in commit.timers_removed]
    parts += [f"message {m.key}" for m in commit.messages]
    if commit.version is not None:
        parts.append(f"version {commit.version}")
    if commit.wish is not None:
        parts.append(f"wish {commit.wish.version}")
    if commit.rejected is not None:
        rejected = commit.rejected
        fate = "give up" if rejected.retry_at is None else f"retry at {_ms(rejected.retry_at)}"
        parts.append(f"{fate} {rejected.cause.table} {rejected.cause.key} after {rejected.attempts}")
    parts.append(f"services {_runs(commit.services)}")
    return "  commit: " + ", ".join(parts)


def _cause(text: str) -> Cause:
    table, key = text.split(":")
    assert table in ("timer", "message")
    return Cause(table, RowKey(key))  # type: ignore[arg-type]


def _command(command: Command) -> str:
    match command:
        case phases.Compute(number, seq, envelopes):
            return f"compute {number} on seq {seq}: {' '.join(e.id for e in envelopes)}"
        case phases.Perform(seq):
            return f"perform seq {seq}"
        case phases.Stop(services):
            return f"stop {_runs(services)}"
        case phases.Close():
            return "close"
        case phases.Reply(to, view):
            return f"reply to {to}: seq {view.seq}"
        case phases.ReplyRefused(to, code):
            return f"refuse {to}: {code}"
        case phases.Publish(view):
            return f"publish seq {view.seq}"
        case phases.WakeAt(at):
            return "no alarm" if at is None else f"wake at {at}"
        case phases.Arm(timers):
            return "arm " + " ".join(f"{due.timer.key} at {_ms(due.fire_at)}" for due in timers)
        case phases.Complain(envelope, code):
            return f"complain about {envelope.id}: {code}"
        case _:
            return _command_for_others(command)


def _command_for_others(command: Command) -> str:
    match command:
        case phases.Post(messages):
            return "post " + " ".join(f"{m.kind} {m.key}" for m in messages)
        case phases.Delivered(causes):
            return "delivered " + " ".join(f"{cause.owner} {cause.key}" for cause in causes)
        case phases.Redeliver(cause, attempts, at):
            return f"redeliver {cause.owner} {cause.key} at {_ms(at)} after {attempts}"
        case phases.Upgrade(number, seq, version, timers):
            told = " ".join(timer.key for timer in timers)
            return f"upgrade {number} on seq {seq} to {version}: {told}".rstrip(" :")
        case phases.Become(version):
            return f"become {version}"
        case phases.Rescan() | phases.Gone() | phases.GoOn():
            return {"Rescan": "rescan", "Gone": "gone", "GoOn": "go on"}[type(command).__name__]
        case _:
            raise AssertionError(command)


def _state(a: Activation) -> str:
    match a.phase:
        case Settled():
            phase = "settled"
        case Settling(settle_by):
            phase = f"settling until {settle_by}"
        case Stepping(envelopes=envelopes):
            phase = f"stepping {' '.join(e.id for e in envelopes)}"
        case Performing(seq=seq):
            phase = f"performing seq {seq}"
        case Upgrading(version=version):
            phase = f"upgrading to {version}"
        case _:
            assert_never(a.phase)
    parts = [phase, f"seq {a.seq}"]
    if a.services:
        parts.append(f"runs {_runs(a.services)}")
    if a.owed:
        parts.append("owes " + " ".join(e.id for e in a.owed))
    if a.mailbox:
        parts.append("mailbox " + " ".join(e.id for e in a.mailbox))
    if a.waiting:
        parts.append("waiting " + " ".join(w.to for w in a.waiting))
    return "; ".join(parts)


def _runs(services: Iterable[ServiceRun]) -> str:
    return " ".join(f"{run.id}@{run.seq}" for run in services) or "none"


def _ms(wall: int) -> int:
    return wall - given.WALL


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.txt")):
        path.write_text(told(path.read_text()))
