"""The authenticator where it races: a change while a token is being judged."""

import asyncio
import json

import pytest
from joserfc import jws

from statebacked.auth.authenticator import Authenticator
from statebacked.auth.jwt import PUBLISHED_AUDIENCE, import_secret
from statebacked.auth.keys import create_key
from statebacked.auth.principal import Principal
from statebacked.model.errors import MissingUser
from statebacked.model.ids import KeyId, OrgId, UserId
from statebacked.model.machine import Key, Org
from tests.api.doubles import CountedBytes, HandClock, MemoryCatalogue, keyring

pytestmark = pytest.mark.anyio

ORG = OrgId("org_uHvZHpF4STWvMg8BKVCUTg")
KEY = KeyId("sbk_nXzdtCxESemgtxS5JX-LrA")


class SlowCatalogue(MemoryCatalogue):
    """Lets the test act between the read of a key and the read of its org."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def find_org(self, org: OrgId) -> Org | None:
        found = await super().find_org(org)
        self.reading.set()
        await self.go_on.wait()
        return found


async def world() -> tuple[Authenticator, SlowCatalogue, dict[bytes, bytes]]:
    catalogue, clock, ring = SlowCatalogue(), HandClock(), keyring()
    org = Org(id=ORG, name="acme", created_at=clock.now().wall, allow_anonymous=True, auth_revision=1)
    await catalogue.create_org(org, UserId("usr_1"))
    key, secret = create_key(
        ring, CountedBytes(), key_id=KEY, org=ORG, name="k", scopes=["state.read"], now=clock.now().wall
    )
    await catalogue.add_key(key)
    claims = {"act": {}, "aud": PUBLISHED_AUDIENCE, "exp": clock.wall // 1000 + 3600}
    token = jws.serialize_compact(
        {"alg": "HS256", "kid": KEY}, json.dumps(claims), import_secret(secret.encode())
    )
    authenticator = Authenticator(catalogue, ring, clock, own_audience=None, realtime_grace_ms=0)
    return authenticator, catalogue, {b"authorization": b"Bearer " + token.encode()}


async def test_what_changes_while_a_token_is_judged_is_not_answered_from_memory() -> None:
    authenticator, catalogue, headers = await world()
    catalogue.go_on.clear()
    judging = asyncio.create_task(authenticator.authenticate(headers))
    await catalogue.reading.wait()
    await catalogue.delete_key(ORG, KEY)
    authenticator.revoke(lambda principal: principal.key == KEY)
    catalogue.go_on.set()
    # This one began before the deletion; the next one did not.
    await judging
    assert authenticator.cached(headers) is None
    with pytest.raises(MissingUser):
        await authenticator.authenticate(headers)


async def test_a_confirmed_revision_is_not_believed_after_a_change() -> None:
    authenticator, catalogue, headers = await world()
    await authenticator.authenticate(headers)
    catalogue.go_on.clear()
    catalogue.reading.clear()
    judging = asyncio.create_task(authenticator.authenticate(headers))
    await catalogue.reading.wait()
    await catalogue.delete_key(ORG, KEY)
    authenticator.changed()
    catalogue.go_on.set()
    await judging
    assert authenticator.cached(headers) is None


async def test_revoke_says_who_is_affected() -> None:
    authenticator, _, headers = await world()
    heard: list[bool] = []
    principal = await authenticator.authenticate(headers)
    authenticator.on_revoke(lambda is_affected: heard.append(is_affected(principal)))
    authenticator.revoke(lambda one: one.key == KEY)
    authenticator.revoke(lambda one: one.kind == "anonymous")
    assert heard == [True, False]
    assert isinstance(principal, Principal)


async def test_a_key_whose_secret_was_sealed_elsewhere_is_our_fault_not_the_callers() -> None:
    authenticator, catalogue, headers = await world()
    old = catalogue.keys[KEY]
    catalogue.keys[KEY] = Key(
        id=old.id,
        org=old.org,
        name=old.name,
        scopes=old.scopes,
        sealed_secret=b"\x01" + b"x" * 60,
        created_at=old.created_at,
    )
    with pytest.raises(Exception, match="another master key"):
        await authenticator.authenticate(headers)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"Bearer  "])
async def test_the_scheme_is_written_in_any_case(scheme: bytes) -> None:
    authenticator, _, headers = await world()
    token = headers[b"authorization"].removeprefix(b"Bearer ")
    await authenticator.authenticate({b"authorization": scheme + b" " + token})


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer ", b"Basic dTpw", b"Bearer x" + b"x" * 9000])
async def test_what_is_no_bearer_token_is_a_missing_user(value: bytes) -> None:
    authenticator, _, _ = await world()
    assert authenticator.cached({b"authorization": value}) is None
    with pytest.raises(MissingUser):
        await authenticator.authenticate({b"authorization": value})
