"""Fixtures of the API's tests."""

import pytest

from tests.api.server import ApiServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()
