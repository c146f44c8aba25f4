"""The protocol of one socket, sans-IO: a message in, a list of things to do out.

Theory of operation. A socket subscribes to instances under request ids of its own; several may name one
instance, which is then watched once: each push goes out once and reaches every one of them, as the
published client sorts pushes by instance. An instance is watched from the first request id to the last.
A request that fails is answered with an `error` of its id, and so is one that ends later; the socket stays.

    receive(text) ──► Ask        the shell finds out who asks, and answers admit or deny
    admit(id, key) ─► Watch      the shell opens a subscription of the engine and hands in its updates
    update(key) ────► Push       refuse(key) and end() ──► Say an error for each request id
    unsubscribe ────► Unwatch    after the last request id of that instance
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from statebacked.api.wire import error_frame
from statebacked.model.errors import InvalidBody, InvalidName, RateLimited, StateBackedError
from statebacked.model.ids import (
    InstanceKey,
    InstanceName,
    MachineName,
    parse_instance_name,
    parse_machine_name,
)
from statebacked.model.limits import (
    SOCKET_MALFORMED_FRAMES_MAX,
    SOCKET_MESSAGE_CHARACTERS_MAX,
    SOCKET_SUBSCRIPTIONS_MAX,
)

REQUEST_ID_CHARACTERS_MAX: Final = 128
POLICY_VIOLATED: Final = 1008


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants to subscribe."""

    request_id: str
    machine: MachineName
    instance: InstanceName


@dataclass(frozen=True, slots=True)
class Watch:
    """Begin to watch an instance."""

    key: InstanceKey


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Watch an instance no more."""

    key: InstanceKey


@dataclass(frozen=True, slots=True)
class Say:
    """Send a frame."""

    frame: str


@dataclass(frozen=True, slots=True)
class Push:
    """Send a state of an instance; a newer one may replace it while it waits."""

    key: InstanceKey
    frame: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the socket."""

    code: int


Action = Ask | Watch | Unwatch | Say | Push | HangUp


class _Message(msgspec.Struct, rename="camel"):
    type: Literal["subscribe-to-instance", "unsubscribe-from-instance", "ping"]
    request_id: str = ""
    machine_name: str = ""
    machine_instance_name: str = ""


_decode: Final = msgspec.json.Decoder(_Message).decode


@dataclass(slots=True)
class _Watched:
    request_ids: set[str] = field(default_factory=set)
    last_frame: str | None = None


class RealtimeSession:
    """What one socket is subscribed to. Knows no token, no engine and no clock."""

    def __init__(self) -> None:
        self._keys: dict[str, InstanceKey] = {}
        self._watched: dict[InstanceKey, _Watched] = {}
        self._asked: set[str] = set()
        self._malformed = 0

    def receive(self, text: str | None) -> list[Action]:
        """A text frame came, or (None) one that is none."""
        message = _parse(text)
        if message is None or (message.type != "ping" and not message.request_id):
            return self._count_malformed()
        match message.type:
            case "ping":
                return []
            case "unsubscribe-from-instance":
                return self._unsubscribe(message.request_id)
            case "subscribe-to-instance":
                return self._subscribe(message)

    def admit(self, request_id: str, key: InstanceKey) -> list[Action]:
        """Who asked may subscribe to that instance."""
        if request_id not in self._asked:
            return []  # it unsubscribed while we found out
        self._asked.discard(request_id)
        self._keys[request_id] = key
        watched = self._watched.get(key)
        if watched is None:
            self._watched[key] = _Watched({request_id})
            return [Watch(key)]
        watched.request_ids.add(request_id)
        # The state that the instance has now comes with the first push, if that is still to come.
        return [] if watched.last_frame is None else [Push(key, watched.last_frame)]

    def deny(self, request_id: str, error: StateBackedError) -> list[Action]:
        """Who asked may not."""
        if request_id not in self._asked:
            return []
        self._asked.discard(request_id)
        return [Say(error_frame(request_id, error))]

    def update(self, key: InstanceKey, frame: str) -> list[Action]:
        """A newer state of a watched instance."""
        watched = self._watched.get(key)
        if watched is None:
            return []
        watched.last_frame = frame
        return [Push(key, frame)]

    def refuse(self, key: InstanceKey, error: StateBackedError) -> list[Action]:
        """An instance can be watched no longer; its subscription is over already."""
        watched = self._watched.pop(key, None)
        if watched is None:
            return []
        for request_id in watched.request_ids:
            del self._keys[request_id]
        return [Say(error_frame(request_id, error)) for request_id in sorted(watched.request_ids)]

    def end(self, error: StateBackedError) -> list[Action]:
        """All subscriptions end: the token that they stand on is good no more."""
        actions: list[Action] = []
        for key in list(self._watched):
            actions.append(Unwatch(key))
            actions.extend(self.refuse(key, error))
        return actions

    def _subscribe(self, message: _Message) -> list[Action]:
        request_id = message.request_id
        try:
            machine = parse_machine_name(message.machine_name)
            instance = parse_instance_name(message.machine_instance_name)
        except InvalidName as error:
            return [Say(error_frame(request_id, error))]
        known = self._keys.get(request_id)
        if known is not None:
            # Sent again, as after a reconnect: the same subscription, with its present state.
            if (known.machine, known.name) == (machine, instance):
                last_frame = self._watched[known].last_frame
                return [] if last_frame is None else [Push(known, last_frame)]
            return [Say(error_frame(request_id, InvalidBody("this requestId names another instance")))]
        if request_id in self._asked:
            return []
        if len(self._keys) + len(self._asked) >= SOCKET_SUBSCRIPTIONS_MAX:
            return [Say(error_frame(request_id, RateLimited("too many subscriptions on one socket")))]
        self._asked.add(request_id)
        return [Ask(request_id, machine, instance)]

    def _unsubscribe(self, request_id: str) -> list[Action]:
        """Unknown ids are ignored: the client sends them after an error too."""
        self._asked.discard(request_id)
        key = self._keys.pop(request_id, None)
        if key is None:
            return []
        watched = self._watched[key]
        watched.request_ids.discard(request_id)
        if watched.request_ids:
            return []
        del self._watched[key]
        return [Unwatch(key)]

    def _count_malformed(self) -> list[Action]:
        self._malformed += 1
        return [HangUp(POLICY_VIOLATED)] if self._malformed >= SOCKET_MALFORMED_FRAMES_MAX else []


def _parse(text: str | None) -> _Message | None:
    if text is None or len(text) > SOCKET_MESSAGE_CHARACTERS_MAX:
        return None
    try:
        message = _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return message if len(message.request_id) <= REQUEST_ID_CHARACTERS_MAX else None
