"""A server in this process: the API over the doubles, with an org, its admin, and ways to sign in."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
from joserfc import jws

from statebacked.api.application import ApiParts, ApiSettings, build_application
from statebacked.api.service import FindObstacle
from statebacked.api.use_cases import Engine
from statebacked.auth.jwt import PUBLISHED_AUDIENCE, import_secret
from statebacked.auth.keys import create_key
from statebacked.auth.scopes import SCOPES
from statebacked.auth.sessions import create_session
from statebacked.logs.budget import Budget
from statebacked.logs.capture import Capture
from statebacked.logs.reading import Logs
from statebacked.logs.retention import Retention
from statebacked.logs.watching import Watches
from statebacked.model.ids import Instant, KeyId, MachineName, OrgId, UserId, VersionId
from statebacked.model.machine import Machine, Org, Role, Version
from statebacked.ports.machines import Machines, Migrator
from statebacked.ports.store import InstanceStore
from statebacked.store.memory import MemoryStore
from tests.api import contract
from tests.api.doubles import CountedBytes, CountedIds, FakeEngine, FakeMachines, HandClock, MemoryCatalogue
from tests.api.doubles import keyring as make_keyring
from tests.logs.rig import FaultyLogs

BASE_URL = "http://localhost:7070"


class ApiServer:
    """One server and its world. Nothing is shared between two of them."""

    def __init__(
        self,
        settings: ApiSettings | None = None,
        *,
        engine: Engine | None = None,
        store: InstanceStore | None = None,
        migrator: Migrator | None = None,
        obstacles: Sequence[FindObstacle] = (),
    ) -> None:
        self.clock = HandClock()
        self.ids = CountedIds()
        self.random_bytes = CountedBytes()
        self.catalogue = MemoryCatalogue()
        self.engine = FakeEngine(self.catalogue, self.clock)
        self.machines = FakeMachines()
        self.keyring = make_keyring()
        self.log_store = FaultyLogs()
        self.watches = Watches()
        budget = Budget({}, self.clock.now())
        capture = Capture(self.log_store, self.clock, budget, self.watches.stored, after=Instant(0))
        erasures = MemoryStore()
        retention = Retention(self.log_store, erasures, capture, self.clock, days=1, bytes_max=10**9)
        self.capture, self.erasures = capture, erasures.instances
        self.app = build_application(
            ApiParts(
                engine=engine or self.engine,
                store=store or cast("InstanceStore", self.engine),
                catalogue=self.catalogue,
                machines=cast("Machines", self.machines),
                logs=Logs(self.log_store, capture, retention, self.watches),
                migrator=migrator or cast("Migrator", self.machines),
                keyring=self.keyring,
                clock=self.clock,
                ids=self.ids,
                random_bytes=self.random_bytes,
                settings=settings or ApiSettings(),
                obstacles=obstacles,
            )
        )

    async def org(self, *, allow_anonymous: bool = True, org_id: OrgId | None = None) -> OrgId:
        """A new org, with a first admin whom nobody knows."""
        org = Org(
            id=org_id or OrgId(self.ids.new("org")),
            name="acme",
            created_at=self.clock.now().wall,
            allow_anonymous=allow_anonymous,
            auth_revision=1,
        )
        await self.catalogue.create_org(org, UserId(self.ids.new("usr")))
        return org.id

    async def session(self, *roles: tuple[OrgId, Role], expires_at: Instant | None = None) -> str:
        """The token of a new user's session, with those memberships."""
        user = UserId(self.ids.new("usr"))
        for org, role in roles:
            self.catalogue.add_member(org, user, role)
        session, token = create_session(
            user, self.random_bytes, now=self.clock.now().wall, expires_at=expires_at
        )
        await self.catalogue.add_session(session)
        return token

    async def key(self, org: OrgId, scopes: Sequence[str] = SCOPES) -> tuple[KeyId, str]:
        """A key's id and secret."""
        key, secret = create_key(
            self.keyring,
            self.random_bytes,
            key_id=KeyId(self.ids.new("sbk")),
            org=org,
            name="a key",
            scopes=scopes,
            now=self.clock.now().wall,
        )
        await self.catalogue.add_key(key)
        return key.id, secret

    async def token(self, org: OrgId, scopes: Sequence[str] = SCOPES, **claims: Any) -> str:
        """A token as customers' backends sign it, with a key of its own."""
        key_id, secret = await self.key(org, scopes)
        return self.sign(key_id, secret, **claims)

    def sign(self, key_id: str, secret: str, **claims: Any) -> str:
        """A token of @statebacked/token 0.2.0, `claims` put over its own. A claim of None is left out."""
        now = self.clock.wall // 1000
        payload = {
            "act": {"sub": "user-1"},
            "aud": PUBLISHED_AUDIENCE,
            "exp": now + 3600,
            "iss": f"https://{key_id}.client.statebacked.dev/",
            "iat": now,
            **claims,
        }
        kept = {name: value for name, value in payload.items() if value is not None}
        return jws.serialize_compact(
            {"alg": "HS256", "kid": key_id}, json.dumps(kept), import_secret(secret.encode())
        )

    async def machine(self, org: OrgId, name: str = "toggler") -> VersionId:
        """A machine with a current version."""
        now = self.clock.now().wall
        version = Version(
            id=VersionId(self.ids.new("ver")),
            org=org,
            machine=MachineName(name),
            created_at=now,
            client_info="1.0",
            index_selectors=(),
            xstate="5.33.3",
            bundle_sha256=b"",
        )
        self.catalogue.versions[version.id] = version
        await self.catalogue.create_machine(
            Machine(org=org, name=MachineName(name), created_at=now, indexes=(), current=version)
        )
        return version.id

    @asynccontextmanager
    async def client(self, token: str | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client, signed in by that token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(app=self.app, client=("127.0.0.1", 50_000))
        hooks = {"response": [contract.check]}
        async with httpx.AsyncClient(
            transport=transport, base_url=BASE_URL, headers=named, event_hooks=hooks
        ) as client:
            yield client
