"""Answers: errors to responses in one place, and the headers that every response carries."""

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from statebacked.api.bodies import Message
from statebacked.api.wire import encode, error_body
from statebacked.auth.principal import Principal
from statebacked.model.errors import MachineRefusal, RateLimited, RejectedByAuthorizer, StateBackedError

logger = logging.getLogger(__name__)

Header = tuple[bytes, bytes]

# No route reads a cookie, so any origin may ask; credentials are never allowed with it.
CORS_HEADERS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after, x-request-id"),
)
_JSON: Final = (b"content-type", b"application/json")
_FIXED: Final = (_JSON, (b"cache-control", b"no-store"), *CORS_HEADERS)
PREFLIGHT_HEADERS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, x-statebacked-org-id, x-statebacked-act",
    ),
    (b"access-control-max-age", b"7200"),
)
# Texts of these refusals come from the machine's code; what stands here is said in their place.
_MACHINE_TEXTS: Final = {
    "rejected-by-machine-authorizer": "the machine's authorizer did not admit this",
    "machine-error": "the machine's code threw; its log says where",
    "invalid-machine": "the machine's code cannot be loaded; its log says why",
    "machine-timeout": "the machine's code took too long",
    "machine-fault": "the machine's worker had to be ended; its log says why",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; an empty body for 201 and 204, which clients take as void."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = field(default=_FIXED)


def json_reply(value: object, status: int = 200) -> Reply:
    """A value as JSON."""
    return Reply(status, encode(value))


def messages_of(reply: Reply, request_id: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two ASGI messages of an answer."""
    headers = [
        *reply.headers,
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id),
    ]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    return start, {"type": "http.response.body", "body": reply.body}


def error_reply(error: StateBackedError, request_id: str) -> Reply:
    """The one mapping from errors to responses."""
    headers: tuple[Header, ...] = _FIXED
    if isinstance(error, RateLimited):
        headers = (*_FIXED, (b"retry-after", b"1"))
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
        logger.info(
            "a machine refuses request=%s code=%s text=%r", request_id, error.code, error.message[:500]
        )
        if self._everyone or principal.kind == "session" or "logs.read" in principal.scopes:
            return error
        hidden = MachineRefusal(error.code, _MACHINE_TEXTS[error.code])
        hidden.__cause__ = error
        return hidden


def is_start(message: Message) -> bool:
    """Whether a response begins with this message."""
    return bool(message["type"] == "http.response.start")
