"""Fixtures of the tests of auth."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
