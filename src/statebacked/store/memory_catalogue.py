"""The executable specification of ports.Catalogue, in plain dictionaries."""

from dataclasses import dataclass, replace

from statebacked.model.ids import (
    CodeId,
    Instant,
    KeyId,
    MachineName,
    MigrationId,
    OrgId,
    UserId,
    VersionId,
)
from statebacked.model.limits import UPLOAD_EXPIRES_MS, UPLOAD_SWEPT_MS, UPLOADS_PENDING_MAX
from statebacked.model.machine import (
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
from statebacked.ports.store import StoreFailed


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine; its current version stands in `versions`."""

    machine: Machine
    current: VersionId | None


class MemoryCatalogue:
    """Implements ports.Catalogue. A thing that exists already, or that names an org or a machine that does
    not exist, raises StoreFailed and writes nothing, unless the port says otherwise."""

    def __init__(self) -> None:
        self.orgs: dict[OrgId, Org] = {}
        self.memberships: dict[tuple[UserId, OrgId], Role] = {}
        self.sessions: dict[bytes, Session] = {}
        self.keys: dict[KeyId, Key] = {}
        self.machines: dict[tuple[OrgId, MachineName], MachineRow] = {}
        self.uploads: dict[CodeId, Upload] = {}
        self.versions: dict[VersionId, Version] = {}  # in the order of creation
        self.migrations: dict[MigrationId, Migration] = {}  # in the order of creation
        self.bundles: dict[CodeId, bytes] = {}
        self.meta: dict[str, bytes] = {}

    # --- orgs, sessions, keys ------------------------------------------------------------------------

    async def create_org(self, org: Org, admin: UserId) -> None:
        _require(org.id not in self.orgs, "this org exists")
        self.orgs[org.id] = org
        self.memberships[admin, org.id] = "admin"

    async def find_org(self, org: OrgId) -> Org | None:
        return self.orgs.get(org)

    async def list_memberships(self, user: UserId) -> list[Membership]:
        found = [
            Membership(org=self.orgs[org], user=user, role=role)
            for (member, org), role in self.memberships.items()
            if member == user
        ]
        return sorted(found, key=lambda membership: (membership.org.created_at, membership.org.id))

    async def add_session(self, session: Session) -> None:
        _require(session.token_sha256 not in self.sessions, "this session exists")
        self.sessions[session.token_sha256] = session

    async def find_session(self, token_sha256: bytes) -> Session | None:
        return self.sessions.get(token_sha256)

    async def add_key(self, key: Key) -> None:
        _require(key.id not in self.keys, "this key exists")
        self._raise_auth_revision(key.org)
        self.keys[key.id] = key

    async def find_key(self, key: KeyId) -> Key | None:
        return self.keys.get(key)

    async def list_keys(self, org: OrgId, *, after: str, limit: int) -> list[Key]:
        found = [key for id, key in sorted(self.keys.items()) if key.org == org and id > after]
        return found[:limit]

    async def delete_key(self, org: OrgId, key: KeyId) -> bool:
        if key not in self.keys or self.keys[key].org != org:
            return False
        del self.keys[key]
        self._raise_auth_revision(org)
        return True

    def _raise_auth_revision(self, org: OrgId) -> None:
        _require(org in self.orgs, "no such org")
        self.orgs[org] = replace(self.orgs[org], auth_revision=self.orgs[org].auth_revision + 1)

    # --- machines, versions, uploads -----------------------------------------------------------------

    async def create_machine(self, machine: Machine) -> bool:
        if (machine.org, machine.name) in self.machines:
            return False
        _require(machine.org in self.orgs, "no such org")
        current = None if machine.current is None else machine.current.id
        self.machines[machine.org, machine.name] = MachineRow(replace(machine, current=None), current)
        return True

    async def find_machine(self, org: OrgId, machine: MachineName) -> Machine | None:
        row = self.machines.get((org, machine))
        return None if row is None else self._with_current(row)

    async def list_machines(self, org: OrgId, *, after: str, limit: int) -> list[Machine]:
        found = [row for (of, name), row in sorted(self.machines.items()) if of == org and name > after]
        return [self._with_current(row) for row in found[:limit]]

    def _with_current(self, row: MachineRow) -> Machine:
        current = None if row.current is None else self.versions.get(row.current)
        return replace(row.machine, current=current)

    async def add_upload(self, upload: Upload, now: Instant) -> bool:
        kept = {id: one for id, one in self.uploads.items() if not _is_swept(one, now)}
        pending = [one for one in kept.values() if one.org == upload.org and one.state == "pending"]
        is_taken = len(pending) < UPLOADS_PENDING_MAX
        if is_taken:
            _require(upload.id not in kept, "this upload exists")
            _require((upload.org, upload.machine) in self.machines, "no such machine")
            kept[upload.id] = upload
        self.uploads = kept
        return is_taken

    async def find_upload(self, id: CodeId) -> Upload | None:
        return self.uploads.get(id)

    async def put_bundle(self, id: CodeId, bundle: bytes) -> bool:
        upload = self.uploads.get(id)
        if upload is None or upload.state == "finalized":
            return False
        self.uploads[id] = replace(upload, bundle=bundle)
        return True

    async def drop_upload(self, id: CodeId) -> None:
        upload = self.uploads.get(id)
        if upload is not None and upload.state == "pending":
            del self.uploads[id]

    async def finalize(self, version: Version, bundle: bytes, *, make_current: bool) -> bool:
        if not self._finalize(version, bundle):
            return False
        self.versions[version.id] = version
        if make_current:
            row = self.machines[version.org, version.machine]
            self.machines[version.org, version.machine] = MachineRow(row.machine, version.id)
        return True

    async def finalize_migration(self, migration: Migration, bundle: bytes) -> bool:
        if not self._finalize(migration, bundle):
            return False
        self.migrations[migration.id] = migration
        return True

    def _finalize(self, made: Version | Migration, bundle: bytes) -> bool:
        upload = self.uploads.get(made.id)
        if upload is None or upload.state == "finalized":
            return False
        migrates = (made.from_version, made.to_version) if isinstance(made, Migration) else None
        if (upload.org, upload.machine, upload.migrates) != (made.org, made.machine, migrates):
            return False
        self.uploads[made.id] = replace(upload, bundle=None, state="finalized")
        self.bundles[made.id] = bundle
        return True

    async def list_migrations(self, org: OrgId, machine: MachineName) -> list[Migration]:
        return [one for one in self.migrations.values() if (one.org, one.machine) == (org, machine)]

    async def find_version(self, org: OrgId, machine: MachineName, version: VersionId) -> Version | None:
        found = self.versions.get(version)
        return found if found is not None and (found.org, found.machine) == (org, machine) else None

    async def list_versions(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[Version]:
        ids = list(self.versions)
        if after and after not in self.versions:
            return []
        later = ids[ids.index(VersionId(after)) + 1 :] if after else ids
        found = [self.versions[id] for id in later]
        return [one for one in found if (one.org, one.machine) == (org, machine)][:limit]

    async def load_bundle(self, code: CodeId) -> bytes:
        return self.bundles[code]

    # --- the server itself ---------------------------------------------------------------------------

    async def get_meta(self, name: str) -> bytes | None:
        return self.meta.get(name)

    async def put_meta(self, name: str, value: bytes) -> None:
        self.meta[name] = value


def _is_swept(upload: Upload, now: Instant) -> bool:
    created_at = upload.expires_at - UPLOAD_EXPIRES_MS
    return upload.state == "pending" and created_at < now - UPLOAD_SWEPT_MS


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise StoreFailed(message)
