"""The master key and what is made of it: sealed secrets at rest, and keys derived for one use each.

Theory of operation. One key of 32 bytes stands outside the database. Secrets in the database are sealed
under it with AES-256-GCM; the associated data (org, table, row) makes a sealed value useless in another
row. The database keeps a fingerprint of the key, so that a server never starts with another one and
writes what it could not read later.
"""

import base64
import binascii
import os
import stat
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from statebacked.ports.catalogue import Catalogue

RandomBytes = Callable[[int], bytes]

_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_SEALED_VERSION: Final = b"\x01"
_FINGERPRINT: Final = "master-key-fingerprint"


class MasterKeyRefused(Exception):
    """The server cannot start with this master key; the text says why and what to do."""


class SealBroken(Exception):
    """A sealed secret was made under another key or for another row, or is damaged."""


class Keyring:
    """Seals and opens secrets, and derives keys, under one master key."""

    def __init__(self, master_key: bytes, random_bytes: RandomBytes) -> None:
        assert len(master_key) == _KEY_BYTES
        self._master_key = master_key
        self._random_bytes = random_bytes
        self._cipher = AESGCM(self.derive("sealed secrets"))
        self._key_id = self.derive("key id", length=_KEY_ID_BYTES)

    @property
    def fingerprint(self) -> bytes:
        """Tells this master key from another without giving it away."""
        return self.derive("fingerprint")

    def derive(self, *purpose: str, length: int = _KEY_BYTES) -> bytes:
        """The key for one purpose, for ever the same. Nothing is learnt from it about any other."""
        info = b"statebacked" + b"".join(b"\x00" + part.encode() for part in purpose)
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._master_key)

    def seal(self, plain: bytes, *, org: str, table: str, row: str) -> bytes:
        """The secret as it may stand in that row: version, key id, nonce, ciphertext."""
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain, _associated(org, table, row))
        return _SEALED_VERSION + self._key_id + nonce + sealed

    def open(self, sealed: bytes, *, org: str, table: str, row: str) -> bytes:
        """The secret again. Raises SealBroken."""
        head = len(_SEALED_VERSION) + _KEY_ID_BYTES
        if sealed[:head] != _SEALED_VERSION + self._key_id:
            raise SealBroken("sealed under another master key")
        nonce, ciphertext = sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, _associated(org, table, row))
        except (InvalidTag, ValueError) as exc:
            raise SealBroken("damaged, or sealed for another row") from exc


def _associated(org: str, table: str, row: str) -> bytes:
    return b"\x00".join((org.encode(), table.encode(), row.encode()))


# --- where the master key is kept ----------------------------------------------------------------


async def open_keyring(
    catalogue: Catalogue, file: Path, *, given: str | None, random_bytes: RandomBytes
) -> Keyring:
    """The keyring of this database: from the text that was given, else from the file.

    A new database with neither gets a new file (0600 in a folder of 0700). Raises MasterKeyRefused for a file
    that others can read, a damaged key, and a database whose key is absent or another.
    """
    fingerprint = await catalogue.get_meta(_FINGERPRINT)
    master_key = _parse(given, "STATEBACKED_MASTER_KEY") if given else _read(file)
    if master_key is None:
        if fingerprint is not None:
            raise MasterKeyRefused(
                f"this database's secrets need its master key, and {file} does not exist: "
                "put the key back, or name it with --master-key-file"
            )
        master_key = _create(file, random_bytes)
    keyring = Keyring(master_key, random_bytes)
    if fingerprint is None:
        await catalogue.put_meta(_FINGERPRINT, keyring.fingerprint)
    elif not compare_digest(fingerprint, keyring.fingerprint):
        raise MasterKeyRefused("this database was made with another master key: start with the one it had")
    return keyring


def _read(file: Path) -> bytes | None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise MasterKeyRefused(f"others can read {file}: run chmod 600 {file}")
    return _parse(file.read_text(encoding="ascii", errors="replace"), str(file))


def _parse(text: str, source: str) -> bytes:
    try:
        master_key = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        master_key = b""
    if len(master_key) != _KEY_BYTES:
        raise MasterKeyRefused(
            f"{source} holds no master key: it must be 32 bytes in base64url, with padding"
        )
    return master_key


def _create(file: Path, random_bytes: RandomBytes) -> bytes:
    """Write a new key so that a crash leaves the whole key or none."""
    master_key = random_bytes(_KEY_BYTES)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, base64.urlsafe_b64encode(master_key) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return master_key
