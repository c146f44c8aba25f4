"""One server for all attacks, and a neighbour who asks it throughout."""

from collections.abc import Iterator

import pytest

from tests.e2e.asking import answered
from tests.e2e.attacks.arena import (
    CANARY,
    SERVER_MB_MAX,
    WORKERS_LEFT_MAX,
    Arena,
    Neighbour,
    arena,
)


@pytest.fixture(scope="package")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("arena")) as made:
        yield made


@pytest.fixture(scope="package", autouse=True)
def _the_neighbour_notices_nothing(field: Arena) -> Iterator[None]:
    """And when all attacks are over, no worker is left behind, no memory is kept, and nothing has leaked."""
    neighbour = Neighbour(field)
    try:
        yield
        answered_before = len(neighbour.answers)
    finally:
        neighbour.stop()
    assert answered_before > 0
    assert {answer.status_code for answer in neighbour.answers} == {200}
    assert set(neighbour.healths) == {200}
    counts = [answer.json()["publicContext"]["count"] for answer in neighbour.answers]
    assert counts == list(range(1, len(counts) + 1))
    assert field.until_few_workers() <= WORKERS_LEFT_MAX
    assert field.peak_mb() < SERVER_MB_MAX
    assert CANARY not in field.server.log.read_text()
    assert answered(neighbour.asker.get("neighbour", "i"))["publicContext"]["count"] == len(counts)
