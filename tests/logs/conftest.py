"""A capture on the memory store, with a clock by hand."""

from collections.abc import AsyncIterator

import pytest

from tests.logs.rig import Rig, rig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[Rig]:
    async with rig() as running:
        yield running
