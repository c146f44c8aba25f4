"""Migrations between versions: created in three steps like versions, never changed."""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.machines import find_machine
from statebacked.api.replies import Reply, json_reply
from statebacked.api.signatures import Signatures
from statebacked.api.uploads import Uploads, already_finalized
from statebacked.api.wire import CreateMigration, parse_body
from statebacked.engine.rehearsal import Rehearsal, Rehearsed
from statebacked.model.errors import InvalidMachine, InvalidParameter, InvalidState
from statebacked.model.ids import InstanceName, MigrationId, VersionId
from statebacked.model.limits import DRY_RUN_INSTANCES_MAX, JSON_BODY_BYTES_MAX, MIGRATION_BODY_BYTES_MAX
from statebacked.model.machine import Machine, Migration, Upload
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids
from statebacked.ports.machines import Migrator, Validated
from statebacked.ports.store import Store


class MigrationRoutes:
    """Handlers of /machines/{machine}/migrations."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        migrator: Migrator,
        signatures: Signatures,
        *,
        clock: Clock,
        ids: Ids,
        public_url: str | None,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._migrator = migrator
        self._rehearsal = Rehearsal(catalogue, store, migrator)
        self._uploads = Uploads(catalogue, signatures, clock, public_url)
        self._clock = clock
        self._ids = ids

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {
            "createMigration": self.create,
            "finalizeMigration": self.finalize,
            "dryRunMigration": self.dry_run,
        }

    async def create(self, call: OrgCall) -> Reply:
        # The published client posts the whole code along, as an object with a number a byte.
        body = parse_body(await call.large_body(MIGRATION_BODY_BYTES_MAX), CreateMigration)
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        start = await self._version(machine, body.from_machine_version_id, "fromMachineVersionId")
        goal = await self._version(machine, body.to_machine_version_id, "toMachineVersionId")
        if start == goal:
            raise InvalidParameter("a migration is between two versions", "toMachineVersionId")
        id = MigrationId(self._ids.new("mig"))
        reserved = await self._uploads.reserve(call, machine, id, migrates=(start, goal))
        return json_reply(
            {
                "machineVersionMigrationId": reserved.signed,
                "codeUploadUrl": reserved.url,
                "codeUploadFields": {},
            }
        )

    async def finalize(self, call: OrgCall) -> Reply:
        upload = await self._uploads.find(call, "migration")
        if upload.bundle is None:
            raise InvalidState("no code was uploaded yet: post it to codeUploadUrl first")
        validated = await self._validate(upload, upload.bundle)
        assert upload.migrates is not None
        migration = Migration(
            id=MigrationId(upload.id),
            org=upload.org,
            machine=upload.machine,
            from_version=upload.migrates[0],
            to_version=upload.migrates[1],
            created_at=self._clock.now().wall,
            xstate=validated.xstate,
            bundle_sha256=sha256(upload.bundle).digest(),
        )
        if not await self._catalogue.finalize_migration(migration, upload.bundle):
            raise already_finalized()
        # The published client's types have the id under the second name, its specification under the first.
        return json_reply({"machineVersionMigrationId": migration.id, "machineVersionId": migration.id})

    async def dry_run(self, call: OrgCall) -> Reply:
        """A page of the machine's instances is looked at, as far as time reaches; those of other versions are
        left out."""
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), CreateMigration)
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        start = await self._version(machine, body.from_machine_version_id, "fromMachineVersionId")
        goal = await self._version(machine, body.to_machine_version_id, "toMachineVersionId")
        route = await self._rehearsal.route(machine.org, machine.name, start, goal)
        page = call.page(query=f"{machine.name} {start} {goal}", limit_max=DRY_RUN_INSTANCES_MAX)
        instances = await self._store.list_instances(
            machine.org, machine.name, after=page.after, limit=page.rows_to_read
        )
        names = [InstanceName(one.name) for one in instances[: page.limit] if one.version == start]
        judged = await self._rehearsal.rehearse_first(route, names)
        found = [one for one in judged if one is not None]
        if len(judged) < len(names):
            next_page = page.behind(names[len(judged) - 1])
        else:
            next_page = page.cursor(len(instances), lambda n: instances[n].name)
        return json_reply(
            {
                "migrationPath": [code.migration for code in route.migrations],
                "instances": len(found),
                "failures": [_failure(one) for one in found if one.target is None],
                **next_page,
            }
        )

    async def _validate(self, upload: Upload, bundle: bytes) -> Validated:
        """Raises InvalidMachine; the upload is over then: mistakes must not fill up what may be pending."""
        try:
            return await self._migrator.validate_migration(bundle)
        except InvalidMachine:
            await self._catalogue.drop_upload(upload.id)
            raise

    async def _version(self, machine: Machine, id: str, parameter: str) -> VersionId:
        version = await self._catalogue.find_version(machine.org, machine.name, VersionId(id))
        if version is None:
            raise InvalidParameter(f"the machine has no version {id!r}", parameter)
        return version.id


def _failure(rehearsed: Rehearsed) -> dict[str, object]:
    return {"slug": rehearsed.name, "state": msgspec.Raw(rehearsed.value), "error": rehearsed.reason}
