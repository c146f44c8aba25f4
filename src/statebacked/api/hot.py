"""The two HTTP routes that carry the traffic, by hand: POST an event, GET a state.

Everything here runs once per event, so it makes no object that it can do without.
"""

from statebacked.api.bodies import Deadlines, Receive, check_length, read_body
from statebacked.api.paths import HotPath
from statebacked.api.repeats import HEADER, Repeats
from statebacked.api.replies import MachineTexts, Reply, event_reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import parse_event, state_body
from statebacked.auth.authenticator import Authenticator, Headers
from statebacked.auth.principal import Principal
from statebacked.model.envelopes import Repeatable
from statebacked.model.errors import InvalidName, MachineRefusal, MissingScope, RejectedByAuthorizer
from statebacked.model.ids import InstanceKey
from statebacked.model.limits import EVENT_BODY_BYTES_MAX
from statebacked.model.values import Json


class HotRoutes:
    """POST …/events and GET …/i/{instance}."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        deadlines: Deadlines,
        texts: MachineTexts,
        repeats: Repeats,
    ) -> None:
        self._engine = engine
        self._repeats = repeats
        self._authenticator = authenticator
        self._deadlines = deadlines
        self._texts = texts

    async def send_event(self, path: HotPath, headers: Headers, receive: Receive, request_id: str) -> Reply:
        """Settled, the state after the event."""
        principal = self._authenticator.cached(headers)
        if principal is None:
            principal = await self._authenticator.authenticate(headers)
        check_scope(principal, "events.write")
        check_length(headers, EVENT_BODY_BYTES_MAX)
        body = await read_body(receive, EVENT_BODY_BYTES_MAX, self._deadlines)
        event = parse_event(body)
        if path.bad_name is not None:
            raise InvalidName(path.bad_name)
        key = InstanceKey(principal.org, path.machine, path.instance)
        try:
            if HEADER in headers:
                return await self._send_once(headers[HEADER], principal, key, body, event)
            view = await self._engine.send_event(key, event, principal.auth)
            return event_reply(state_body(view), is_unchanged=view.is_unchanged)
        except (MachineRefusal, RejectedByAuthorizer) as refusal:
            raise self._texts.fit(refusal, principal, request_id) from refusal

    async def _send_once(
        self, header: bytes, principal: Principal, key: InstanceKey, body: bytes, event: Json
    ) -> Reply:
        async def ask(repeatable: Repeatable) -> Reply:
            view = await self._engine.send_event(key, event, principal.auth, repeatable)
            return event_reply(state_body(view), is_unchanged=view.is_unchanged)

        return await self._repeats.once(header, principal, ("POST events", key), body, ask)

    async def get_state(self, path: HotPath, headers: Headers, request_id: str) -> Reply:
        """The newest durable state."""
        principal = self._authenticator.cached(headers)
        if principal is None:
            principal = await self._authenticator.authenticate(headers)
        check_scope(principal, "state.read")
        if path.bad_name is not None:
            raise InvalidName(path.bad_name)
        key = InstanceKey(principal.org, path.machine, path.instance)
        try:
            return Reply(200, state_body(await self._engine.read(key, principal.auth)))
        except (MachineRefusal, RejectedByAuthorizer) as refusal:
            raise self._texts.fit(refusal, principal, request_id) from refusal


def check_scope(principal: Principal, scope: str) -> None:
    """Raises MissingScope."""
    if scope not in principal.scopes:
        raise MissingScope(f"this needs the scope {scope}, which your key or role does not have")
