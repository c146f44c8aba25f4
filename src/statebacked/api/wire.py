"""JSON in and out: the shapes of bodies and frames, parsed at the edge and written without parsing.

States, contexts and events are the users' JSON: they pass through as the bytes they are.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from statebacked.model.errors import InvalidBody, StateBackedError
from statebacked.model.ids import InstanceKey, Instant
from statebacked.model.json_text import has_number_longer_than, is_deeper_than
from statebacked.model.limits import EVENT_BODY_DEPTH_MAX, NUMBER_CHARACTERS_MAX
from statebacked.model.logs import LogEntry
from statebacked.model.machine import Version
from statebacked.model.rows import StateView, Transition
from statebacked.model.tagged import shown
from statebacked.model.values import Json

# --- bodies that come in -------------------------------------------------------------------------


class SendEvent(msgspec.Struct):
    event: msgspec.Raw


class CreateInstance(msgspec.Struct, rename="camel"):
    slug: str
    context: msgspec.Raw = msgspec.Raw(b"null")
    machine_version_id: str | None = None


class SetStatus(msgspec.Struct):
    status: Literal["running", "paused"]


class DeleteInstance(msgspec.Struct, rename="camel"):
    """Whatever its fields are, they are judged one by one, so that the error names the wrong one."""

    danger_data_will_be_deleted_forever: object = None
    proof: object = msgspec.field(default=None, name="hmacSha256OfMachineInstanceNameWithMachineNameKey")


class CreateMachine(msgspec.Struct):
    slug: str
    indexes: list[str] = []


class CreateVersion(msgspec.Struct):
    xstate: str | None = None


class SetDesiredVersion(msgspec.Struct, rename="camel"):
    target_machine_version_id: str


class CreateMigration(msgspec.Struct, rename="camel"):
    from_machine_version_id: str
    to_machine_version_id: str


class FinalizeVersion(msgspec.Struct, rename="camel"):
    client_info: str | None = None
    make_current: bool = False
    index_selectors: dict[str, str | None] | None = None


class CreateKey(msgspec.Struct):
    name: str
    use: str | None = None
    scopes: list[str] | None = None


class CreateOrg(msgspec.Struct, rename="camel"):
    name: str
    allow_anonymous_access: bool = True


_EventType = Annotated[str, msgspec.Meta(min_length=1)]


class _EventHead(msgspec.Struct):
    type: _EventType


_Body = TypeVar("_Body", bound=msgspec.Struct)
_decoders: Final[dict[type, msgspec.json.Decoder[Any]]] = {  # Any: one decoder a body's type
    body: msgspec.json.Decoder(body)
    for body in (
        SendEvent,
        CreateInstance,
        SetStatus,
        DeleteInstance,
        CreateMachine,
        CreateVersion,
        CreateMigration,
        SetDesiredVersion,
        FinalizeVersion,
        CreateKey,
        CreateOrg,
        _EventHead,
    )
}
_decode_event_body: Final = msgspec.json.Decoder(SendEvent).decode
_decode_event_type: Final = msgspec.json.Decoder(_EventType).decode
_decode_event_head: Final = msgspec.json.Decoder(_EventHead).decode


def parse_body(body: bytes, shape: type[_Body]) -> _Body:
    """A JSON body of that shape; unknown fields are ignored. Raises InvalidBody."""
    _check_encoding(body)
    try:
        value = _decoders[shape].decode(body)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise InvalidBody(f"the body is not the JSON that is expected here: {exc}") from exc
    _check_shape(body)
    return value  # type: ignore[no-any-return]


def parse_event(body: bytes) -> Json:
    """The event of a body, as an object with a `type` that is a string and not empty. Raises InvalidBody."""
    _check_encoding(body)
    try:
        event = bytes(_decode_event_body(body).event)
        if event[:1] == b'"':
            _decode_event_type(event)
            event = b'{"type":' + event + b"}"
        else:
            _decode_event_head(event)
    except (msgspec.MsgspecError, RecursionError) as exc:
        message = f'send {{"event": "name"}} or {{"event": {{"type": "name", …}}}}: {exc}'
        raise InvalidBody(message) from exc
    _check_shape(body)
    return Json(event)


def parse_context(context: msgspec.Raw) -> Json:
    """An initial context: a JSON object, an empty one for `null`. Raises InvalidBody."""
    text = bytes(context)
    if text == b"null":
        return Json(b"{}")
    if text[:1] != b"{":
        raise InvalidBody("context must be a JSON object")
    return Json(text)


def _check_encoding(body: bytes) -> None:
    """The decoder does not look at the UTF-8 of raw values. Raises InvalidBody."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as exc:
            raise InvalidBody("the body is not UTF-8") from exc


def _check_shape(body: bytes) -> None:
    """What the decoder does not limit: how deep valid JSON nests and how long its numbers are. Raises
    InvalidBody."""
    if is_deeper_than(EVENT_BODY_DEPTH_MAX, body):
        raise InvalidBody(f"the body is nested more than {EVENT_BODY_DEPTH_MAX} deep")
    if has_number_longer_than(NUMBER_CHARACTERS_MAX, body):
        raise InvalidBody(f"a number in the body has more than {NUMBER_CHARACTERS_MAX:,} characters")


# --- what goes out -------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    """A value as JSON."""
    return msgspec.json.encode(value)


def state_body(view: StateView) -> bytes:
    """State: `{ts, state, publicContext?, tags, done}`."""
    return b'{"ts":%d,"state":%b%b,"tags":%b,"done":%b}' % (
        view.ts,
        view.value,
        b"" if view.public is None else b',"publicContext":' + view.public,
        view.tags,
        b"true" if view.done else b"false",
    )


def update_frame(key: InstanceKey, view: StateView) -> str:
    """A push: the state with the address of its instance."""
    # Names hold no character that JSON escapes.
    head = f'{{"type":"instance-update","machineName":"{key.machine}","machineInstanceName":"{key.name}",'
    return head + state_body(view)[1:].decode()


def error_frame(request_id: str, error: StateBackedError) -> str:
    """The end, or the refusal, of what `request_id` asked for."""
    return encode(
        {"type": "error", "requestId": request_id, "status": error.status, "code": error.code}
    ).decode()


def error_body(error: StateBackedError, request_id: str) -> bytes:
    """`{code, error, parameter?, requestId}`; `error` says what to do."""
    body = {"code": error.code, "error": error.message or error.code}
    parameter = getattr(error, "parameter", None)
    if parameter is not None:
        body["parameter"] = parameter
    return encode({**body, "requestId": request_id})


def iso(instant: Instant) -> str:
    """ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(instant / 1000, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant % 1000:03d}Z"


def version_info(version: Version) -> Mapping[str, str]:
    """`{id, createdAt, clientInfo}`; the published client's types want a string in each."""
    return {
        "id": version.id,
        "createdAt": iso(version.created_at),
        "clientInfo": version.client_info or "",
    }


def transition_item(transition: Transition) -> Mapping[str, object]:
    """`{createdAt, state, event}` and, of ours, what places the transition in the history."""
    event = transition.event
    item: dict[str, object] = {
        "createdAt": iso(transition.at),
        "state": msgspec.Raw(transition.value),
        "event": msgspec.Raw(event if transition.source == "client" else shown(event)),
        "id": transition.event_id,
        "seq": transition.seq,
        "source": transition.source,
        "machineVersionId": transition.version,
    }
    if transition.actor is not None:
        item["actor"] = msgspec.Raw(transition.actor)
    return item


def log_item(entry: LogEntry) -> Mapping[str, str]:
    """One entry; `instanceName` is empty for what belongs to the machine as a whole."""
    return {
        "timestamp": iso(entry.at),
        "orgId": entry.org,
        "machineName": entry.machine,
        "instanceName": entry.instance or "",
        "machineVersionId": entry.version,
        "outputType": entry.output,
        "log": entry.text,
    }
