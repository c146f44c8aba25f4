"""A machine that is a pure function: what it does follows from its state and the event alone, so that whoever
holds the history can play it again. Every event carries fuel; what it causes carries less, so all ends."""

from collections.abc import Iterator, Sequence
from zlib import crc32

import msgspec
from msgspec import Struct

from statebacked.model.ids import InstanceName, MachineName, RowKey, SendId, ServiceId, VersionId
from statebacked.model.step import CancelTimer, Outgoing, SendTo, SetTimer, Spawn, Unlink
from statebacked.model.values import TO_PARENT, Address, Indexed, Json, Target

DELAYS_MS = (0, 1, 20, 300, 2_000, 9_000, 40_000)
SERVICES = ("s0", "s1", "s2")
NAMES = ("i0", "i1", "k0", "k1")  # who may be sent to; the last two are those that others make
SEND_IDS = ("t0", "t1")
ENDINGS = ("done", "error")
FIRST_VERSION = VersionId("ver")
MOVED = 1_000_000  # numbers of the events of timers that an upgrade has moved


class Event(Struct, frozen=True, omit_defaults=True):
    """`number` tells one sending from another. `run` is the service run that it comes from. `order`: of an
    event of the machine to itself, (step, position in it). `kin`: what it causes may be for others; 0 no,
    1 yes, 2 makes and leaves children all the time, which speak to their parents."""

    type: str
    number: int = 0
    fuel: int = 0
    run: tuple[str, int] | None = None
    order: tuple[int, int] | None = None
    kin: int = 0

    def is_ending(self) -> bool:
        return self.run is not None and self.type in ENDINGS


class Context(Struct, frozen=True, omit_defaults=True):
    count: int
    public: int | None = None


class Snapshot(Struct, frozen=True):
    """Everything but the context. `live`: the services that the machine believes to be running."""

    steps: int
    digest: int
    live: tuple[str, ...]
    done: bool


class State(Struct, frozen=True):
    snapshot: Snapshot
    context: Context


class Reaction(Struct, frozen=True):
    """What a selected transition does. `sends` are the events of the machine to itself, as data."""

    state: State
    timers: tuple[SetTimer | CancelTimer, ...] = ()
    sends: tuple[Json, ...] = ()
    starts: tuple[ServiceId, ...] = ()
    stops: tuple[ServiceId, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    output: Json | None = None
    has_effects: bool = False


UNBORN = State(Snapshot(0, 0, (), False), Context(0, None))

encode = msgspec.json.encode
decode_event = msgspec.json.Decoder(Event).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode
_decode_context = msgspec.json.Decoder(Context).decode


def restore(snapshot: bytes, context: bytes) -> State:
    return State(_decode_snapshot(snapshot), _decode_context(context))


def value_of(state: State) -> Json:
    return Json(b'"%d"' % state.snapshot.digest)


def public_of(state: State) -> Json | None:
    public = state.context.public
    return None if public is None else Json(b"%d" % public)


def indexes_of(state: State) -> Indexed:
    count = state.context.count
    return (
        ("by-third", (str(count // 3),)),
        ("by-part", tuple({str(count % 5): None, str(count // 7): None})),
    )


def react(state: State, raw: bytes, version: str) -> Reaction | str | None:
    """A reaction, None when no transition is selected, or the code of a refusal. No two versions react
    alike."""
    event = decode_event(raw)
    if state.snapshot.done or event.type == "unknown":
        return None
    salt = state.snapshot.digest ^ (state.context.count * 2_654_435_761) % 2**32
    dice = _dice(crc32(raw, salt if version == FIRST_VERSION else crc32(version.encode(), salt)))
    refusals = 22 if event.type in ("after", "done") else 8
    if next(dice) % 100 < refusals:
        return "machine-error"
    if state.snapshot.steps and next(dice) % 100 < 12:
        return None
    return _transition(state, event, dice)


class Migrated(Struct, frozen=True):
    """What a state becomes in another version. Timers that are neither moved nor removed stay."""

    state: State
    moved: dict[RowKey, tuple[SendId, Json]]
    removed: tuple[RowKey, ...]
    fresh: tuple[SetTimer, ...]


def migrate(state: State, timers: Sequence[tuple[RowKey, SendId]], version: str) -> Migrated:
    before = state.snapshot
    dice = _dice(crc32(version.encode(), before.digest ^ (before.steps * 40_503) % 2**32))
    steps = before.steps + 1
    moved: dict[RowKey, tuple[SendId, Json]] = {}
    removed: list[RowKey] = []
    for n, (key, send_id) in enumerate(timers):
        match next(dice) % 5:
            case 0 | 1:
                event = Event("after", MOVED + steps * 100 + n)
                moved[key] = SendId(SEND_IDS[next(dice) % len(SEND_IDS)]), Json(encode(event))
            case 2:
                moved[key] = send_id, Json(encode(Event("after", MOVED + steps * 100 + n)))
            case 3:
                removed.append(key)
            case _:
                pass
    fresh = tuple(_fresh(steps, n, dice) for n in range((0, 0, 1, 2)[next(dice) % 4]))
    context = Context(state.context.count + 1, next(dice) % 9) if next(dice) % 2 else state.context
    digest = crc32(encode(("upgrade", version, steps)), before.digest ^ next(dice) % 2**32)
    done = before.done or next(dice) % 12 == 0
    after = State(Snapshot(steps, digest, () if done else before.live, done), context)
    return Migrated(after, moved, tuple(removed), fresh)


def _fresh(steps: int, n: int, dice: Iterator[int]) -> SetTimer:
    send_id = SendId(SEND_IDS[next(dice) % len(SEND_IDS)])
    event = Json(encode(Event("after", steps * 10 + n)))
    return SetTimer(send_id, DELAYS_MS[next(dice) % len(DELAYS_MS)], event)


def _dice(seed: int) -> Iterator[int]:
    x = seed
    while True:
        x = (x * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        yield x >> 33


def _transition(state: State, event: Event, dice: Iterator[int]) -> Reaction:
    steps = state.snapshot.steps + 1
    fuel = event.fuel - 1
    timers = _timers(steps, fuel, dice, event.kin)
    sends: tuple[Json, ...] = ()
    if fuel >= 0 and next(dice) % 100 < 25:
        count = 1 + next(dice) % 2
        sends = tuple(_send(steps, n, fuel, event.kin) for n in range(count))
    live = [s for s in state.snapshot.live if not (event.is_ending() and event.run and event.run[0] == s)]
    starts, stops = _services(live, fuel, dice)
    live = [s for s in live if s not in stops]
    live += [s for s in starts if s not in live]
    done = steps > 1 and next(dice) % 100 < (1, 6, 4)[event.kin]
    context = state.context
    if next(dice) % 100 < 60:
        count = context.count + 1 + next(dice) % 5
        context = Context(count, None if count % 3 == 0 else count // 2)
    digest = crc32(encode((event.type, event.number, steps)), state.snapshot.digest ^ next(dice) % 2**32)
    after = State(Snapshot(steps, digest, () if done else tuple(live), done), context)
    return Reaction(
        state=after,
        timers=timers,
        sends=sends,
        starts=() if done else tuple(ServiceId(s) for s in starts),
        stops=tuple(ServiceId(s) for s in stops),
        outgoing=_outgoing(fuel, dice, event.kin) if event.kin else (),
        output=Json(b"%d" % digest) if done and digest % 2 else None,
        has_effects=bool(starts or stops) or next(dice) % 100 < 25,
    )


def _outgoing(fuel: int, dice: Iterator[int], kin: int) -> tuple[Outgoing, ...]:
    items: list[Outgoing] = []
    for _ in range(((0, 0, 1, 1, 2) if kin == 1 else (1, 1, 1, 2, 3))[next(dice) % 5]):
        choice = next(dice) % 6
        service = ServiceId(NAMES[2 + next(dice) % 2])
        if fuel < 0 or choice < kin:
            items.append(Unlink(service))
        elif choice < 2 + kin:
            context = Json(b'{"seed":%d}' % (next(dice) % 100)) if next(dice) % 2 else None
            version = FIRST_VERSION if next(dice) % 3 == 0 else None
            items.append(Spawn(service, _address(2 + next(dice) % 2), version, context))
        else:
            event = Json(encode(Event("message", next(dice), fuel, kin=kin)))
            items.append(SendTo(_target(dice, kin), event))
    return tuple(items)


def _target(dice: Iterator[int], kin: int) -> Target:
    n = next(dice) % (len(NAMES) + (2 if kin == 1 else 8))
    return _address(n) if n < len(NAMES) else TO_PARENT


def _address(n: int) -> Address:
    return Address(MachineName("machine"), InstanceName(NAMES[n]))


def _timers(steps: int, fuel: int, dice: Iterator[int], kin: int) -> tuple[SetTimer | CancelTimer, ...]:
    operations: list[SetTimer | CancelTimer] = []
    if next(dice) % 100 >= 45:
        return ()
    for n in range(1 + next(dice) % 3):
        send_id = SendId(SEND_IDS[next(dice) % len(SEND_IDS)])
        if fuel < 0 or next(dice) % 100 < 40:
            operations.append(CancelTimer(send_id))
        else:
            event = Event("after", steps * 10 + n, fuel, kin=kin)
            delay_ms = DELAYS_MS[next(dice) % len(DELAYS_MS)]
            to = _target(dice, kin) if kin and next(dice) % 3 == 0 else None
            if to is not None:
                event = Event("message", next(dice), fuel, kin=kin)
            operations.append(SetTimer(send_id, delay_ms, Json(encode(event)), to))
    return tuple(operations)


def _send(steps: int, n: int, fuel: int, kin: int) -> Json:
    """Every send leaves room before and after it for one that is made while performing."""
    return Json(encode(Event("self", steps * 10 + n, fuel, order=(steps, 10 * (n + 1)), kin=kin)))


def _services(live: list[str], fuel: int, dice: Iterator[int]) -> tuple[list[str], list[str]]:
    """A service that runs already and is started again is stopped first; most machines say so."""
    stops = [s for s in live if next(dice) % 100 < 10]
    if fuel < 0 or next(dice) % 100 >= 50:
        return [], stops
    starts = [s for s in SERVICES if next(dice) % 100 < 45]
    for id in starts:
        if id in live and id not in stops and next(dice) % 2:
            stops.append(id)
    return starts, stops
