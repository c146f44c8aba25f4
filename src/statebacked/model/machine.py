"""The catalogue's nouns: orgs, keys, sessions, machines, versions, migrations and uploads."""

from dataclasses import dataclass
from typing import Literal

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

Role = Literal["admin", "write", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Org:
    """`auth_revision` rises with every change that can end a verified token's validity."""

    id: OrgId
    name: str
    created_at: Instant
    allow_anonymous: bool
    auth_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    org: Org
    user: UserId
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """`sealed_secret` is encrypted under the master key; the plain secret is shown once, at creation."""

    id: KeyId
    org: OrgId
    name: str
    scopes: tuple[str, ...]
    sealed_secret: bytes
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An opaque session of a user; only the SHA-256 of its token is stored. `expires_at` None: never."""

    token_sha256: bytes
    user: UserId
    created_at: Instant
    expires_at: Instant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable version of a machine's code. `xstate` is the exact library version it is linked with,
    or "inlined-4" / "inlined-5" when the bundle carries its own copy."""

    id: VersionId
    org: OrgId
    machine: MachineName
    created_at: Instant
    client_info: str | None
    index_selectors: tuple[tuple[str, str], ...]
    xstate: str
    bundle_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """How instances of one version of a machine become instances of another: immutable code. `xstate` is the
    version of the library that its worker links."""

    id: MigrationId
    org: OrgId
    machine: MachineName
    from_version: VersionId
    to_version: VersionId
    created_at: Instant
    xstate: str
    bundle_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    org: OrgId
    name: MachineName
    created_at: Instant
    indexes: tuple[str, ...]
    current: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A version or a migration that is being uploaded: reserved, then given its bundle once, then finalized
    once.

    `xstate_hint` is the exact version that the client says its file resolves, or None. `migrates`: from which
    version to which, for a migration.
    """

    id: CodeId
    org: OrgId
    machine: MachineName
    expires_at: Instant
    gzip: bool
    xstate_hint: str | None
    bundle: bytes | None
    state: Literal["pending", "finalized"]
    migrates: tuple[VersionId, VersionId] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSummary:
    """A row of an instance list."""

    name: str
    created_at: Instant
    status: Literal["running", "paused"]
    version: VersionId
    client_info: str | None
    version_created_at: Instant
