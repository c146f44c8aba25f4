"""Tokens that were verified a moment ago, so that a caller's next request costs no signature check.

An entry ends with its token, after TOKEN_CACHE_MS, or when its org's auth_revision is no longer the one
under which it was verified. What this process changes calls `clear`; what others change is seen when
AUTH_REVISION_SEEN_MS have passed since the revision was last read.
"""

from dataclasses import dataclass
from hashlib import sha256

from statebacked.auth.principal import Principal
from statebacked.model.ids import Monotonic, OrgId
from statebacked.model.limits import AUTH_REVISION_SEEN_MS, TOKEN_CACHE_ENTRIES_MAX


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    revision: int
    dies_at: Monotonic


class TokenCache:
    """By SHA-256 of the token. The oldest entry makes room for a new one."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._revisions: dict[OrgId, tuple[int, int]] = {}  # org → revision, read again at (monotonic)

    def find(self, token: bytes, now: Monotonic) -> Principal | None:
        """The principal of a token that needs no further check."""
        entry = self._entries.get(sha256(token).digest())
        if entry is None or entry.dies_at <= now:
            return None
        seen = self._revisions.get(entry.principal.org)
        if seen is None or seen[0] != entry.revision or seen[1] <= now:
            return None
        return entry.principal

    def find_unconfirmed(self, token: bytes, now: Monotonic) -> tuple[Principal, int] | None:
        """The principal of a token, if its org's auth_revision is still the second value."""
        entry = self._entries.get(sha256(token).digest())
        if entry is None or entry.dies_at <= now:
            return None
        return entry.principal, entry.revision

    def keep(
        self, token: bytes, principal: Principal, *, revision: int, dies_at: Monotonic, now: Monotonic
    ) -> None:
        """Remember a token that was verified under that revision of its org, read just now."""
        digest = sha256(token).digest()
        self._entries.pop(digest, None)
        if len(self._entries) >= TOKEN_CACHE_ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        self._entries[digest] = _Entry(principal, revision, dies_at)
        self.confirm(principal.org, revision, now)

    def confirm(self, org: OrgId, revision: int, now: Monotonic) -> None:
        """The org's auth_revision was read just now."""
        if len(self._revisions) >= TOKEN_CACHE_ENTRIES_MAX and org not in self._revisions:
            del self._revisions[next(iter(self._revisions))]
        self._revisions[org] = (revision, now + AUTH_REVISION_SEEN_MS)

    def clear(self) -> None:
        """Forget all: something changed that tokens stand on."""
        self._entries.clear()
        self._revisions.clear()
