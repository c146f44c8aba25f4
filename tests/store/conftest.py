"""The stores under test: every law of conformance.py holds for each."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    "tests.store.conformance",
    "tests.store.conformance_catalogue",
    "tests.store.conformance_indexes",
    "tests.store.conformance_rows",
    "tests.store.conformance_logs",
)

from statebacked.model.ids import InstanceId  # noqa: E402
from statebacked.ports.logs import LogStore  # noqa: E402
from statebacked.store.memory import MemoryStore  # noqa: E402
from statebacked.store.memory_logs import MemoryLogs  # noqa: E402
from statebacked.store.sqlite.logs import SqliteLogs  # noqa: E402
from statebacked.store.sqlite.store import SqliteStore  # noqa: E402
from tests.store.builders import BothPorts  # noqa: E402

Pause = Callable[[InstanceId], None]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "statebacked.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, file: Path) -> AsyncIterator[BothPorts]:
    if request.param == "memory":
        yield MemoryStore()
        return
    sqlite = await SqliteStore.open(file)
    yield sqlite
    await sqlite.aclose()


@pytest.fixture(params=["memory", "sqlite"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogStore]:
    if request.param == "memory":
        yield MemoryLogs()
        return
    sqlite = await SqliteLogs.open(tmp_path / "data" / "logs.sqlite3")
    yield sqlite
    await sqlite.aclose()


@pytest.fixture
def pause(store: BothPorts, file: Path) -> Pause:
    """Pauses an instance behind the port's back: no operation of the port does it yet."""

    def in_memory(instance: InstanceId) -> None:
        assert isinstance(store, MemoryStore)
        store.instances.instances[instance].status = "paused"

    def in_sqlite(instance: InstanceId) -> None:
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE instances SET status = 'paused' WHERE id = ?", (instance,))
        connection.close()

    return in_memory if isinstance(store, MemoryStore) else in_sqlite
