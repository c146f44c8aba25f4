"""Real servers, one a module, with the machines of this folder deployed through the command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.asking import Asker
from tests.e2e.servers import E2E, RealServer, real_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if E2E in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    """The published packages: installed by `make test`, never skipped."""
    assert (E2E / "node_modules" / "@statebacked" / "client").is_dir(), "run: npm --prefix tests/e2e ci"


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Started with the flags that the module names as `SERVER_FLAGS`, if it does."""
    flags: Sequence[str] = getattr(request.module, "SERVER_FLAGS", ())
    with real_server(tmp_path_factory.mktemp("server"), flags) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    """A module that needs machines has an `admin` of its own, who has deployed them."""
    return Asker(server)


@pytest.fixture(scope="module")
def counter(server: RealServer) -> Path:
    file = E2E / "machines" / "counter.ts"
    server.smply("machines", "create", "--machine", "counter", "--node", str(file))
    return file
