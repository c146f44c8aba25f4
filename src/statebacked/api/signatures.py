"""Signed ids: what an uploader holds between the three steps of making a version or a migration.

`<its id>.<expiry>.<mac>`. The MAC covers org, machine and kind too: a signed id is good for one step of one
version or migration, until it expires, and for nothing else.
"""

import base64
import hmac
import re
from typing import Final, Literal

from statebacked.auth.secrets import Keyring
from statebacked.model.errors import NotFound
from statebacked.model.ids import CodeId, Instant, MigrationId, VersionId
from statebacked.model.machine import Upload

Kind = Literal["upload", "finalize"]

_SIGNED: Final = re.compile(r"((?:ver|mig)_[A-Za-z0-9_-]{22})\.([0-9]{1,15})\.([A-Za-z0-9_-]{43})")


class Signatures:
    """Signs ids of uploads under the master key."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive("signed version ids")

    def sign(self, upload: Upload, kind: Kind) -> str:
        """The signed id of an upload for one step."""
        return f"{upload.id}.{upload.expires_at}.{self._mac(upload, kind, str(upload.expires_at))}"

    def check(self, signed: str, upload: Upload, kind: Kind, now: Instant) -> None:
        """Raises NotFound when it is not this upload's for that step, or has expired."""
        parsed = _SIGNED.fullmatch(signed)
        if parsed is None or not hmac.compare_digest(parsed[3], self._mac(upload, kind, parsed[2])):
            raise unknown_signature()
        if now >= int(parsed[2]):
            raise NotFound("the upload has expired: create it again")

    def _mac(self, upload: Upload, kind: Kind, expires_at: str) -> str:
        signed = "\n".join((kind, upload.org, upload.machine, upload.id, expires_at)).encode()
        mac = hmac.digest(self._key, signed, "sha256")
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def upload_of(signed: str) -> CodeId:
    """Which upload a signed id claims to be of. Raises NotFound when it is none."""
    parsed = _SIGNED.fullmatch(signed)
    if parsed is None:
        raise unknown_signature()
    return VersionId(parsed[1]) if parsed[1].startswith("ver_") else MigrationId(parsed[1])


def unknown_signature() -> NotFound:
    """The same for a forged signature, another org's and one of no upload."""
    return NotFound("there is no such upload: use the URL and the id that creating the version gave")
