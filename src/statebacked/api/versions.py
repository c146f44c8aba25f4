"""Versions: created in three steps (reserve, upload, finalize), listed, never changed."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.machines import find_machine
from statebacked.api.replies import Reply, json_reply
from statebacked.api.signatures import Signatures
from statebacked.api.uploads import Uploads, already_finalized
from statebacked.api.wire import CreateVersion, FinalizeVersion, parse_body, version_info
from statebacked.core.indexes import is_selector
from statebacked.model.errors import InvalidMachine, InvalidParameter, InvalidState
from statebacked.model.ids import VersionId
from statebacked.model.limits import (
    INDEX_SELECTOR_CHARACTERS_MAX,
    JSON_BODY_BYTES_MAX,
    PRINTABLE_NAME_CHARACTERS_MAX,
)
from statebacked.model.machine import Machine, Upload, Version
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids
from statebacked.ports.machines import Machines, Validated

_XSTATE_VERSION: Final = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")


class VersionRoutes:
    """Handlers of /machines/{machine}/v."""

    def __init__(
        self,
        catalogue: Catalogue,
        machines: Machines,
        signatures: Signatures,
        *,
        clock: Clock,
        ids: Ids,
        public_url: str | None,
    ) -> None:
        self._catalogue = catalogue
        self._machines = machines
        self._uploads = Uploads(catalogue, signatures, clock, public_url)
        self._clock = clock
        self._ids = ids

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {
            "createVersion": self.create,
            "finalizeVersion": self.finalize,
            "listVersions": self.list,
        }

    async def create(self, call: OrgCall) -> Reply:
        body = await call.body(JSON_BODY_BYTES_MAX)
        hint = parse_body(body, CreateVersion).xstate if body.strip() else None
        if hint is not None and not _XSTATE_VERSION.fullmatch(hint):
            raise InvalidParameter("xstate is an exact version such as 5.33.0", "xstate")
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        id = VersionId(self._ids.new("ver"))
        reserved = await self._uploads.reserve(call, machine, id, xstate_hint=hint)
        return json_reply(
            {"machineVersionId": reserved.signed, "codeUploadUrl": reserved.url, "codeUploadFields": {}}
        )

    async def finalize(self, call: OrgCall) -> Reply:
        body = await call.body(JSON_BODY_BYTES_MAX)
        wanted = parse_body(body, FinalizeVersion) if body.strip() else FinalizeVersion()
        if len(wanted.client_info or "") > PRINTABLE_NAME_CHARACTERS_MAX:
            message = f"clientInfo is at most {PRINTABLE_NAME_CHARACTERS_MAX} characters"
            raise InvalidParameter(message, "clientInfo")
        upload = await self._uploads.find(call, "version")
        machine = await find_machine(self._catalogue, upload.org, upload.machine)
        selectors = _selectors(wanted, machine)
        if upload.bundle is None:
            raise InvalidState("no code was uploaded yet: post it to codeUploadUrl first")
        validated = await self._validate(upload, upload.bundle)
        version = Version(
            id=VersionId(upload.id),
            org=upload.org,
            machine=upload.machine,
            created_at=self._clock.now().wall,
            client_info=wanted.client_info,
            index_selectors=selectors,
            xstate=validated.xstate,
            bundle_sha256=sha256(upload.bundle).digest(),
        )
        if not await self._catalogue.finalize(version, upload.bundle, make_current=wanted.make_current):
            raise already_finalized()
        warnings = {"warnings": validated.warnings} if validated.warnings else {}
        return json_reply({"machineVersionId": version.id, "xstate": version.xstate, **warnings})

    async def _validate(self, upload: Upload, bundle: bytes) -> Validated:
        """Raises InvalidMachine; the upload is over then: mistakes must not fill up what may be pending."""
        try:
            return await self._machines.validate(bundle, upload.xstate_hint)
        except InvalidMachine:
            await self._catalogue.drop_upload(upload.id)
            raise

    async def list(self, call: OrgCall) -> Reply:
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        page = call.page(query=machine.name)
        versions = await self._catalogue.list_versions(
            machine.org, machine.name, after=page.after, limit=page.rows_to_read
        )
        items = [version_info(version) for version in versions[: page.limit]]
        return json_reply({"versions": items, **page.cursor(len(versions), lambda n: versions[n].id)})


def _selectors(wanted: FinalizeVersion, machine: Machine) -> tuple[tuple[str, str], ...]:
    """The current version's, but for those that are asked for; null takes one away.

    Raises InvalidParameter."""
    selectors: dict[str, str | None] = dict(machine.current.index_selectors) if machine.current else {}
    for index, path in (wanted.index_selectors or {}).items():
        if index not in machine.indexes:
            raise InvalidParameter(f"the machine has no index {index!r}", "indexSelectors")
        if path is not None and not is_selector(path):
            raise InvalidParameter(
                f"the selector of index {index!r} is not a path that is supported: "
                f"use $.a.b, $['a'], $[0], $.a[*], in at most {INDEX_SELECTOR_CHARACTERS_MAX} characters",
                "indexSelectors",
            )
        selectors[index] = path
    chosen = ((index, selectors.get(index)) for index in machine.indexes)
    return tuple((index, path) for index, path in chosen if path is not None)
