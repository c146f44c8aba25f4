"""The master key and what is sealed under it."""

import base64
import os
from pathlib import Path

import pytest

from statebacked.auth.secrets import Keyring, MasterKeyRefused, SealBroken, open_keyring
from statebacked.ports.catalogue import Catalogue
from tests.api.doubles import CountedBytes, MemoryCatalogue

pytestmark = pytest.mark.anyio

ROW = {"org": "org_1", "table": "keys", "row": "sbk_1"}


def ring(key: bytes = b"k" * 32) -> Keyring:
    return Keyring(key, CountedBytes())


async def opened(
    catalogue: Catalogue, file: Path, given: str | None = None, random_bytes: CountedBytes | None = None
) -> Keyring:
    return await open_keyring(catalogue, file, given=given, random_bytes=random_bytes or CountedBytes())


def test_what_was_sealed_opens_in_its_row_only() -> None:
    sealed = ring().seal(b"sbsec_x", **ROW)
    assert b"sbsec_x" not in sealed
    assert ring().open(sealed, **ROW) == b"sbsec_x"
    for name in ROW:
        with pytest.raises(SealBroken):
            ring().open(sealed, **{**ROW, name: "another"})


def test_a_seal_under_another_key_or_damaged_does_not_open() -> None:
    sealed = ring().seal(b"secret", **ROW)
    with pytest.raises(SealBroken, match="another master key"):
        ring(b"x" * 32).open(sealed, **ROW)
    for at in range(len(sealed)):
        damaged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(SealBroken):
            ring().open(damaged, **ROW)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            ring().open(sealed[:length], **ROW)


def test_two_seals_of_one_secret_differ() -> None:
    keyring = ring()
    assert keyring.seal(b"same", **ROW) != keyring.seal(b"same", **ROW)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {ring().derive("a"), ring().derive("b"), ring().derive("a", "b"), ring(b"x" * 32).derive("a")}
    assert len(keys) == 4
    assert ring().derive("a") in keys


async def test_a_new_database_gets_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    catalogue, file = MemoryCatalogue(), tmp_path / "secrets" / "master.key"
    first = await opened(catalogue, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in file.parent.iterdir()] == ["master.key"]
    again = await opened(catalogue, file)
    assert again.fingerprint == first.fingerprint


async def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    catalogue, file = MemoryCatalogue(), tmp_path / "master.key"
    await opened(catalogue, file)
    for mode in (0o640, 0o604, 0o622):
        file.chmod(mode)
        with pytest.raises(MasterKeyRefused, match="chmod 600"):
            await opened(catalogue, file)


async def test_a_database_whose_key_is_absent_is_refused(tmp_path: Path) -> None:
    catalogue, file = MemoryCatalogue(), tmp_path / "master.key"
    await opened(catalogue, file)
    file.unlink()
    with pytest.raises(MasterKeyRefused, match="does not exist"):
        await opened(catalogue, file)
    assert not file.exists()


async def test_a_database_with_another_key_is_refused(tmp_path: Path) -> None:
    catalogue = MemoryCatalogue()
    await opened(catalogue, tmp_path / "one.key")
    other = base64.urlsafe_b64encode(b"z" * 32).decode()
    with pytest.raises(MasterKeyRefused, match="another master key"):
        await opened(catalogue, tmp_path / "one.key", given=other)


async def test_a_given_key_needs_no_file(tmp_path: Path) -> None:
    given = base64.urlsafe_b64encode(b"z" * 32).decode()
    file = tmp_path / "none.key"
    keyring = await opened(MemoryCatalogue(), file, given=given)
    assert keyring.fingerprint == ring(b"z" * 32).fingerprint
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "short", "é" * 40, base64.urlsafe_b64encode(b"z" * 31).decode()])
async def test_a_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "master.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(MasterKeyRefused, match="no master key"):
        await opened(MemoryCatalogue(), file)


async def test_what_a_crash_left_of_a_new_key_is_written_over(tmp_path: Path) -> None:
    draft = tmp_path / "master.key.new"
    draft.write_text("half")
    await opened(MemoryCatalogue(), tmp_path / "master.key")
    assert not draft.exists()
    assert os.access(tmp_path / "master.key", os.R_OK)
