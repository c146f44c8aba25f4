"""Who a request comes from, once its token has been judged."""

from dataclasses import dataclass
from typing import Literal

from statebacked.model.ids import Instant, KeyId, OrgId, UserId
from statebacked.model.machine import Membership
from statebacked.model.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller within one org. `auth` is the authContext that machines judge it by.

    `expires_at` is when a subscription of it ends (leeway and grace included), None for never. `kind` says
    which credential stands behind it; `key` and `user` name it where it has a name.
    """

    org: OrgId
    scopes: frozenset[str]
    auth: Json
    kind: Literal["key", "anonymous", "session"]
    expires_at: Instant | None
    key: KeyId | None = None
    user: UserId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInUser:
    """A caller by session, before an org is chosen."""

    user: UserId
    memberships: tuple[Membership, ...]
    expires_at: Instant | None
