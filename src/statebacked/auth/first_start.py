"""The first start of a data folder: one org, one admin, one key, and the file that says so."""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
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
    """What admin.json holds: everything that the command line needs to speak for the first admin.
    `localUrl` is the server's address on its own machine, which `url` need not be."""

    url: str
    orgId: str
    adminToken: str
    keyId: str
    secretKey: str
    localUrl: str = ""


class AdminFileRefused(Exception):
    """admin.json is not what a server writes."""


async def ensure_admin(
    data: Path,
    url: str,
    local_url: str,
    *,
    catalogue: Catalogue,
    keyring: Keyring,
    clock: Clock,
    ids: Ids,
    random_bytes: RandomBytes,
) -> AdminFile | None:
    """Create the first org, admin and key of an empty folder and write admin.json (0600); later only bring
    its addresses up to date. None when the folder has data and its admin.json was taken away. Raises
    AdminFileRefused."""
    file = data / FILE_NAME
    if file.exists():
        held = _read(file)
        admin = replace(held, url=url, localUrl=local_url)
        if admin != held:
            _write(file, admin)
        return admin
    if await catalogue.get_meta("first-org") is not None:
        return None
    admin = await _create(url, catalogue, keyring, clock, ids, random_bytes)
    admin = replace(admin, localUrl=local_url)
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


def _read(file: Path) -> AdminFile:
    """Also that of an earlier or later version. Raises AdminFileRefused."""
    advice = "put a copy back, or move it away and the server starts without one"
    try:
        held = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise AdminFileRefused(f"cannot read {file}: {exc}; {advice}") from exc
    known = [field.name for field in fields(AdminFile)]
    texts = {name: held[name] for name in known if name in held} if isinstance(held, dict) else {}
    if not {*known} - {"localUrl"} <= texts.keys() or not all(isinstance(v, str) for v in texts.values()):
        raise AdminFileRefused(f"{file} does not hold what a server writes there; {advice}")
    return AdminFile(**texts)


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
