"""admin.json: written at the first start, brought up to date later, refused when damaged."""

import itertools
import json
from pathlib import Path

import pytest

from statebacked.auth.first_start import AdminFile, AdminFileRefused, ensure_admin
from statebacked.auth.secrets import open_keyring
from statebacked.model.ids import Instant, Monotonic
from statebacked.model.values import Now
from statebacked.store.memory import MemoryStore

LOCAL = "http://127.0.0.1:7070"


class Clock:
    def now(self) -> Now:
        return Now(Instant(1), Monotonic(1))


class CountedIds:
    def __init__(self) -> None:
        self._numbers = itertools.count()

    def new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):022}"


async def start(folder: Path, store: MemoryStore, url: str = LOCAL) -> AdminFile | None:
    keyring = await open_keyring(store, folder / "master.key", given=None, random_bytes=bytes)
    return await ensure_admin(
        folder,
        url,
        LOCAL,
        catalogue=store,
        keyring=keyring,
        clock=Clock(),
        ids=CountedIds(),
        random_bytes=bytes,
    )


@pytest.mark.anyio
async def test_the_address_on_this_machine_is_kept_beside_the_public_one(tmp_path: Path) -> None:
    store = MemoryStore()
    first = await start(tmp_path, store)
    second = await start(tmp_path, store, "https://sb.test")

    assert first is not None
    assert second is not None
    held = json.loads((tmp_path / "admin.json").read_text())
    assert (held["url"], held["localUrl"]) == ("https://sb.test", LOCAL)
    assert held["adminToken"] == first.adminToken == second.adminToken


@pytest.mark.anyio
async def test_a_file_of_an_earlier_or_a_later_version_is_read(tmp_path: Path) -> None:
    store = MemoryStore()
    await start(tmp_path, store)
    held = json.loads((tmp_path / "admin.json").read_text())
    del held["localUrl"]
    (tmp_path / "admin.json").write_text(json.dumps({**held, "later": 1}))

    admin = await start(tmp_path, store)
    assert admin is not None
    assert admin.localUrl == LOCAL


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"url": "x"}', "[" * 100_000], ids=range(6))
async def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    store = MemoryStore()
    await start(tmp_path, store)
    (tmp_path / "admin.json").write_text(text)

    with pytest.raises(AdminFileRefused, match=r"admin\.json"):
        await start(tmp_path, store)
    assert (tmp_path / "admin.json").read_text() == text
