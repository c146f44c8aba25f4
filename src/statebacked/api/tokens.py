"""POST /tokens: token exchange for browsers. No authorization header; org and act headers are ignored."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

import structlog

from statebacked.api.calls import Call, OpenHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.auth.exchange import (
    ACCESS_TOKEN_TYPE,
    ExchangeRefused,
    mint_anonymous,
    read_anonymous,
    read_request,
    unknown_target,
)
from statebacked.auth.secrets import Keyring
from statebacked.model.limits import ANONYMOUS_TOKEN_S, FORM_BODY_BYTES_MAX
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock

logger = structlog.get_logger(__name__)


class TokenRoutes:
    """The handler of /tokens."""

    def __init__(self, catalogue: Catalogue, keyring: Keyring, clock: Clock) -> None:
        self._catalogue = catalogue
        self._keyring = keyring
        self._clock = clock

    def handlers(self) -> Mapping[str, OpenHandler]:
        """By operation."""
        return {"exchangeToken": self.exchange}

    async def exchange(self, call: Call) -> Reply:
        body = await call.body(FORM_BODY_BYTES_MAX)
        try:
            request = read_request(_parse_form(body))
            org = await self._catalogue.find_org(request.org)
            if org is None or not org.allow_anonymous:
                raise unknown_target()
            session = read_anonymous(request)
        except ExchangeRefused as refusal:
            return _refusal(refusal, call.request_id)
        token = mint_anonymous(self._keyring, org.id, session, self._clock.now().wall)
        return json_reply(
            {
                "access_token": token,
                "issued_token_type": ACCESS_TOKEN_TYPE,
                "token_type": "Bearer",
                "expires_in": ANONYMOUS_TOKEN_S,
            }
        )


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except (UnicodeDecodeError, ValueError) as exc:
        raise ExchangeRefused("invalid_request", "the body must be a form of at most 20 fields") from exc


def _refusal(refusal: ExchangeRefused, request_id: str) -> Reply:
    """The published client shows `error` and nothing else, so it begins with RFC 8693's code (2.2.2) and goes
    on in words; `error_code` is that code alone, `code` the one that every other error of ours has."""
    if refusal.reason:
        logger.info("a subject token is refused", request=request_id, reason=refusal.reason)
    body = {
        "error": f"{refusal.error}: {refusal.description}",
        "error_code": refusal.error,
        "error_description": refusal.description,
        "code": refusal.error.replace("_", "-"),
        "requestId": request_id,
    }
    return json_reply(body, 400)
