"""Where orgs, machines, versions and keys are stored. Transactions and failures are those of store.py."""

from typing import Protocol

from statebacked.model.ids import CodeId, Instant, KeyId, MachineName, OrgId, UserId, VersionId
from statebacked.model.machine import Key, Machine, Membership, Migration, Org, Session, Upload, Version


class Catalogue(Protocol):
    """Orgs, keys, sessions, machines and their versions: everything that is not an instance."""

    async def create_org(self, org: Org, admin: UserId) -> None:
        """A new org with its first admin."""

    async def find_org(self, org: OrgId) -> Org | None: ...

    async def list_memberships(self, user: UserId) -> list[Membership]:
        """Oldest org first."""

    async def add_session(self, session: Session) -> None: ...

    async def find_session(self, token_sha256: bytes) -> Session | None: ...

    async def add_key(self, key: Key) -> None:
        """Raises the org's auth_revision."""

    async def find_key(self, key: KeyId) -> Key | None: ...

    async def list_keys(self, org: OrgId, *, after: str, limit: int) -> list[Key]:
        """By id."""

    async def delete_key(self, org: OrgId, key: KeyId) -> bool:
        """False when that org has no such key. Raises the org's auth_revision."""

    async def create_machine(self, machine: Machine) -> bool:
        """False when the name is taken."""

    async def find_machine(self, org: OrgId, machine: MachineName) -> Machine | None: ...

    async def list_machines(self, org: OrgId, *, after: str, limit: int) -> list[Machine]:
        """By name."""

    async def add_upload(self, upload: Upload, now: Instant) -> bool:
        """False when the org has UPLOADS_PENDING_MAX pending ones. Sweeps those created over an hour ago."""

    async def find_upload(self, id: CodeId) -> Upload | None: ...

    async def put_bundle(self, id: CodeId, bundle: bytes) -> bool:
        """Give a pending upload its (unzipped) bundle; the last one counts. False once finalized."""

    async def drop_upload(self, id: CodeId) -> None:
        """Forget a pending upload and its bundle, if it is pending."""

    async def finalize(self, version: Version, bundle: bytes, *, make_current: bool) -> bool:
        """Turn the upload into a version, once; False when it was finalized before."""

    async def finalize_migration(self, migration: Migration, bundle: bytes) -> bool:
        """Turn the upload into a migration, once; False when it was finalized before."""

    async def list_migrations(self, org: OrgId, machine: MachineName) -> list[Migration]:
        """All of a machine's, in order of creation."""

    async def find_version(self, org: OrgId, machine: MachineName, version: VersionId) -> Version | None: ...

    async def list_versions(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[Version]:
        """In order of creation; `after` is the id of the last one seen."""

    async def load_bundle(self, code: CodeId) -> bytes:
        """The code of a finalized version or migration. Raises KeyError when there is none."""

    async def get_meta(self, name: str) -> bytes | None:
        """A small named value of the server itself (the master key's fingerprint)."""

    async def put_meta(self, name: str, value: bytes) -> None: ...
