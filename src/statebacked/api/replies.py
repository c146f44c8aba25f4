"""Answers: errors to responses in one place, and the headers that every response carries."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import structlog

from statebacked.api.bodies import Message
from statebacked.api.wire import encode, error_body
from statebacked.auth.principal import Principal
from statebacked.model.errors import MachineRefusal, RejectedByAuthorizer, StateBackedError

logger = structlog.get_logger(__name__)

Header = tuple[bytes, bytes]
Send = Callable[[Message], Awaitable[None]]

# No route reads a cookie, so any origin may ask; credentials are never allowed with it. Every answer to a
# request with an Origin carries these, errors included.
CORS_HEADERS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after, x-request-id, x-statebacked-event"),
)
_JSON: Final = (b"content-type", b"application/json")
_UNCHANGED: Final = (_JSON, (b"x-statebacked-event", b"unchanged"))
# States are read again and again and must never come from a cache; an answer to POST never does.
_FRESH_JSON: Final = (_JSON, (b"cache-control", b"no-store"))
PREFLIGHT_HEADERS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b", ".join(
            (
                b"authorization",
                b"content-type",
                b"idempotency-key",
                b"last-event-id",
                b"x-statebacked-org-id",
                b"x-statebacked-act",
            )
        ),
    ),
    (b"access-control-max-age", b"7200"),
)
_TRY_AGAIN: Final = frozenset({429, 503})
# Texts of these refusals come from the machine's code; what stands here is said in their place.
_MACHINE_TEXTS: Final = {
    "rejected-by-machine-authorizer": "the machine's authorizer did not admit this",
    "machine-error": "the machine's code threw; its log says where",
    "invalid-machine": "the machine's code cannot be loaded; its log says why",
    "machine-timeout": "the machine's code took too long",
    "migration-failed": "the instance cannot be migrated to its new version; the migration's log says why",
    "machine-fault": "the machine's worker had to be ended; its log says why",
}


class Reply(NamedTuple):
    """A whole answer; an empty body for 201 and 204, which clients take as void."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = _FRESH_JSON


def json_reply(value: object, status: int = 200) -> Reply:
    """A value as JSON."""
    return Reply(status, encode(value))


def event_reply(body: bytes, *, is_unchanged: bool) -> Reply:
    """The answer to a POST of an event, which needs no word about caches. A header tells that the event
    changed nothing; the body is the state in any case."""
    return Reply(200, body, _UNCHANGED if is_unchanged else (_JSON,))


def common_headers(request_id: str, headers: Mapping[bytes, bytes]) -> list[Header]:
    """What every answer to a request with these headers carries."""
    own = (b"x-request-id", request_id.encode())
    return [own, *CORS_HEADERS] if b"origin" in headers else [own]


async def send_reply(send: Send, reply: Reply, common: list[Header]) -> None:
    """Send a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [*reply.headers, (b"content-length", b"%d" % len(reply.body)), *common],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})


def error_reply(error: StateBackedError, request_id: str) -> Reply:
    """The one mapping from errors to responses."""
    headers: tuple[Header, ...] = _FRESH_JSON
    if error.status in _TRY_AGAIN:
        headers = (*_FRESH_JSON, (b"retry-after", b"1"))
    return Reply(error.status, error_body(error, request_id), headers)


class _Internal(StateBackedError):
    code = "internal"
    status = 500


def internal_error_reply(request_id: str) -> Reply:
    """Our own fault: the trace is in the log under the request's id."""
    return error_reply(_Internal("the server failed; its log has more under this requestId"), request_id)


class MachineTexts:
    """Decides who reads what machine code threw: its owners, and everyone under `statebacked dev`."""

    def __init__(self, *, everyone: bool) -> None:
        self._everyone = everyone

    def fit(self, error: StateBackedError, principal: Principal, request_id: str) -> StateBackedError:
        """The error as this principal may see it."""
        if not isinstance(error, MachineRefusal | RejectedByAuthorizer) or error.code not in _MACHINE_TEXTS:
            return error
        if self._everyone:  # and who serves it sees the machine's own log, where it stands, too
            return error
        logger.info("a machine refuses", request=request_id, code=error.code, text=error.message[:500])
        if principal.kind == "session" or "logs.read" in principal.scopes:
            return error
        hidden = MachineRefusal(error.code, _MACHINE_TEXTS[error.code])
        hidden.__cause__ = error
        return hidden
