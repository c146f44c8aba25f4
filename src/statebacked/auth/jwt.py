"""Signed tokens: what customers sign with their keys, and what the server mints itself.

Source of the format: @statebacked/token 0.2.0 (`{alg, kid}`, `{act, aud, exp, iss, iat}`, HMAC under the
UTF-8 bytes of the whole secret). A token names its key by `kid`: a key's id, or for a minted token the
org whose derived key signed it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from statebacked.auth.context import InvalidAuthContext, build_auth_context
from statebacked.model.errors import MissingUser
from statebacked.model.ids import Instant
from statebacked.model.limits import TOKEN_BYTES_MAX, TOKEN_LEEWAY_S
from statebacked.model.values import Json

# The published token package signs for this audience, wherever the server runs.
PUBLISHED_AUDIENCE: Final = "https://api.statebacked.dev/"

_KEY_ID: Final = re.compile(r"sbk_[A-Za-z0-9_-]{22}")
_ORG_ID: Final = re.compile(r"org_[A-Za-z0-9_-]{22}")
_REFUSED_HEADERS: Final = frozenset({"crit", "jku", "jwk", "x5u"})
_REGISTRY: Final = jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)
_MISSING_HELP: Final = "send `authorization: Bearer <token>` with a token that is valid now"


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A token that is well-formed and says which key to check it with; nothing in it is true yet."""

    kid: str
    minted: bool
    parts: jws.CompactSignature


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token proves: its authContext, and until when (`exp` without leeway)."""

    auth: Json
    expires_at: Instant


class _Claims(msgspec.Struct):
    aud: str | list[str]
    exp: int | float
    nbf: int | float | None = None
    sub: object = None
    act: object = msgspec.UNSET


_claims_decoder: Final = msgspec.json.Decoder(_Claims)


def read_token(token: bytes) -> UnverifiedToken:
    """Parse a compact token and judge its header. Raises MissingUser."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _refused("the token is too long")
    try:
        parts = jws.extract_compact(token, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError, RecursionError) as exc:
        raise _refused("the token is not a signed token") from exc
    header = parts.headers()
    kid = header.get("kid")
    if header.get("alg") != "HS256" or not isinstance(kid, str) or not _REFUSED_HEADERS.isdisjoint(header):
        raise _refused("the token's header must be alg HS256 and a kid, without crit, jku, jwk and x5u")
    if _KEY_ID.fullmatch(kid):
        return UnverifiedToken(kid, False, parts)
    if _ORG_ID.fullmatch(kid):
        return UnverifiedToken(kid, True, parts)
    raise _refused("the token's kid is not a key id")


def verify(
    token: UnverifiedToken,
    keys: Mapping[str, OctKey],
    now: Instant,
    *,
    audiences: frozenset[str],
    grace_ms: int = 0,
) -> VerifiedToken:
    """Judge a token by the key that it names. Pure. Raises MissingUser.

    `grace_ms` extends the token's end beyond the usual leeway (for minted tokens on /rt).
    """
    key = keys.get(token.kid)
    if key is None:
        raise _refused("the token's key does not exist")
    try:
        genuine = jws.validate_compact(token.parts, key, registry=_REGISTRY)
        claims = _claims_decoder.decode(token.parts.payload) if genuine else None
    except (JoseError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as exc:
        raise _refused("the token lacks an exp or an audience, or is not valid JSON") from exc
    if claims is None:
        raise _refused("the token's signature is not by its key")
    _check_audience(claims, audiences)
    expires_at = _check_times(claims, now, grace_ms)
    try:
        return VerifiedToken(build_auth_context(_act(claims, minted=token.minted)), expires_at)
    except InvalidAuthContext as exc:
        raise _refused(f"the token's act claim is refused: {exc}") from exc


def sign(payload: bytes, key: OctKey, kid: str) -> str:
    """A compact HS256 token of exactly that payload."""
    return jws.serialize_compact({"alg": "HS256", "kid": kid}, payload, key, registry=_REGISTRY)


def import_secret(secret: bytes) -> OctKey:
    """A key from the bytes of a secret."""
    return OctKey.import_key(secret)


def _check_audience(claims: _Claims, audiences: frozenset[str]) -> None:
    named = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if audiences.isdisjoint(named):
        raise _refused(f"the token's aud must hold {PUBLISHED_AUDIENCE}")


def _check_times(claims: _Claims, now: Instant, grace_ms: int) -> Instant:
    leeway_ms = TOKEN_LEEWAY_S * 1000
    expires_ms = claims.exp * 1000
    if now > expires_ms + max(leeway_ms, grace_ms):
        raise _refused("the token has expired")
    if claims.nbf is not None and now < claims.nbf * 1000 - leeway_ms:
        raise _refused("the token is not valid yet")
    return Instant(int(min(expires_ms, 1e15)))


def _act(claims: _Claims, *, minted: bool) -> object:
    """The act claim; the top-level sub stands in for a missing act.sub of customers' tokens."""
    act = {} if claims.act is msgspec.UNSET else claims.act
    if isinstance(act, dict) and isinstance(claims.sub, str) and not minted:
        return {"sub": claims.sub, **act}
    return act


def _refused(reason: str) -> MissingUser:
    return MissingUser(f"{reason}: {_MISSING_HELP}")
