"""Async tests run on the event loop of production."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def run(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:  # Any: what coroutines are made of
    """Run an async test on the production event loop."""

    def test_run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test()

        uvloop.run(bounded())

    test_run.__name__, test_run.__doc__ = test.__name__, test.__doc__
    return test_run
