"""Token exchange (RFC 8693) for anonymous sessions: a browser's own session id becomes an access token.

The subject token proves nothing: the published client signs it with the org's public id. What the
exchange gives for it is an authContext that says so, `{sid, did, auth: "anonymous"}`, and nothing else.
The built-in identity provider serves only the built-in token provider, and the other way round.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from statebacked.auth.jwt import PUBLISHED_AUDIENCE, import_secret, sign
from statebacked.auth.secrets import Keyring
from statebacked.model.ids import Instant, OrgId
from statebacked.model.limits import (
    ANONYMOUS_TOKEN_S,
    MINTED_TOKEN_BYTES_MAX,
    SESSION_ID_CHARACTERS_MAX,
    TOKEN_BYTES_MAX,
)

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type's name
ANONYMOUS_SERVICE: Final = "anonymous-statebacked-dev"

_AUDIENCE: Final = re.compile(r"https://tokens\.statebacked\.dev/(org_[A-Za-z0-9_-]{22})/([^/]{1,128})")
_REGISTRY: Final = jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)


class ExchangeRefused(Exception):
    """The exchange is refused. `error` is RFC 8693's (2.2.2), the text is for the caller."""

    def __init__(
        self,
        error: Literal["invalid_request", "invalid_target", "unsupported_grant_type"],
        description: str,
        *,
        reason: str = "",
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.reason = reason  # for the log only


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """A well-formed request, for a service that exists if its org does and allows it."""

    org: OrgId
    subject_token: str


@dataclass(frozen=True, slots=True)
class AnonymousSession:
    """Who the subject token says it is: a session and a device."""

    sid: str
    did: str


class _Claims(msgspec.Struct):
    aud: str
    iss: str
    sid: str
    did: str | None = None


_claims_decoder: Final = msgspec.json.Decoder(_Claims)


def read_request(form: dict[str, str]) -> ExchangeRequest:
    """The form of POST /tokens. Raises ExchangeRefused."""
    if form.get("grant_type") != GRANT_TYPE:
        raise ExchangeRefused("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
    if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise ExchangeRefused("invalid_request", f"requested_token_type must be {ACCESS_TOKEN_TYPE}")
    subject_token = form.get("subject_token")
    if not subject_token:
        raise ExchangeRefused("invalid_request", "subject_token is missing")
    target = _AUDIENCE.fullmatch(form.get("audience", ""))
    if target is None or target[2] != ANONYMOUS_SERVICE:
        raise unknown_target()
    return ExchangeRequest(OrgId(target[1]), subject_token)


def unknown_target() -> ExchangeRefused:
    """The same for an unknown org, an unknown service and one that is switched off."""
    return ExchangeRefused(
        "invalid_target",
        "there is no org with that orgId here, or none that takes anonymous sessions: use the orgId that "
        "statebacked dev prints and admin.json holds (audience: "
        "https://tokens.statebacked.dev/<orgId>/anonymous-statebacked-dev)",
    )


def read_anonymous(request: ExchangeRequest) -> AnonymousSession:
    """Judge the subject token by the built-in provider's rules. Raises ExchangeRefused."""
    provider = f"https://{request.org}.anonymous.auth.statebacked.dev"
    claims = _subject_claims(request)
    if claims.aud != provider or claims.iss != provider:
        raise _bad_subject("aud or iss is not the built-in provider's")
    did = claims.sid if claims.did is None else claims.did
    for value in (claims.sid, did):
        # Counted as JavaScript counts, so that a token of the longest ids stays short enough.
        if not 1 <= len(value.encode("utf-16-le")) // 2 <= SESSION_ID_CHARACTERS_MAX:
            raise _bad_subject("sid or did is empty or too long")
    return AnonymousSession(claims.sid, did)


def mint_anonymous(keyring: Keyring, org: OrgId, session: AnonymousSession, now: Instant) -> str:
    """An access token for ANONYMOUS_TOKEN_S seconds, under a key that only this server can derive."""
    issued_at = now // 1000
    claims = {
        "act": {"sid": session.sid, "did": session.did, "auth": "anonymous"},
        "aud": PUBLISHED_AUDIENCE,
        "iss": f"https://{org}.anonymous.auth.statebacked.dev",
        "iat": issued_at,
        "exp": issued_at + ANONYMOUS_TOKEN_S,
    }
    token = sign(_plain_base64_json(claims), import_secret(minting_secret(keyring, org)), org)
    assert len(token) <= MINTED_TOKEN_BYTES_MAX
    return token


def minting_secret(keyring: Keyring, org: OrgId) -> bytes:
    """What the tokens that this server mints for an org are signed with."""
    return keyring.derive("minted tokens", org)


def _subject_claims(request: ExchangeRequest) -> _Claims:
    token = request.subject_token.encode()
    if len(token) > TOKEN_BYTES_MAX:
        raise _bad_subject("too long")
    try:
        parts = jws.extract_compact(token, registry=_REGISTRY)
        if parts.headers().get("alg") != "HS256" or "crit" in parts.headers():
            raise _bad_subject("not HS256")
        if not jws.validate_compact(parts, import_secret(request.org.encode()), registry=_REGISTRY):
            raise _bad_subject("not signed with the org's id")
        return _claims_decoder.decode(parts.payload)
    except (JoseError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as exc:
        raise _bad_subject(f"malformed: {type(exc).__name__}") from exc


def _bad_subject(reason: str) -> ExchangeRefused:
    return ExchangeRefused(
        "invalid_request", "subject_token is not a token of an anonymous session of this org", reason=reason
    )


def _plain_base64_json(claims: object) -> bytes:
    """JSON whose base64url holds neither "-" nor "_", so that the published client's `atob` reads it.

    In ASCII only ">", "?", "~" and DEL can give the last two characters of the alphabet, and JSON has them
    in strings only.
    """
    text = json.dumps(claims, separators=(",", ":"))
    for character in ">?~\x7f":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("ascii")
