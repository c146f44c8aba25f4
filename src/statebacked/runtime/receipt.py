"""What a worker's sections are checked for at receipt, once, and the model values made of them.

A worker runs code that nobody vouches for: every section must be UTF-8 and exactly one JSON value of the kind
that its place asks for, at most 128 deep; counts and index names must be what the host allows. A breach is a
ProtocolError; the worker is killed for it.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final, cast

import msgspec

from statebacked.model import limits
from statebacked.model.envelopes import Internal
from statebacked.model.errors import InvalidName
from statebacked.model.ids import (
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
    parse_instance_name,
    parse_machine_name,
    parse_version_id,
)
from statebacked.model.json_text import is_deeper_than
from statebacked.model.step import (
    Arrival,
    CancelTimer,
    Moved,
    Outgoing,
    SendTo,
    Sent,
    SetTimer,
    Spawn,
    Step,
    Unlink,
)
from statebacked.model.values import TO_PARENT, Address, Json, Target
from statebacked.runtime.framing import ProtocolError
from statebacked.runtime.worker_frames import (
    ArrivedFrame,
    CancelHead,
    Inside,
    Outlined,
    PerformedFrame,
    SendHead,
    SentHead,
    SetHead,
    SpawnHead,
    StepFrame,
    StepHead,
    UnlinkHead,
)

JSON_DEPTH_MAX: Final = 128
DELAY_MS_MAX: Final = 8_640_000_000_000_000  # the last instant that a JavaScript Date can name


class _EventShape(msgspec.Struct, gc=False):
    type: str


_skip = msgspec.json.Decoder(msgspec.Raw).decode  # refuses bad syntax, a second value, lone surrogates
_skip_event = msgspec.json.Decoder(_EventShape).decode
_skip_tags = msgspec.json.Decoder(list[str]).decode

_FLAT_BYTES_MAX: Final = 2 * JSON_DEPTH_MAX  # nothing deeper is shorter
_VALUE_STARTS: Final = frozenset({b'"', b"{"})
_UNCHANGED = Step(changed=False)


def check_json(section: Json) -> Json:
    """One JSON value of any kind. Raises ProtocolError."""
    try:
        _skip(section)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"a section that is no JSON: {error}") from error
    return section if len(section) <= _FLAT_BYTES_MAX and section.isascii() else _check_text(section)


def _check_event(section: Json) -> Json:
    try:
        _skip_event(section)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"an event that is no JSON object with a type: {error}") from error
    return _check_text(section)


def _check_value(section: Json) -> Json:
    if section[:1] not in _VALUE_STARTS:
        raise ProtocolError("a state value that is neither string nor object")
    return check_json(section)


def _check_tags(section: Json) -> Json:
    try:
        _skip_tags(section)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"tags that are no array of strings: {error}") from error
    return section


def _check_object(section: Json) -> Json:
    if section[:1] != b"{":
        raise ProtocolError("a snapshot or the context of a child that is no object")
    return check_json(section)


def _check_context(section: Json) -> Json:
    if len(section) > limits.CONTEXT_BYTES_MAX:
        raise ProtocolError(f"a context of {len(section)} bytes")
    return check_json(section)


def _check_text(section: Json) -> Json:
    """What the JSON scanner does not look at: UTF-8 and depth."""
    if not section.isascii():
        try:
            section.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a section that is not UTF-8") from error
    if is_deeper_than(JSON_DEPTH_MAX, section):
        raise ProtocolError(f"JSON that is more than {JSON_DEPTH_MAX} deep")
    return section


# --- steps ---------------------------------------------------------------------------------------


def steps_of(frame: StepFrame, sections: list[bytes], indexes: Collection[str]) -> tuple[Step, ...]:
    """The steps of a frame. `indexes` are the declared index names. Raises ProtocolError."""
    rest = iter(cast("list[Json]", sections))
    try:
        steps = tuple([_step(head, rest, indexes) if head.changed else _UNCHANGED for head in frame.steps])
    except StopIteration:
        raise ProtocolError("a step with too few sections") from None
    if next(rest, None) is not None:
        raise ProtocolError("a step with too many sections")
    for step in steps[:-1] if len(steps) > 1 else ():
        if step.has_effects or step.sends or step.starts or step.stops or step.outgoing:
            raise ProtocolError("a step computed above one whose effects are not performed")
    return steps


def _step(head: StepHead, rest: Iterator[Json], indexes: Collection[str]) -> Step:
    timers, starts, stops, out, idx = head.timers, head.starts, head.stops, head.out, head.idx
    if timers or head.sends or starts or stops or out or idx:
        _check_counts(head, indexes)
    if head.fin and not head.done:
        raise ProtocolError("an output of a machine that is not done")
    # The order of these arguments is the order of the sections.
    return Step(
        changed=True,
        event=_check_event(next(rest)) if head.ev else None,
        value=_check_value(next(rest)),
        tags=_check_tags(next(rest)),
        done=head.done,
        snapshot=_check_object(next(rest)),
        context=_check_context(next(rest)) if head.ctx else None,
        public=check_json(next(rest)) if head.pub else None,
        timers=tuple([_timer(timer, rest) for timer in timers]) if timers else (),
        sends=tuple([_check_event(next(rest)) for _ in range(head.sends)]) if head.sends else (),
        starts=tuple([ServiceId(id) for id in starts]) if starts else (),
        stops=tuple([ServiceId(id) for id in stops]) if stops else (),
        outgoing=tuple([_outgoing(item, rest) for item in out]) if out else (),
        output=check_json(next(rest)) if head.fin else None,
        indexes=None if idx is None else tuple([(name, tuple(values)) for name, values in idx]),
        has_effects=head.effects,
    )


def _timer(head: SetHead | CancelHead, rest: Iterator[Json]) -> SetTimer | CancelTimer:
    if type(head) is SetHead:
        delay_ms = int(min(head.delay_ms, DELAY_MS_MAX))
        to = None if head.to == "self" else _target(head.to)
        return SetTimer(SendId(head.send_id), delay_ms, _check_event(next(rest)), to)
    return CancelTimer(SendId(head.send_id))


def _outgoing(head: SendHead | SpawnHead | UnlinkHead, rest: Iterator[Json]) -> Outgoing:
    match head:
        case SendHead(to):
            return SendTo(_target(to), _check_event(next(rest)))
        case SpawnHead(id, child, version, has_context):
            context = _check_object(next(rest)) if has_context else None
            return Spawn(ServiceId(id), _address(child), _version(version), context)
        case UnlinkHead(id):
            return Unlink(ServiceId(id))


def _target(to: tuple[str, str] | None) -> Target:
    return TO_PARENT if to is None else _address(to)


def _address(names: tuple[str, str]) -> Address:
    try:
        return Address(parse_machine_name(names[0]), parse_instance_name(names[1]))
    except InvalidName as error:
        raise ProtocolError(f"the address of an instance: {error}") from error


def _version(id: str | None) -> VersionId | None:
    try:
        return None if id is None else parse_version_id(id)
    except InvalidName as error:
        raise ProtocolError(f"the version of a persistent child: {error}") from error


def _check_counts(head: StepHead, indexes: Collection[str]) -> None:
    sends = head.sends + sum([type(item) is SendHead for item in head.out])
    if len(head.timers) > limits.STEP_TIMER_OPERATIONS_MAX or sends > limits.STEP_MESSAGES_MAX:
        raise ProtocolError("a step with too many effects")
    if sum([type(item) is SpawnHead for item in head.out]) > limits.STEP_SPAWNS_MAX:
        raise ProtocolError("a step with too many persistent children")
    # One step may stop every service and start as many again.
    if max(len(head.starts), len(head.stops)) > limits.INSTANCE_SERVICES_MAX:
        raise ProtocolError("a step with too many services")
    if head.idx is not None:
        _check_indexes(head.idx, indexes)


def _check_indexes(idx: list[tuple[str, list[str]]], indexes: Collection[str]) -> None:
    for name, values in idx:
        if name not in indexes:
            raise ProtocolError("a value for an index that is not declared")
        if any(len(value.encode()) > limits.INDEX_VALUE_BYTES_MAX for value in values):
            raise ProtocolError(f"an index value of more than {limits.INDEX_VALUE_BYTES_MAX} bytes")
    if sum(len(values) for _, values in idx) > limits.INSTANCE_INDEX_VALUES_MAX:
        raise ProtocolError(f"more than {limits.INSTANCE_INDEX_VALUES_MAX} index values")


# --- upgrades ------------------------------------------------------------------------------------


# What is made of the answer to a part of an upgrade. Raises ProtocolError.
ParsePart = Callable[[Outlined | ArrivedFrame, list[bytes], Collection[str]], object]


def outline(frame: Outlined | ArrivedFrame, sections: list[bytes], indexes: Collection[str]) -> tuple[Json]:
    """A state as an outline."""
    if not isinstance(frame, Outlined) or len(sections) != 1:
        raise ProtocolError("a part of an upgrade that is answered as another")
    return (_check_object(Json(sections[0])),)


def outline_and_context(
    frame: Outlined | ArrivedFrame, sections: list[bytes], indexes: Collection[str]
) -> tuple[Json, Json]:
    """What a migration made of both."""
    if not isinstance(frame, Outlined) or len(sections) != 2:
        raise ProtocolError("a part of an upgrade that is answered as another")
    return _check_object(Json(sections[0])), _check_context(Json(sections[1]))


def arrival_among(pending: Collection[RowKey]) -> ParsePart:
    """For the state in the new version; `pending` are the timers that the upgrade was told of."""

    def arrival(frame: Outlined | ArrivedFrame, sections: list[bytes], indexes: Collection[str]) -> Arrival:
        if not isinstance(frame, ArrivedFrame):
            raise ProtocolError("a part of an upgrade that is answered as another")
        return _arrival_of(frame, sections, indexes, pending)

    return arrival


def _arrival_of(
    frame: ArrivedFrame, sections: list[bytes], indexes: Collection[str], pending: Collection[RowKey]
) -> Arrival:
    head = frame.step
    does = head.ev or head.effects or head.sends or head.starts or head.stops or head.out or head.fin
    if does or not head.changed or not head.ctx or head.idx is None:
        raise ProtocolError("an upgrade that does more than change the state")
    rest = iter(cast("list[Json]", sections))
    try:
        step = _step(head, rest, indexes)
    except StopIteration:
        raise ProtocolError("an upgrade with too few sections") from None
    if next(rest, None) is not None:
        raise ProtocolError("an upgrade with too many sections")
    told = [key for key, _ in frame.kept] + frame.gone
    if len(told) != len({*told}) or not {*told} <= {*pending}:
        raise ProtocolError("an upgrade that speaks of a timer that is not there")
    moved = [Moved(RowKey(key), SendId(send_id), _delay_event(send_id)) for key, send_id in frame.kept]
    return Arrival(step, tuple(moved), tuple([RowKey(key) for key in frame.gone]))


def _delay_event(send_id: str) -> Json:
    return Json(msgspec.json.encode({"type": send_id}))


# --- events that machine code sent ---------------------------------------------------------------


def sent_of(frame: PerformedFrame, sections: list[bytes]) -> tuple[Sent, ...]:
    """What performing sent synchronously, in order. Raises ProtocolError."""
    if len(sections) != len(frame.sent):
        raise ProtocolError("a performed frame whose sections are not its events")
    if len(frame.sent) > limits.STEP_MESSAGES_MAX:
        raise ProtocolError("a performed frame with too many events")
    return tuple(
        [_sent(head, section) for head, section in zip(frame.sent, cast("list[Json]", sections), strict=True)]
    )


def _sent(head: SentHead, section: Json) -> Sent:
    service = head.service
    return Sent(
        internal=Internal(_check_event(section), head.token),
        after=head.after,
        service=None if service is None else ServiceRun(ServiceId(service[0]), Seq(service[1])),
        ends_service=head.ends,
    )


def inside_of(frame: Inside, sections: list[bytes]) -> Sent:
    """What a running service sent. Raises ProtocolError."""
    if len(sections) != 1:
        raise ProtocolError("an inside frame without its event")
    id, seq = frame.service
    return Sent(
        internal=Internal(_check_event(Json(sections[0])), frame.token),
        service=ServiceRun(ServiceId(id), Seq(seq)),
        ends_service=frame.ends,
    )
