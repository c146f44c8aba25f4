"""All open sockets: how many there may be, and what happens to all of them at once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import structlog

from statebacked.api.addresses import address_of
from statebacked.api.bodies import Receive
from statebacked.api.paths import Scope
from statebacked.api.replies import Send
from statebacked.api.socket import SERVICE_RESTART, TRY_AGAIN_LATER, Socket, SocketParts
from statebacked.auth.principal import Principal
from statebacked.model.errors import StateBackedError
from statebacked.model.limits import (
    SOCKETS_PER_ADDRESS_MAX,
    SOCKETS_UNAUTHENTICATED_PER_ADDRESS_MAX,
)

logger = structlog.get_logger(__name__)

_CLOSE_ALL_S: Final = 5.0


class Sockets:
    """Every open socket of the server."""

    def __init__(self, parts: SocketParts, *, sockets_max: int) -> None:
        self._parts = parts
        self._sockets_max = sockets_max
        self._open: set[Socket] = set()
        self._by_address: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._closing = False
        parts.authenticator.on_revoke(self._revoke)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One socket, from its upgrade to its end."""
        await receive()  # websocket.connect
        token, org = _credentials(scope["query_string"])
        socket = Socket(self._parts, receive, send, token=token, org=org)
        is_stranger = isinstance(await socket.find_principal(), StateBackedError)
        address = address_of(scope)
        if self._closing:
            # A refused upgrade would crash the published client; a closed socket it opens again elsewhere.
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": SERVICE_RESTART})
            return
        if not self._has_room(address, is_stranger):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        self._count(address, is_stranger, 1)
        self._open.add(socket)
        try:
            await send({"type": "websocket.accept"})
            await socket.run()
        except OSError:
            logger.debug("a client leaves while its socket opens")
        finally:
            self._open.discard(socket)
            self._count(address, is_stranger, -1)

    async def close(self) -> None:
        """Send what waits, then close every socket with 1012. Those that read nothing are not waited for."""
        self._closing = True
        sockets = list(self._open)
        for socket in sockets:
            socket.close(SERVICE_RESTART)
        if sockets:
            await asyncio.wait([socket.ended for socket in sockets], timeout=_CLOSE_ALL_S)

    def _has_room(self, address: str | None, is_stranger: bool) -> bool:
        if len(self._open) >= self._sockets_max:
            return False
        if address is None:
            return True
        if is_stranger and self._strangers[address] >= SOCKETS_UNAUTHENTICATED_PER_ADDRESS_MAX:
            return False
        return self._by_address[address] < SOCKETS_PER_ADDRESS_MAX

    def _count(self, address: str | None, is_stranger: bool, change: int) -> None:
        if address is None:
            return
        for counter in (self._by_address, self._strangers) if is_stranger else (self._by_address,):
            counter[address] += change
            if counter[address] <= 0:
                del counter[address]

    def _revoke(self, is_affected: Callable[[Principal], bool]) -> None:
        for socket in list(self._open):
            socket.revoke(is_affected)


def _credentials(query_string: bytes) -> tuple[bytes, bytes | None]:
    """The token and the org of an upgrade's query, byte for byte as they were percent-encoded."""
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    token, org = (query.get(name, [""])[0].encode("latin-1") for name in ("token", "x-statebacked-org-id"))
    return token, org or None
