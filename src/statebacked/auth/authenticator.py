"""From a request's headers to the principal behind it.

Theory of operation. A token that was verified less than a minute ago is answered from memory, without
waiting (`cached`); anything else reads the catalogue (`authenticate`). Tokens carry their org; a session
does not, so it takes the org of the `x-statebacked-org-id` header or the only one its user is in. Sessions
are looked up every time: they are opaque and ending one must be seen at once.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from joserfc.jwk import OctKey

from statebacked.auth.cache import TokenCache
from statebacked.auth.context import InvalidAuthContext, build_auth_context
from statebacked.auth.exchange import minting_secret
from statebacked.auth.jwt import (
    PUBLISHED_AUDIENCE,
    UnverifiedToken,
    VerifiedToken,
    import_secret,
    read_token,
    verify,
)
from statebacked.auth.keys import open_secret
from statebacked.auth.principal import Principal, SignedInUser
from statebacked.auth.scopes import ANONYMOUS_SCOPES, ROLE_SCOPES
from statebacked.auth.secrets import Keyring
from statebacked.auth.sessions import SESSION_PREFIX, hash_session_token
from statebacked.model.errors import InvalidParameter, MissingOrg, MissingScope, MissingUser, SpecifyOrg
from statebacked.model.ids import Instant, KeyId, Monotonic, OrgId
from statebacked.model.limits import TOKEN_BYTES_MAX, TOKEN_CACHE_MS, TOKEN_LEEWAY_S
from statebacked.model.machine import Membership
from statebacked.model.values import Json
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock

Headers = Mapping[bytes, bytes]
IsAffected = Callable[[Principal], bool]

ORG_HEADER: Final = b"x-statebacked-org-id"
ACT_HEADER: Final = b"x-statebacked-act"
_LEEWAY_MS: Final = TOKEN_LEEWAY_S * 1000
_NO_CONTEXT: Final = Json(b"{}")


class Authenticator:
    """Judges tokens and sessions. `own_audience` is the server's public URL, an audience beside the usual."""

    def __init__(
        self,
        catalogue: Catalogue,
        keyring: Keyring,
        clock: Clock,
        *,
        own_audience: str | None,
        realtime_grace_ms: int,
    ) -> None:
        self._catalogue = catalogue
        self._keyring = keyring
        self._clock = clock
        own = {own_audience.rstrip("/"), own_audience.rstrip("/") + "/"} if own_audience else set()
        self._audiences = frozenset({PUBLISHED_AUDIENCE, *own})
        self._realtime_grace_ms = realtime_grace_ms
        self._cache = TokenCache()
        self._changes = 0
        self._listeners: list[Callable[[IsAffected], None]] = []

    def cached(self, headers: Headers) -> Principal | None:
        """The principal, if it is known without waiting. Raises MissingOrg and MissingScope."""
        authorization = headers.get(b"authorization")
        if authorization is None or authorization[:7] != b"Bearer ":
            return None
        principal = self._cache.find(authorization[7:], self._clock.now().mono)
        if principal is not None:
            _check_token_headers(principal, headers)
        return principal

    async def authenticate(self, headers: Headers) -> Principal:
        """The principal in its org. Raises MissingUser, MissingOrg, MissingScope (an x-statebacked-act that
        may not be used), SpecifyOrg and InvalidParameter (one that is malformed)."""
        token = _bearer(headers)
        if not _is_session(token):
            principal = await self._verify_cached(token)
            _check_token_headers(principal, headers)
            return principal
        user = await self._session_user(token)
        return _admit(user, headers.get(ORG_HEADER), headers.get(ACT_HEADER))

    async def authenticate_user(self, headers: Headers) -> SignedInUser:
        """The user of a session, for what belongs to no org. Raises MissingUser, MissingScope."""
        token = _bearer(headers)
        if not _is_session(token):
            await self._verify_cached(token)
            raise MissingScope("this needs a signed-in user's session, not a key or an anonymous token")
        user = await self._session_user(token)
        if headers.get(ACT_HEADER):
            _admit(user, headers.get(ORG_HEADER), headers.get(ACT_HEADER))
        return user

    async def authenticate_realtime(self, token: bytes, org: bytes | None) -> Principal:
        """As `authenticate`, for a token from a URL; one that the server minted is taken within the grace."""
        if _is_session(token):
            return _admit(await self._session_user(token), org, None)
        unverified = read_token(token)
        grace_ms = self._realtime_grace_ms if unverified.minted else 0
        principal, _ = await self._verify(unverified, grace_ms)
        _check_token_headers(principal, {ORG_HEADER: org} if org else {})
        return principal

    def changed(self) -> None:
        """What tokens stand on has changed: keys, members, sessions or orgs."""
        self._changes += 1
        self._cache.clear()

    def revoke(self, is_affected: IsAffected) -> None:
        """Principals of that description are no more: their subscriptions end at once."""
        self.changed()
        for listener in self._listeners:
            listener(is_affected)

    def on_revoke(self, listener: Callable[[IsAffected], None]) -> None:
        """Call `listener` whenever `revoke` is called."""
        self._listeners.append(listener)

    # --- tokens ----------------------------------------------------------------------------------

    async def _verify_cached(self, token: bytes) -> Principal:
        now, changes = self._clock.now(), self._changes
        known = self._cache.find_unconfirmed(token, now.mono)
        if known is not None:
            principal, revision = known
            org = await self._catalogue.find_org(principal.org)
            if org is not None and org.auth_revision == revision:
                if changes == self._changes:
                    self._cache.confirm(org.id, revision, now.mono)
                return principal
        principal, revision = await self._verify(read_token(token), 0)
        # What changed while we read must not be answered from memory for another second.
        if changes == self._changes:
            assert principal.expires_at is not None
            lives_ms = min(principal.expires_at - now.wall, TOKEN_CACHE_MS)
            dies_at = Monotonic(now.mono + lives_ms)
            self._cache.keep(token, principal, revision=revision, dies_at=dies_at, now=now.mono)
        return principal

    async def _verify(self, token: UnverifiedToken, grace_ms: int) -> tuple[Principal, int]:
        if token.minted:
            return await self._verify_minted(token, grace_ms)
        return await self._verify_key_signed(token)

    async def _verify_key_signed(self, token: UnverifiedToken) -> tuple[Principal, int]:
        key = await self._catalogue.find_key(KeyId(token.kid))
        # Read before the signature is judged: a change after this read has a higher revision.
        org = await self._catalogue.find_org(key.org) if key is not None else None
        if key is None or org is None:
            raise MissingUser("the token's key does not exist: sign with a key that `smply keys list` shows")
        secret = import_secret(open_secret(self._keyring, key))
        verified = self._judge(token, secret, 0)
        principal = Principal(
            org=key.org,
            scopes=frozenset(key.scopes),
            auth=verified.auth,
            kind="key",
            expires_at=Instant(verified.expires_at + _LEEWAY_MS),
            key=key.id,
        )
        return principal, org.auth_revision

    async def _verify_minted(self, token: UnverifiedToken, grace_ms: int) -> tuple[Principal, int]:
        org = await self._catalogue.find_org(OrgId(token.kid))
        if org is None or not org.allow_anonymous:
            raise MissingUser("anonymous access is switched off: sign in, or ask the org's admin")
        verified = self._judge(token, import_secret(minting_secret(self._keyring, org.id)), grace_ms)
        principal = Principal(
            org=org.id,
            scopes=ANONYMOUS_SCOPES,
            auth=verified.auth,
            kind="anonymous",
            expires_at=Instant(verified.expires_at + max(_LEEWAY_MS, grace_ms)),
        )
        return principal, org.auth_revision

    def _judge(self, token: UnverifiedToken, secret: OctKey, grace_ms: int) -> VerifiedToken:
        now = self._clock.now().wall
        return verify(token, {token.kid: secret}, now, audiences=self._audiences, grace_ms=grace_ms)

    # --- sessions --------------------------------------------------------------------------------

    async def _session_user(self, token: bytes) -> SignedInUser:
        session = await self._catalogue.find_session(hash_session_token(token))
        if session is None or (
            session.expires_at is not None and session.expires_at <= self._clock.now().wall
        ):
            raise MissingUser("the session has ended: sign in again")
        memberships = await self._catalogue.list_memberships(session.user)
        return SignedInUser(user=session.user, memberships=tuple(memberships), expires_at=session.expires_at)


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        raise MissingUser("send `authorization: Bearer <token>` with a token of this server")
    if len(token) > TOKEN_BYTES_MAX:
        raise MissingUser("the token is too long")
    return token


def _is_session(token: bytes) -> bool:
    return token.startswith(SESSION_PREFIX.encode())


def _check_token_headers(principal: Principal, headers: Headers) -> None:
    org = headers.get(ORG_HEADER)
    if org and org != principal.org.encode():
        raise _not_a_member()
    if headers.get(ACT_HEADER):
        raise _may_not_act()


def _admit(user: SignedInUser, org_header: bytes | None, act_header: bytes | None) -> Principal:
    membership = _choose(user.memberships, org_header)
    auth = _NO_CONTEXT
    if act_header:
        if membership.role != "admin":
            raise _may_not_act()
        auth = _acted_context(act_header)
    return Principal(
        org=membership.org.id,
        scopes=ROLE_SCOPES[membership.role],
        auth=auth,
        kind="session",
        expires_at=user.expires_at,
        user=user.user,
    )


def _choose(memberships: tuple[Membership, ...], org_header: bytes | None) -> Membership:
    if org_header:
        for membership in memberships:
            if membership.org.id.encode() == org_header:
                return membership
        raise _not_a_member()
    if not memberships:
        raise MissingOrg("you are in no org yet: create one with `smply orgs create`")
    if len(memberships) > 1:
        raise SpecifyOrg("you are in several orgs: name one in the x-statebacked-org-id header")
    return memberships[0]


def _acted_context(header: bytes) -> Json:
    try:
        # fetch sends headers in Latin-1, other clients in UTF-8.
        try:
            text = header.decode()
        except UnicodeDecodeError:
            text = header.decode("latin-1")
        return build_auth_context(msgspec.json.decode(text))
    except (msgspec.MsgspecError, RecursionError, InvalidAuthContext) as exc:
        message = f"x-statebacked-act must be the JSON object to act as: {exc}"
        raise InvalidParameter(message, "x-statebacked-act") from exc


def _not_a_member() -> MissingOrg:
    return MissingOrg("you are not in the org that x-statebacked-org-id names")


def _may_not_act() -> MissingScope:
    return MissingScope("x-statebacked-act is for sessions of the org's admins only")
