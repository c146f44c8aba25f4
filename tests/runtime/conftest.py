"""A running worker of each major."""

from collections.abc import Iterator

import pytest

from tests.runtime.driver import WorkerProcess


@pytest.fixture
def worker5() -> Iterator[WorkerProcess]:
    with WorkerProcess(5) as worker:
        yield worker


@pytest.fixture
def worker4() -> Iterator[WorkerProcess]:
    with WorkerProcess(4) as worker:
        yield worker
