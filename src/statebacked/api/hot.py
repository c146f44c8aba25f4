"""The two HTTP routes that carry the traffic, by hand: POST an event, GET a state.

Everything here runs once per event, so it makes no object that it can do without.
"""

from statebacked.api.bodies import Deadlines, Receive, check_length, read_body
from statebacked.api.paths import decode_segment
from statebacked.api.replies import MachineTexts, Reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import parse_event, state_body
from statebacked.auth.authenticator import Authenticator, Headers
from statebacked.auth.principal import Principal
from statebacked.model.errors import MachineRefusal, MissingScope, RejectedByAuthorizer
from statebacked.model.ids import InstanceKey, parse_instance_name, parse_machine_name
from statebacked.model.limits import BODY_READ_MS, EVENT_BODY_BYTES_MAX


class HotRoutes:
    """POST …/events and GET …/i/{instance}."""

    def __init__(
        self, engine: Engine, authenticator: Authenticator, deadlines: Deadlines, texts: MachineTexts
    ) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._deadlines = deadlines
        self._texts = texts

    async def send_event(
        self, segments: list[bytes], headers: Headers, receive: Receive, request_id: str
    ) -> Reply:
        """Settled, the state after the event."""
        principal = await self._principal(headers, "events.write")
        check_length(headers, EVENT_BODY_BYTES_MAX)
        with self._deadlines.within(BODY_READ_MS):
            body = await read_body(receive, EVENT_BODY_BYTES_MAX)
        event = parse_event(body)
        key = _instance_key(principal, segments)
        try:
            return Reply(200, state_body(await self._engine.send_event(key, event, principal.auth)))
        except (MachineRefusal, RejectedByAuthorizer) as refusal:
            raise self._texts.fit(refusal, principal, request_id) from refusal

    async def get_state(self, segments: list[bytes], headers: Headers, request_id: str) -> Reply:
        """The newest durable state."""
        principal = await self._principal(headers, "state.read")
        key = _instance_key(principal, segments)
        try:
            return Reply(200, state_body(await self._engine.read(key, principal.auth)))
        except (MachineRefusal, RejectedByAuthorizer) as refusal:
            raise self._texts.fit(refusal, principal, request_id) from refusal

    async def _principal(self, headers: Headers, scope: str) -> Principal:
        principal = self._authenticator.cached(headers)
        if principal is None:
            principal = await self._authenticator.authenticate(headers)
        check_scope(principal, scope)
        return principal


def check_scope(principal: Principal, scope: str) -> None:
    """Raises MissingScope."""
    if scope not in principal.scopes:
        raise MissingScope(f"this needs the scope {scope}, which your key or role does not have")


def _instance_key(principal: Principal, segments: list[bytes]) -> InstanceKey:
    """Raises InvalidName. `segments` are machines, <machine>, i, <instance>, …"""
    machine = parse_machine_name(decode_segment(segments[1]))
    return InstanceKey(principal.org, machine, parse_instance_name(decode_segment(segments[3])))
