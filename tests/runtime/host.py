"""The least host that an instance needs: names each step's seq, performs, hands back what services send."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.runtime.driver import Frame, Header, WorkerProcess

Value = Any  # JSON, as tests write it down
Run = tuple[str, int]


@dataclass
class Step:
    """A changed step, its sections parsed. `context` None: unchanged."""

    header: Header
    event: Value = None
    value: Value = None
    tags: Value = None
    snapshot: str = ""
    context: str | None = None
    public: Value = None
    timers: list[tuple[Value, ...]] = field(default_factory=list)
    sends: list[Value] = field(default_factory=list)
    out: list[tuple[Value, ...]] = field(
        default_factory=list
    )  # each with its event or context, if it has one
    output: Value = None

    @property
    def changed(self) -> bool:
        changed: bool = self.header["changed"]
        return changed


@dataclass
class Refusal:
    code: str
    message: str


def steps_of(frame: Frame) -> list[Step]:
    header, sections = frame
    rest = iter(sections)
    steps = [_step(step, rest) for step in header["steps"]]
    assert next(rest, None) is None
    return steps


def _step(header: Header, rest: Any) -> Step:  # Any: an iterator of sections
    if not header["changed"]:
        assert header == {"changed": False}
        return Step(header)
    step = Step(header)
    if header["ev"]:
        step.event = json.loads(next(rest))
    step.value, step.tags, step.snapshot = json.loads(next(rest)), json.loads(next(rest)), next(rest)
    if header["ctx"]:
        step.context = next(rest)
    if header["pub"]:
        step.public = json.loads(next(rest))
    for timer in header["timers"]:
        step.timers.append((*timer, json.loads(next(rest))) if timer[0] == "set" else tuple(timer))
    step.sends = [json.loads(next(rest)) for _ in range(header["sends"])]
    for item in header.get("out", []):
        step.out.append(_out(item, rest))
    if header.get("fin"):
        step.output = json.loads(next(rest))
    return step


def _out(item: Value, rest: Any) -> tuple[Value, ...]:  # Any: as above
    match item:
        case ["send", to]:
            return "send", to, json.loads(next(rest))
        case ["spawn", id, child, version, has_context]:
            return "spawn", id, child, version, json.loads(next(rest)) if has_context else None
        case _:
            return tuple(item)


@dataclass
class Waiting:
    """An envelope from inside: its item, and the event for an item that carries one."""

    item: Header
    payload: str | None = None
    ends: bool = False


class Instance:
    """One activation. Events are sent one at a time; `settle` runs until no service is left."""

    def __init__(self, worker: WorkerProcess, a: int = 1, name: str = "i") -> None:
        self.worker = worker
        self.a = a
        self.name = name
        self.seq = 0
        self.value: Value = None
        self.done = False
        self.snapshot = self.context_text = ""
        self.services: set[Run] = set()
        self.timers: list[tuple[str, int, Value]] = []
        self.waiting: deque[Waiting] = deque()
        self.history: list[str] = []
        self._has_to_restore = False

    @property
    def context(self) -> Value:
        return json.loads(self.context_text)

    # --- events

    def create(self, context: Value = None) -> Step | Refusal:
        has_context = context is not None
        item = {"k": "init", "source": "client", "auth": False, "context": has_context}
        self.history.append("xstate.init")
        return self._one(item, [json.dumps(context)] if has_context else [])

    def send(self, event: str | Value, source: str = "client") -> Step | Refusal:
        event = {"type": event} if isinstance(event, str) else event
        return self._event({"k": "event", "source": source, "auth": False}, json.dumps(event))

    def message(self, event: str | Value, machine: str, name: str) -> Step | Refusal:
        """An event of another instance."""
        event = {"type": event} if isinstance(event, str) else event
        self.history.append(event["type"])
        auth = {"stateBackedSender": {"machineName": machine, "machineInstanceName": name}}
        item = {"k": "event", "source": "instance", "auth": True}
        return self._one(item, [json.dumps(event), json.dumps(auth)])

    def child_done(self, service: Run, output: Value = None) -> Step | Refusal:
        """A persistent child has reached its final state."""
        self.history.append(f"done {service[0]}")
        item = {"k": "done", "source": "instance", "auth": False, "service": service}
        return self._one(item, [json.dumps(output)])

    def fail(self, service: Run, message: str = "lost") -> Step | Refusal:
        """The error event of a service that is gone."""
        self.services.discard(service)
        self.history.append(f"failed {service[0]}")
        item = {"k": "failed", "source": "service", "auth": False, "service": service}
        return self._one({**item, "code": "service-lost", "message": message}, [])

    def fire(self, send_id: str) -> Step | Refusal:
        """The oldest timer of that send id comes due."""
        timer = next(timer for timer in self.timers if timer[0] == send_id)
        self.timers.remove(timer)
        return self.send(timer[2], "timer")

    def deliver(self) -> Step | Refusal:
        """The next event from inside."""
        waiting = self.waiting.popleft()
        if waiting.payload is not None:
            return self._event(waiting.item, waiting.payload)
        if waiting.ends:
            self.services.discard(tuple(waiting.item["service"]))
        self.history.append("inside")
        return self._one(waiting.item, [])

    def settle(self) -> None:
        """Deliver what waits, and what running services send, until none runs."""
        while self.waiting or self.services:
            if not self.waiting:
                self.hear()
            self.deliver()

    def hear(self) -> Value:
        """Wait for the next event of a running service."""
        header, sections = self.worker.receive("inside")
        assert header["a"] == self.a
        item = {"k": "inside", "source": "service", "auth": False}
        item |= {"token": header["token"], "service": header["service"]}
        self.waiting.append(Waiting(item, None, header["ends"]))
        return json.loads(sections[0])

    # --- the live copy

    def drop(self) -> None:
        """The worker forgets it; a new activation goes on from the stored state. Services are lost."""
        self.worker.send({"t": "close", "a": self.a})
        self.a += 1_000
        self.services.clear()
        self.waiting.clear()
        self._has_to_restore = True

    def stop(self, *services: Run) -> None:
        self.worker.send({"t": "stop", "a": self.a, "services": services})
        self.services.difference_update(services)

    def may_read(self, *auths: Value) -> Value:
        header = {"t": "read", "n": 77, "a": self.a, "seq": self.seq, "name": self.name, "base": False}
        self.worker.send({**header, "auths": len(auths)}, [json.dumps(auth) for auth in auths])
        return self.worker.receive("readable", "lacks")[0].get("ok")

    # --- one envelope

    def _event(self, item: Header, payload: str) -> Step | Refusal:
        self.history.append(json.loads(payload)["type"])
        return self._one(item, [payload])

    def _one(self, item: Header, payloads: Sequence[str]) -> Step | Refusal:
        base = (self.snapshot, self.context_text) if self._has_to_restore else None
        frame = self.worker.compute(self.a, self.seq, [item], payloads, base, self.name)
        if frame[0]["t"] == "lacks":
            base = (self.snapshot, self.context_text)
            frame = self.worker.compute(self.a, self.seq, [item], payloads, base, self.name)
        self._has_to_restore = False
        if frame[0]["t"] == "refused":
            return Refusal(frame[0]["code"], frame[0]["message"])
        (step,) = steps_of(frame)
        if step.changed:
            self._apply(step)
        return step

    def _apply(self, step: Step) -> None:
        self.seq += 1
        self.value, self.snapshot, self.done = step.value, step.snapshot, step.header["done"]
        self.context_text = self.context_text if step.context is None else step.context
        ended = {*step.header["stops"], *step.header["starts"]}
        self.services = {run for run in self.services if run[0] not in ended}
        self.services |= {(id, self.seq) for id in step.header["starts"]}
        self._apply_timers(step)
        sends = [self._own(event) for event in step.sends]
        performed = self._perform() if step.header["effects"] else []
        for after, waiting in reversed(performed):
            sends.insert(after, waiting)
        self.waiting.extendleft(reversed(sends))
        if self.done:
            self.services.clear()
            self.timers.clear()

    def _apply_timers(self, step: Step) -> None:
        for timer in step.timers:
            if timer[0] == "set":
                if len(timer) == 4:  # not for another instance
                    self.timers.append((timer[1], timer[2], timer[3]))
                continue
            newest = next((t for t in reversed(self.timers) if t[0] == timer[1]), None)
            if newest is not None:
                self.timers.remove(newest)

    def _own(self, event: Value) -> Waiting:
        return Waiting({"k": "event", "source": "self", "auth": False}, json.dumps(event))

    def _perform(self) -> list[tuple[int, Waiting]]:
        self.worker.send({"t": "perform", "a": self.a, "seq": self.seq})
        header, sections = self.worker.receive("performed")
        assert (header["a"], header["seq"]) == (self.a, self.seq)
        assert len(header["sent"]) == len(sections)
        return [(sent["after"], self._sent(sent)) for sent in header["sent"]]

    def _sent(self, sent: Header) -> Waiting:
        item: Header = {"k": "inside", "auth": False, "token": sent["token"]}
        if "service" not in sent:
            return Waiting({**item, "source": "self"})
        return Waiting({**item, "source": "service", "service": sent["service"]}, None, "ends" in sent)
