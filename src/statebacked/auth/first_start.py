"""The first start of a data folder: one org, one admin, one key, and the file that says so."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from statebacked.auth.keys import create_key
from statebacked.auth.scopes import ROLE_SCOPES
from statebacked.auth.secrets import Keyring, RandomBytes
from statebacked.auth.sessions import create_session
from statebacked.model.ids import KeyId, OrgId, UserId
from statebacked.model.machine import Org
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids

FILE_NAME = "admin.json"


@dataclass(frozen=True, slots=True)
class AdminFile:
    """What admin.json holds: everything that the command line needs to speak for the first admin."""

    url: str
    orgId: str
    adminToken: str
    keyId: str
    secretKey: str


async def ensure_admin(
    data: Path,
    url: str,
    *,
    catalogue: Catalogue,
    keyring: Keyring,
    clock: Clock,
    ids: Ids,
    random_bytes: RandomBytes,
) -> AdminFile | None:
    """Create the first org, admin and key of an empty folder and write admin.json (0600); later only bring
    its url up to date. None when the folder has data and its admin.json was taken away."""
    file = data / FILE_NAME
    if file.exists():
        held = AdminFile(**json.loads(file.read_text()))
        admin = AdminFile(url, held.orgId, held.adminToken, held.keyId, held.secretKey)
        if admin != held:
            _write(file, admin)
        return admin
    if await catalogue.get_meta("first-org") is not None:
        return None
    admin = await _create(url, catalogue, keyring, clock, ids, random_bytes)
    _write(file, admin)
    await catalogue.put_meta("first-org", admin.orgId.encode())
    return admin


async def _create(
    url: str, catalogue: Catalogue, keyring: Keyring, clock: Clock, ids: Ids, random_bytes: RandomBytes
) -> AdminFile:
    now = clock.now().wall
    org, user = OrgId(ids.new("org")), UserId(ids.new("usr"))
    await catalogue.create_org(
        Org(id=org, name="local", created_at=now, allow_anonymous=True, auth_revision=1), user
    )
    session, token = create_session(user, random_bytes, now=now, expires_at=None)
    await catalogue.add_session(session)
    key, secret = create_key(
        keyring,
        random_bytes,
        key_id=KeyId(ids.new("sbk")),
        org=org,
        name="local",
        scopes=ROLE_SCOPES["admin"],
        now=now,
    )
    await catalogue.add_key(key)
    return AdminFile(url, org, token, key.id, secret)


def _write(file: Path, admin: AdminFile) -> None:
    """So that a crash leaves the old file or the new one, never half of it, and nobody else ever reads it."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(asdict(admin), out, indent=2)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
