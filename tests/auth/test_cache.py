"""The cache of verified tokens: when an entry is good, and that the cache has an end."""

from statebacked.auth.cache import TokenCache
from statebacked.auth.principal import Principal
from statebacked.model.ids import Monotonic, OrgId
from statebacked.model.limits import AUTH_REVISION_SEEN_MS, TOKEN_CACHE_ENTRIES_MAX
from statebacked.model.values import Json

ORG = OrgId("org_1")
SOMEBODY = Principal(
    org=ORG, scopes=frozenset(), auth=Json(b"{}"), kind="key", expires_at=None, key=None, user=None
)


def at(ms: int) -> Monotonic:
    return Monotonic(ms)


def kept(dies_at: int = 60_000) -> TokenCache:
    cache = TokenCache()
    cache.keep(b"token", SOMEBODY, revision=3, dies_at=at(dies_at), now=at(0))
    return cache


def test_a_token_is_found_while_its_revision_was_seen_lately() -> None:
    cache = kept()
    assert cache.find(b"token", at(AUTH_REVISION_SEEN_MS - 1)) is SOMEBODY
    assert cache.find(b"token", at(AUTH_REVISION_SEEN_MS)) is None
    assert cache.find(b"other", at(0)) is None


def test_a_revision_seen_again_makes_the_entry_good_again() -> None:
    cache = kept()
    assert cache.find_unconfirmed(b"token", at(5_000)) == (SOMEBODY, 3)
    cache.confirm(ORG, 3, at(5_000))
    assert cache.find(b"token", at(5_001)) is SOMEBODY


def test_another_revision_ends_the_entry() -> None:
    cache = kept()
    cache.confirm(ORG, 4, at(10))
    assert cache.find(b"token", at(11)) is None


def test_an_entry_ends_with_its_token() -> None:
    cache = kept(dies_at=500)
    assert cache.find(b"token", at(499)) is SOMEBODY
    assert cache.find(b"token", at(500)) is None
    assert cache.find_unconfirmed(b"token", at(500)) is None


def test_clear_forgets_all() -> None:
    cache = kept()
    cache.clear()
    assert cache.find(b"token", at(1)) is None
    assert cache.find_unconfirmed(b"token", at(1)) is None


def test_the_oldest_entry_makes_room() -> None:
    cache = TokenCache()
    for number in range(TOKEN_CACHE_ENTRIES_MAX + 1):
        cache.keep(b"%d" % number, SOMEBODY, revision=1, dies_at=at(60_000), now=at(0))
    assert cache.find(b"0", at(1)) is None
    assert cache.find(b"1", at(1)) is SOMEBODY
    assert cache.find(b"%d" % TOKEN_CACHE_ENTRIES_MAX, at(1)) is SOMEBODY
