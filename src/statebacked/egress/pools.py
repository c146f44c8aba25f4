"""Kept connections: one pool for each (org, address, name), so that nobody gets another's connection, and a
name that now leads elsewhere gets none to where it led before.

Theory of operation. A pool is leased while a request is under way. One that nobody has leased for `kept_s` is
closed, connections and all; one timer looks after them while there are any.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import certifi
import httpcore

from statebacked.egress.addresses import Address
from statebacked.egress.metered import PinnedBackend
from statebacked.egress.urls import Target
from statebacked.model.ids import OrgId

_POOLS_MAX: Final = 1_000
_IDLE_CONNECTIONS_MAX: Final = 8  # of one pool

Key = tuple[OrgId | None, Address, tuple[str, str, int]]


class _Leased:
    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self.pool = pool
        self.leases = 0
        self.free_since = 0.0


def default_ssl_context() -> ssl.SSLContext:
    """The system's authorities and those of `certifi`: a small image may have none of its own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class Pools:
    def __init__(self, ssl_context: ssl.SSLContext | None, kept_s: float) -> None:
        self._ssl_context = (
            ssl_context  # None: made when it is needed, since it reads all authorities there are
        )
        self._kept_s = kept_s
        self._pools: dict[Key, _Leased] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(
        self, org: OrgId | None, address: Address, target: Target
    ) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        if self._ssl_context is None and target.scheme == "https":
            self._ssl_context = await asyncio.to_thread(default_ssl_context)
        key = (org, address, target.origin)
        leased = self._pools.get(key)
        if leased is None:
            leased = self._pools[key] = _Leased(self._new(address))
            if len(self._pools) > _POOLS_MAX:
                self._close_oldest()
        leased.leases += 1
        try:
            yield leased.pool
        finally:
            leased.leases -= 1
            leased.free_since = asyncio.get_running_loop().time()
            self._look_later()

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in [*self._pools]:
            self._close(key)
        await asyncio.gather(*self._closing)

    def _new(self, address: Address) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS_MAX,
            keepalive_expiry=self._kept_s,
            network_backend=PinnedBackend(address),
        )

    def _look_later(self) -> None:
        if self._timer is None and self._pools:
            self._timer = asyncio.get_running_loop().call_later(self._kept_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for key, leased in [*self._pools.items()]:
            if not leased.leases and now - leased.free_since >= self._kept_s:
                self._close(key)
        self._look_later()

    def _close_oldest(self) -> None:
        free = [key for key, leased in self._pools.items() if not leased.leases and leased.free_since]
        if free:
            self._close(min(free, key=lambda key: self._pools[key].free_since))

    def _close(self, key: Key) -> None:
        task = asyncio.get_running_loop().create_task(self._pools.pop(key).pool.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
