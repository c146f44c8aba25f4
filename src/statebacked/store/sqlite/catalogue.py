"""The catalogue in SQLite: plain rows. Every write is a transaction of its own on the writer's thread."""

import sqlite3

import msgspec

from statebacked.model.ids import CodeId, Instant, KeyId, MachineName, OrgId, UserId, VersionId
from statebacked.model.limits import UPLOAD_EXPIRES_MS, UPLOAD_SWEPT_MS, UPLOADS_PENDING_MAX
from statebacked.model.machine import Key, Machine, Membership, Migration, Org, Session, Upload, Version
from statebacked.store.sqlite.queries import load_queries
from statebacked.store.sqlite.readers import Readers, Row
from statebacked.store.sqlite.writer import Writer

_strings = msgspec.json.Decoder(tuple[str, ...])
_pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...])


class SqliteCatalogue:
    """Implements ports.Catalogue."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = load_queries()

    # --- orgs, sessions, keys ------------------------------------------------------------------------

    async def create_org(self, org: Org, admin: UserId) -> None:
        def insert(cursor: sqlite3.Cursor) -> None:
            row = (org.id, org.name, org.created_at, org.allow_anonymous, org.auth_revision)
            cursor.execute(self._sql["insert_org"], row)
            cursor.execute(self._sql["insert_user"], (admin, org.created_at))
            cursor.execute(self._sql["insert_membership"], (admin, org.id, "admin"))

        await self._writer.run(insert)

    async def find_org(self, org: OrgId) -> Org | None:
        row = await self._readers.one(self._sql["find_org"], (org,))
        return None if row is None else _org(row)

    async def list_memberships(self, user: UserId) -> list[Membership]:
        rows = await self._readers.all(self._sql["list_memberships"], (user,))
        return [Membership(org=_org(row[:5]), user=user, role=row[5]) for row in rows]

    async def add_session(self, session: Session) -> None:
        row = (session.token_sha256, session.user, session.created_at, session.expires_at)
        await self._write("insert_session", row)

    async def find_session(self, token_sha256: bytes) -> Session | None:
        row = await self._readers.one(self._sql["find_session"], (token_sha256,))
        if row is None:
            return None
        return Session(token_sha256=row[0], user=row[1], created_at=row[2], expires_at=row[3])

    async def add_key(self, key: Key) -> None:
        def insert(cursor: sqlite3.Cursor) -> None:
            scopes = msgspec.json.encode(key.scopes)
            row = (key.id, key.org, key.name, scopes, key.sealed_secret, key.created_at)
            cursor.execute(self._sql["insert_key"], row)
            cursor.execute(self._sql["raise_auth_revision"], (key.org,))

        await self._writer.run(insert)

    async def find_key(self, key: KeyId) -> Key | None:
        row = await self._readers.one(self._sql["find_key"], (key,))
        return None if row is None else _key(row)

    async def list_keys(self, org: OrgId, *, after: str, limit: int) -> list[Key]:
        return [_key(row) for row in await self._readers.all(self._sql["list_keys"], (org, after, limit))]

    async def delete_key(self, org: OrgId, key: KeyId) -> bool:
        def delete(cursor: sqlite3.Cursor) -> bool:
            cursor.execute(self._sql["delete_key"], (org, key))
            is_deleted = cursor.rowcount == 1
            if is_deleted:
                cursor.execute(self._sql["raise_auth_revision"], (org,))
            return is_deleted

        return await self._writer.run(delete)

    # --- machines, versions, uploads -----------------------------------------------------------------

    async def create_machine(self, machine: Machine) -> bool:
        indexes = msgspec.json.encode(machine.indexes)
        current = None if machine.current is None else machine.current.id
        row = (machine.org, machine.name, machine.created_at, indexes, current)
        return await self._write("insert_machine", row) == 1

    async def find_machine(self, org: OrgId, machine: MachineName) -> Machine | None:
        row = await self._readers.one(self._sql["find_machine"], (org, machine))
        return None if row is None else _machine(row)

    async def list_machines(self, org: OrgId, *, after: str, limit: int) -> list[Machine]:
        rows = await self._readers.all(self._sql["list_machines"], (org, after, limit))
        return [_machine(row) for row in rows]

    async def add_upload(self, upload: Upload, now: Instant) -> bool:
        def insert(cursor: sqlite3.Cursor) -> bool:
            swept_expiry = now - UPLOAD_SWEPT_MS + UPLOAD_EXPIRES_MS
            cursor.execute(self._sql["sweep_bundles"], (swept_expiry,))
            cursor.execute(self._sql["sweep_uploads"], (swept_expiry,))
            row = (
                upload.id,
                upload.org,
                upload.machine,
                upload.expires_at,
                upload.gzip,
                upload.xstate_hint,
                upload.state,
                *(upload.migrates or (None, None)),
                UPLOADS_PENDING_MAX,
            )
            cursor.execute(self._sql["insert_upload"], row)
            is_taken = cursor.rowcount == 1
            if is_taken and upload.bundle is not None:
                cursor.execute(self._sql["put_pending_bundle"], (upload.id, upload.bundle))
            return is_taken

        return await self._writer.run(insert)

    async def find_upload(self, id: CodeId) -> Upload | None:
        row = await self._readers.one(self._sql["find_upload"], (id,))
        return None if row is None else _upload(row)

    async def put_bundle(self, id: CodeId, bundle: bytes) -> bool:
        return await self._write("put_pending_bundle", (id, bundle)) == 1

    async def drop_upload(self, id: CodeId) -> None:
        def drop(cursor: sqlite3.Cursor) -> None:
            cursor.execute(self._sql["drop_pending_bundle"], (id,))
            cursor.execute(self._sql["drop_pending_upload"], (id,))

        await self._writer.run(drop)

    async def finalize(self, version: Version, bundle: bytes, *, make_current: bool) -> bool:
        def turn(cursor: sqlite3.Cursor) -> bool:
            upload = (version.id, version.org, version.machine, None, None)
            cursor.execute(self._sql["finalize_upload"], upload)
            if cursor.rowcount == 0:
                return False
            cursor.execute(self._sql["put_bundle"], (version.id, bundle))
            cursor.execute(self._sql["insert_version"], _version_row(version))
            if make_current:
                row = (version.id, version.org, version.machine)
                cursor.execute(self._sql["set_current_version"], row)
            return True

        return await self._writer.run(turn)

    async def finalize_migration(self, migration: Migration, bundle: bytes) -> bool:
        def turn(cursor: sqlite3.Cursor) -> bool:
            m = migration
            upload = (m.id, m.org, m.machine, m.from_version, m.to_version)
            cursor.execute(self._sql["finalize_upload"], upload)
            if cursor.rowcount == 0:
                return False
            cursor.execute(self._sql["put_bundle"], (m.id, bundle))
            cursor.execute(self._sql["insert_migration"], (*upload, m.created_at, m.xstate, m.bundle_sha256))
            return True

        return await self._writer.run(turn)

    async def list_migrations(self, org: OrgId, machine: MachineName) -> list[Migration]:
        return [
            _migration(row) for row in await self._readers.all(self._sql["list_migrations"], (org, machine))
        ]

    async def find_version(self, org: OrgId, machine: MachineName, version: VersionId) -> Version | None:
        row = await self._readers.one(self._sql["find_version"], (org, machine, version))
        return None if row is None else _version(row)

    async def list_versions(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[Version]:
        rows = await self._readers.all(self._sql["list_versions"], (org, machine, after, limit))
        return [_version(row) for row in rows]

    async def load_bundle(self, code: CodeId) -> bytes:
        row = await self._readers.one(self._sql["load_bundle"], (code,))
        if row is None:
            raise KeyError(code)
        return bytes(row[0])

    # --- the server itself ---------------------------------------------------------------------------

    async def get_meta(self, name: str) -> bytes | None:
        row = await self._readers.one(self._sql["get_meta"], (name,))
        return None if row is None else bytes(row[0])

    async def put_meta(self, name: str, value: bytes) -> None:
        await self._write("put_meta", (name, value))

    async def _write(self, statement: str, row: Row) -> int:
        """Run one statement in its own transaction; the number of rows that it wrote."""
        return await self._writer.run(lambda cursor: cursor.execute(self._sql[statement], row).rowcount)


def _org(row: Row) -> Org:
    id, name, created_at, allow_anonymous, auth_revision = row
    return Org(
        id=id,
        name=name,
        created_at=created_at,
        allow_anonymous=bool(allow_anonymous),
        auth_revision=auth_revision,
    )


def _key(row: Row) -> Key:
    id, org, name, scopes, sealed_secret, created_at = row
    return Key(
        id=id,
        org=org,
        name=name,
        scopes=_strings.decode(scopes),
        sealed_secret=sealed_secret,
        created_at=created_at,
    )


def _machine(row: Row) -> Machine:
    org, name, created_at, indexes, *version = row
    return Machine(
        org=org,
        name=name,
        created_at=created_at,
        indexes=_strings.decode(indexes),
        current=None if version[0] is None else _version(tuple(version)),
    )


def _version(row: Row) -> Version:
    id, org, machine, created_at, client_info, index_selectors, xstate, bundle_sha256 = row
    return Version(
        id=id,
        org=org,
        machine=machine,
        created_at=created_at,
        client_info=client_info,
        index_selectors=_pairs.decode(index_selectors),
        xstate=xstate,
        bundle_sha256=bundle_sha256,
    )


def _version_row(version: Version) -> Row:
    return (
        version.id,
        version.org,
        version.machine,
        version.created_at,
        version.client_info,
        msgspec.json.encode(version.index_selectors),
        version.xstate,
        version.bundle_sha256,
    )


def _upload(row: Row) -> Upload:
    id, org, machine, expires_at, gzip, xstate_hint, bundle, state, from_version, to_version = row
    return Upload(
        id=id,
        org=org,
        machine=machine,
        expires_at=expires_at,
        gzip=bool(gzip),
        xstate_hint=xstate_hint,
        bundle=bundle,
        state=state,
        migrates=None if from_version is None else (from_version, to_version),
    )


def _migration(row: Row) -> Migration:
    id, org, machine, from_version, to_version, created_at, xstate, bundle_sha256 = row
    return Migration(
        id=id,
        org=org,
        machine=machine,
        from_version=from_version,
        to_version=to_version,
        created_at=created_at,
        xstate=xstate,
        bundle_sha256=bundle_sha256,
    )
