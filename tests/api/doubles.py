"""Doubles of what the API stands on: a catalogue, a store and an engine in memory, and a clock by hand."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count, islice

import msgspec

from statebacked.api.use_cases import Subscriber
from statebacked.auth.secrets import Keyring
from statebacked.model.envelopes import Control, Repeatable, Wish
from statebacked.model.errors import (
    Conflict,
    InvalidMachine,
    MachineRefusal,
    NoCurrentVersion,
    NoMigrationPath,
    NotFound,
    RejectedByAuthorizer,
    StateBackedError,
)
from statebacked.model.ids import (
    CodeId,
    EnvelopeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    KeyId,
    MachineName,
    Monotonic,
    OrgId,
    Seq,
    UserId,
    VersionId,
)
from statebacked.model.indexes import IndexedState, IndexKey, IndexRow, Order, Range, ReadablePage
from statebacked.model.limits import UPLOADS_PENDING_MAX
from statebacked.model.machine import (
    InstanceSummary,
    Key,
    Machine,
    Membership,
    Migration,
    Org,
    Role,
    Session,
    Upload,
    Version,
)
from statebacked.model.rows import DeadLetter, InstanceRecord, StateView, Transition
from statebacked.model.values import Json, Now
from statebacked.ports.machines import Validated
from statebacked.store.memory_indexes import MemoryIndexes

START = Instant(1_750_000_000_000)


class HandClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.wall = int(START)
        self.mono = 5_000

    def now(self) -> Now:
        return Now(Instant(self.wall), Monotonic(self.mono))

    def pass_ms(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms


class CountedIds:
    """Ids in the right form, each another."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new(self, prefix: str) -> str:
        digest = sha256(f"{prefix}{next(self._numbers)}".encode()).digest()[:16]
        return f"{prefix}_{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


class CountedBytes:
    """Bytes that look random and never repeat."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, size: int) -> bytes:
        return b"".join(sha256(f"{next(self._numbers)}".encode()).digest() for _ in range(size // 32 + 1))[
            :size
        ]


def keyring() -> Keyring:
    return Keyring(b"k" * 32, CountedBytes())


class MemoryCatalogue:
    """ports.Catalogue in dictionaries."""

    def __init__(self) -> None:
        self.orgs: dict[OrgId, Org] = {}
        self.memberships: list[Membership] = []
        self.sessions: dict[bytes, Session] = {}
        self.keys: dict[KeyId, Key] = {}
        self.machines: dict[tuple[OrgId, MachineName], Machine] = {}
        self.uploads: dict[CodeId, Upload] = {}
        self.versions: dict[VersionId, Version] = {}
        self.migrations: list[Migration] = []
        self.bundles: dict[CodeId, bytes] = {}
        self.meta: dict[str, bytes] = {}
        self.reads = 0

    def raise_revision(self, org: OrgId) -> None:
        self.orgs[org] = replace(self.orgs[org], auth_revision=self.orgs[org].auth_revision + 1)

    def add_member(self, org: OrgId, user: UserId, role: Role) -> None:
        self.memberships.append(Membership(org=self.orgs[org], user=user, role=role))
        self.raise_revision(org)

    async def create_org(self, org: Org, admin: UserId) -> None:
        self.orgs[org.id] = org
        self.memberships.append(Membership(org=org, user=admin, role="admin"))

    async def find_org(self, org: OrgId) -> Org | None:
        self.reads += 1
        return self.orgs.get(org)

    async def list_memberships(self, user: UserId) -> list[Membership]:
        return [
            replace(membership, org=self.orgs[membership.org.id])
            for membership in self.memberships
            if membership.user == user
        ]

    async def add_session(self, session: Session) -> None:
        self.sessions[session.token_sha256] = session

    async def find_session(self, token_sha256: bytes) -> Session | None:
        return self.sessions.get(token_sha256)

    async def add_key(self, key: Key) -> None:
        self.keys[key.id] = key
        self.raise_revision(key.org)

    async def find_key(self, key: KeyId) -> Key | None:
        self.reads += 1
        return self.keys.get(key)

    async def list_keys(self, org: OrgId, *, after: str, limit: int) -> list[Key]:
        keys = sorted((key for key in self.keys.values() if key.org == org), key=lambda key: key.id)
        return [key for key in keys if key.id > after][:limit]

    async def delete_key(self, org: OrgId, key: KeyId) -> bool:
        found = self.keys.get(key)
        if found is None or found.org != org:
            return False
        del self.keys[key]
        self.raise_revision(org)
        return True

    async def create_machine(self, machine: Machine) -> bool:
        address = (machine.org, machine.name)
        return self.machines.setdefault(address, machine) is machine

    async def find_machine(self, org: OrgId, machine: MachineName) -> Machine | None:
        return self.machines.get((org, machine))

    async def list_machines(self, org: OrgId, *, after: str, limit: int) -> list[Machine]:
        machines = sorted(
            (machine for machine in self.machines.values() if machine.org == org),
            key=lambda machine: machine.name,
        )
        return [machine for machine in machines if machine.name > after][:limit]

    async def add_upload(self, upload: Upload, now: Instant) -> bool:
        pending = [
            other for other in self.uploads.values() if other.org == upload.org and other.state == "pending"
        ]
        if len(pending) >= UPLOADS_PENDING_MAX:
            return False
        self.uploads[upload.id] = upload
        return True

    async def find_upload(self, id: CodeId) -> Upload | None:
        return self.uploads.get(id)

    async def put_bundle(self, id: CodeId, bundle: bytes) -> bool:
        upload = self.uploads[id]
        if upload.state == "finalized":
            return False
        self.uploads[id] = replace(upload, bundle=bundle)
        return True

    async def drop_upload(self, id: CodeId) -> None:
        if self.uploads[id].state == "pending":
            del self.uploads[id]

    async def finalize(self, version: Version, bundle: bytes, *, make_current: bool) -> bool:
        upload = self.uploads[version.id]
        if upload.state == "finalized":
            return False
        self.uploads[version.id] = replace(upload, state="finalized", bundle=None)
        self.versions[version.id] = version
        self.bundles[version.id] = bundle
        if make_current:
            address = (version.org, version.machine)
            self.machines[address] = replace(self.machines[address], current=version)
        return True

    async def finalize_migration(self, migration: Migration, bundle: bytes) -> bool:
        upload = self.uploads[migration.id]
        if upload.state == "finalized":
            return False
        self.uploads[migration.id] = replace(upload, state="finalized", bundle=None)
        self.migrations.append(migration)
        self.bundles[migration.id] = bundle
        return True

    async def list_migrations(self, org: OrgId, machine: MachineName) -> list[Migration]:
        return [one for one in self.migrations if (one.org, one.machine) == (org, machine)]

    async def find_version(self, org: OrgId, machine: MachineName, version: VersionId) -> Version | None:
        found = self.versions.get(version)
        return found if found and (found.org, found.machine) == (org, machine) else None

    async def list_versions(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[Version]:
        versions = [
            version for version in self.versions.values() if (version.org, version.machine) == (org, machine)
        ]
        ids = [version.id for version in versions]
        start = ids.index(VersionId(after)) + 1 if after else 0
        return versions[start : start + limit]

    async def load_bundle(self, code: CodeId) -> bytes:
        return self.bundles[code]

    async def get_meta(self, name: str) -> bytes | None:
        return self.meta.get(name)

    async def put_meta(self, name: str, value: bytes) -> None:
        self.meta[name] = value


class FakeMachines:
    """Accepts any bundle that does not hold the word "broken"."""

    def __init__(self) -> None:
        self.hints: list[str | None] = []

    async def validate(self, bundle: bytes, xstate_hint: str | None) -> Validated:
        self.hints.append(xstate_hint)
        if b"broken" in bundle:
            raise InvalidMachine("SyntaxError: Unexpected token at machine.js:1")
        return Validated(xstate_hint or "5.33.3")

    async def validate_migration(self, bundle: bytes) -> Validated:
        if b"broken" in bundle:
            raise InvalidMachine("the module does not export a function upgradeState")
        return Validated("5.33.3")


@dataclass
class _Life:
    record: InstanceRecord
    transitions: list[Transition]


class FakeEngine:
    """Use cases over instances whose state is the last event's type, and the part of ports.Store that the API
    reads. An authContext with `refused: true` is admitted nowhere."""

    def __init__(self, catalogue: MemoryCatalogue, clock: HandClock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._ids = CountedIds()
        self.lives: dict[InstanceKey, _Life] = {}
        self.indexes = MemoryIndexes()
        self.hidden: set[InstanceName] = set()  # from anonymous callers
        self.subscribers: list[tuple[InstanceKey, Json, Subscriber]] = []
        self.events: list[tuple[InstanceKey, Json, Json]] = []
        self.is_usable = True
        self.next_error: Exception | None = None

    async def create_instance(
        self,
        key: InstanceKey,
        context: Json | None,
        version: VersionId | None,
        auth: Json,
        repeatable: Repeatable | None = None,
    ) -> StateView:
        machine = await self._catalogue.find_machine(key.org, key.machine)
        if machine is None:
            raise NotFound(f"there is no machine {key.machine}")
        if version is None:
            if machine.current is None:
                raise NoCurrentVersion("make a version current, or name one")
            version = machine.current.id
        elif await self._catalogue.find_version(key.org, key.machine, version) is None:
            raise NotFound("there is no such version")
        self._judge(auth)
        if key in self.lives:
            raise Conflict(f"instance {key.name} exists")
        public = msgspec.json.decode(context or b"{}").get("public")
        view = StateView(
            seq=Seq(1),
            ts=self._clock.now().wall,
            value=Json(b'"start"'),
            tags=Json(b'["fresh"]'),
            done=False,
            public=Json(msgspec.json.encode(public)) if public is not None else None,
        )
        record = InstanceRecord(
            id=InstanceId(self._ids.new("ins")),
            key=key,
            version=version,
            status="running",
            created_at=self._clock.now().wall,
            view=view,
            snapshot=Json(b"{}"),
            context=context or Json(b"{}"),
        )
        self.lives[key] = _Life(record, [])
        self._record(key, Json(b'{"type":"xstate.init"}'), auth)
        return view

    async def send_event(
        self, key: InstanceKey, event: Json, auth: Json, repeatable: Repeatable | None = None
    ) -> StateView:
        life = self._life(key)
        self._judge(auth)
        self.events.append((key, event, auth))
        kind = msgspec.json.decode(event)["type"]
        if kind == "throw":
            raise MachineRefusal("machine-error", "TypeError: secret is undefined")
        view = msgspec.structs.replace(
            life.record.view,
            seq=Seq(life.record.view.seq + 1),
            ts=Instant(life.record.view.ts + 1),
            value=Json(msgspec.json.encode(kind)),
            tags=Json(b"[]"),
            done=kind == "end",
        )
        life.record = msgspec.structs.replace(life.record, view=view)
        self._record(key, event, auth)
        for watched, _, subscriber in list(self.subscribers):
            if watched == key:
                subscriber.update(view)
        return view

    async def read(self, key: InstanceKey, auth: Json) -> StateView:
        life = self._life(key)
        self._judge(auth)
        return life.record.view

    async def admin_read(self, key: InstanceKey) -> InstanceRecord:
        return self._life(key).record

    async def find_indexed(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int
    ) -> list[IndexRow]:
        return [row for _, row in islice(self.indexes.find(index, ranges, order), limit)]

    async def find_indexed_states(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, bytes_max: int
    ) -> list[IndexedState]:
        raise AssertionError("only an engine asks for states")

    async def find_readable(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, auth: Json
    ) -> ReadablePage:
        self._judge(auth)
        rows = await self.find_indexed(index, ranges, order=order, limit=limit + 1)
        page = rows[:limit]
        readable = [row for row in page if row.name not in self.hidden]
        return ReadablePage(readable, page[-1] if len(rows) > limit else None)

    async def subscribe(self, key: InstanceKey, auth: Json, subscriber: Subscriber) -> "_Heard":
        life = self._life(key)
        self._judge(auth)
        self.subscribers.append((key, auth, subscriber))
        subscriber.update(life.record.view)
        return _Heard(self, (key, auth, subscriber))

    def refuse_all(self, error: StateBackedError) -> None:
        heard, self.subscribers = self.subscribers, []
        for _, _, subscriber in heard:
            subscriber.refuse(error)

    def is_throttled(self, key: InstanceKey) -> bool:
        return False

    def usable(self) -> bool:
        return self.is_usable

    async def wish(self, key: InstanceKey, version: VersionId) -> None:
        self._life(key)
        if version not in self._catalogue.versions:
            raise NoMigrationPath(f"no migrations lead to {version}")
        await self.control(key, Wish(version))

    async def control(self, key: InstanceKey, payload: Control) -> StateView:
        return self._life(key).record.view

    async def redrive(self, org: OrgId, letter: str) -> DeadLetter:
        raise NotFound("there is no such dead letter")

    async def discard(self, org: OrgId, letter: str) -> None:
        raise NotFound("there is no such dead letter")

    # --- ports.Store, the part that the API reads ------------------------------------------------

    async def load(self, key: InstanceKey) -> InstanceRecord | None:
        return self.lives[key].record if key in self.lives else None

    async def list_instances(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[InstanceSummary]:
        records = sorted(
            (life.record for key, life in self.lives.items() if key[:2] == (org, machine)),
            key=lambda record: record.key.name,
        )
        return [self._summary(record) for record in records if record.key.name > after][:limit]

    async def find_answer(self, org: OrgId, scope: bytes, key: str) -> None:
        return None

    async def keep_answer(self, org: OrgId, scope: bytes, key: str, status: int, answer: bytes) -> None:
        pass

    async def list_dead_letters(
        self,
        org: OrgId,
        *,
        machine: MachineName | None,
        instance: InstanceName | None,
        after: str,
        limit: int,
    ) -> list[DeadLetter]:
        return []

    async def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        return [t for t in self.lives[key].transitions if t.seq > after][:limit]

    def _summary(self, record: InstanceRecord) -> InstanceSummary:
        version = self._catalogue.versions[record.version]
        return InstanceSummary(
            name=record.key.name,
            created_at=record.created_at,
            status=record.status,
            version=version.id,
            client_info=version.client_info,
            version_created_at=version.created_at,
        )

    def _life(self, key: InstanceKey) -> _Life:
        if self.next_error is not None:
            error, self.next_error = self.next_error, None
            raise error
        if key not in self.lives:
            raise NotFound(f"there is no instance {key.name}")
        return self.lives[key]

    def _judge(self, auth: Json) -> None:
        if re.search(rb'"refused":true', auth):
            raise RejectedByAuthorizer("allowWrite said: not you, Mallory")

    def _record(self, key: InstanceKey, event: Json, auth: Json) -> None:
        record = self.lives[key].record
        self.lives[key].transitions.append(
            Transition(
                seq=record.view.seq,
                ts=record.view.ts,
                at=self._clock.now().wall,
                event_id=EnvelopeId(self._ids.new("evt")),
                event=event,
                value=record.view.value,
                source="client",
                actor=auth,
                version=record.version,
            )
        )


@dataclass
class _Heard:
    engine: FakeEngine
    entry: tuple[InstanceKey, Json, Subscriber]

    def close(self) -> None:
        if self.entry in self.engine.subscribers:
            self.engine.subscribers.remove(self.entry)
