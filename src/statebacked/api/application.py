"""The ASGI application: from a request to the route that serves it, and from an error to its answer.

Theory of operation. The two hot HTTP routes and /rt are served by hand. Everything else goes through
Starlette's router, each route behind the check of its row in the access table. Whatever is raised on the
way becomes an answer here and nowhere else. Every response carries CORS headers and its request's id.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.routing import Router

from statebacked.api.bodies import ClientGone, Deadlines, Message, Receive
from statebacked.api.cursors import Cursors
from statebacked.api.dead_letters import DeadLetterRoutes
from statebacked.api.edge import Edge
from statebacked.api.hot import HotRoutes
from statebacked.api.indexes import IndexRoutes
from statebacked.api.instances import InstanceRoutes
from statebacked.api.keys import KeyRoutes
from statebacked.api.lifecycle import LifecycleRoutes
from statebacked.api.log_streams import LogStreams, StreamParts
from statebacked.api.logs import LogRoutes
from statebacked.api.machines import MachineRoutes
from statebacked.api.migrations import MigrationRoutes
from statebacked.api.orgs import OrgRoutes
from statebacked.api.paths import HotPaths, Scope, prefix_of, raw_path_of, split_path
from statebacked.api.repeats import Repeats
from statebacked.api.replies import (
    PREFLIGHT_HEADERS,
    Header,
    MachineTexts,
    Reply,
    Send,
    common_headers,
    error_reply,
    internal_error_reply,
    send_reply,
)
from statebacked.api.routes import REQUEST_ID_KEY, Guards, Handlers
from statebacked.api.service import FindObstacle, ServiceRoutes
from statebacked.api.signatures import Signatures
from statebacked.api.socket import Frames, SocketParts
from statebacked.api.sockets import Sockets
from statebacked.api.tokens import TokenRoutes
from statebacked.api.uploads import UploadRoutes
from statebacked.api.use_cases import Engine
from statebacked.api.versions import VersionRoutes
from statebacked.auth.authenticator import Authenticator
from statebacked.auth.scopes import ROUTES
from statebacked.auth.secrets import Keyring, RandomBytes
from statebacked.logs.reading import Logs
from statebacked.model.errors import MethodNotAllowed, NotFound, StateBackedError
from statebacked.model.limits import LOG_STREAM_HEARTBEAT_MS, RT_TOKEN_GRACE_S, SOCKETS_MAX
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids
from statebacked.ports.machines import Machines, Migrator
from statebacked.ports.store import InstanceStore

logger = structlog.get_logger(__name__)

_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """`public_url` is where clients reach the server, None when only the Host header says so.

    `expose_machine_texts`: whoever calls may read what machine code threw (`statebacked dev`).
    """

    public_url: str | None = None
    bound_to_loopback: bool = True
    expose_machine_texts: bool = False
    realtime_token_grace_ms: int = RT_TOKEN_GRACE_S * 1000
    log_heartbeat_ms: int = LOG_STREAM_HEARTBEAT_MS
    sockets_max: int = SOCKETS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """All that the API is built on."""

    engine: Engine
    store: InstanceStore
    catalogue: Catalogue
    machines: Machines
    logs: Logs
    migrator: Migrator
    keyring: Keyring
    clock: Clock
    ids: Ids
    random_bytes: RandomBytes
    settings: ApiSettings = ApiSettings()
    obstacles: Sequence[FindObstacle] = ()


def build_application(parts: ApiParts) -> "Application":
    """The whole API over those parts."""
    settings = parts.settings
    authenticator = Authenticator(
        parts.catalogue,
        parts.keyring,
        parts.clock,
        own_audience=settings.public_url,
        realtime_grace_ms=settings.realtime_token_grace_ms,
    )
    deadlines = Deadlines()
    texts = MachineTexts(everyone=settings.expose_machine_texts)
    streams = LogStreams(
        StreamParts(
            logs=parts.logs,
            authenticator=authenticator,
            clock=parts.clock,
            deadlines=deadlines,
            heartbeat_ms=settings.log_heartbeat_ms,
        )
    )
    repeats = Repeats(parts.store, parts.engine, parts.clock)
    guards = Guards(authenticator, Cursors(parts.keyring), deadlines, texts)
    handlers = _handlers(parts, authenticator, repeats, streams)
    return Application(
        edge=Edge(bound_to_loopback=settings.bound_to_loopback, public_url=settings.public_url),
        hot=HotRoutes(parts.engine, authenticator, deadlines, texts, repeats),
        cold=Router(guards.bind(ROUTES, handlers), redirect_slashes=False),
        sockets=Sockets(
            SocketParts(
                engine=parts.engine,
                authenticator=authenticator,
                clock=parts.clock,
                deadlines=deadlines,
                frames=Frames(),
            ),
            sockets_max=settings.sockets_max,
        ),
        streams=streams,
        prefix=prefix_of(settings.public_url),
        request_id_prefix=parts.ids.new("req"),
    )


def _handlers(
    parts: ApiParts, authenticator: Authenticator, repeats: Repeats, streams: LogStreams
) -> Handlers:
    catalogue, clock, ids, keyring = parts.catalogue, parts.clock, parts.ids, parts.keyring
    signatures = Signatures(keyring)
    keys = KeyRoutes(
        catalogue, authenticator, clock, ids=ids, keyring=keyring, random_bytes=parts.random_bytes
    )
    versions = VersionRoutes(
        catalogue,
        parts.machines,
        signatures,
        clock=clock,
        ids=ids,
        public_url=parts.settings.public_url,
    )
    migrations = MigrationRoutes(
        catalogue,
        parts.store,
        parts.migrator,
        signatures,
        clock=clock,
        ids=ids,
        public_url=parts.settings.public_url,
    )
    return Handlers(
        org={
            **MachineRoutes(catalogue, clock).handlers(),
            **InstanceRoutes(parts.engine, parts.store, catalogue, repeats).handlers(),
            **LifecycleRoutes(parts.engine).handlers(),
            **DeadLetterRoutes(parts.engine, parts.store).handlers(),
            **IndexRoutes(parts.engine, parts.store, catalogue).handlers(),
            **versions.handlers(),
            **migrations.handlers(),
            **keys.handlers(),
            **LogRoutes(parts.logs, streams, clock).handlers(),
        },
        user=OrgRoutes(catalogue, authenticator, clock, ids).handlers(),
        open={
            **UploadRoutes(catalogue, signatures, clock).handlers(),
            **TokenRoutes(catalogue, keyring, clock).handlers(),
            **ServiceRoutes(parts.engine, clock, parts.obstacles).handlers(),
        },
    )


class Application:
    """An ASGI application. Of a graceful stop `until_answered` comes before the engine takes no more events,
    `close_sockets` after the last step has committed."""

    def __init__(
        self,
        *,
        edge: Edge,
        hot: HotRoutes,
        cold: Router,
        sockets: Sockets,
        streams: LogStreams,
        prefix: tuple[bytes, ...],
        request_id_prefix: str,
    ) -> None:
        self._edge = edge
        self._hot = hot
        self._cold = cold
        self._sockets = sockets
        self._streams = streams
        self._prefix = prefix
        self._hot_paths = HotPaths(prefix)
        self._request_id_prefix = request_id_prefix
        self._requests = 0
        self._under_way = 0
        self._is_stopping = False
        self._all_answered = asyncio.Event()  # while stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            self._under_way += 1
            try:
                await self._http(scope, receive, send)
            finally:
                self._under_way -= 1
                if self._under_way == 0 and self._is_stopping:
                    self._all_answered.set()
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)

    async def until_answered(self, patience_ms: int) -> None:
        """End every stream; then wait until every request is answered, but no longer than that."""
        self._is_stopping = True
        await self._streams.close()
        if self._under_way > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_ms / 1000):
                    await self._all_answered.wait()

    async def close_sockets(self) -> None:
        """Send what waits, then close every socket with 1012, and take no more."""
        await self._sockets.close()

    # --- HTTP ------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        request_id = f"{self._request_id_prefix}-{self._requests}"
        headers: dict[bytes, bytes] = dict(scope["headers"])
        common = common_headers(request_id, headers)
        try:
            self._edge.check(scope["headers"], headers, scope["http_version"])
            raw_path, method = raw_path_of(scope), scope["method"]
            path = self._hot_paths.find(raw_path)
            if path is not None and method == "POST" and path.what == "events":
                reply = await self._hot.send_event(path, headers, receive, request_id)
            elif path is not None and method in _READING and path.what == "state":
                reply = await self._hot.get_state(path, headers, request_id)
            elif method == "OPTIONS":  # a preflight; no handler has another use for it
                reply = Reply(204, b"", PREFLIGHT_HEADERS)
            else:
                segments = split_path(raw_path, self._prefix)
                await self._serve_cold(scope, receive, _Sender(send, common), segments, request_id)
                return
        except StateBackedError as error:
            reply = error_reply(error, request_id)
        except ClientGone:
            return
        except Exception:
            logger.exception("a request fails", request=request_id)
            reply = internal_error_reply(request_id)
        await send_reply(send, reply, common)

    async def _serve_cold(
        self, scope: Scope, receive: Receive, send: "_Sender", segments: list[bytes], request_id: str
    ) -> None:
        # Segments stay encoded while Starlette matches them; handlers decode each once.
        path = "/" + "/".join(segment.decode("latin-1") for segment in segments)
        cold_scope = {
            **scope,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "root_path": "",
            "app": self,  # so that the router raises what it refuses
            REQUEST_ID_KEY: request_id,
        }
        try:
            await self._cold(cold_scope, receive, send)
        except HTTPException as refusal:
            if refusal.status_code == 405:
                raise MethodNotAllowed(f"{scope['method']} is not served here") from refusal
            raise NotFound("there is nothing at this path: /openapi.yaml lists what is") from refusal

    # --- WebSocket -------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            sent = scope["headers"]
            self._edge.check(sent, dict(sent), "1.1")
            if split_path(raw_path_of(scope), self._prefix) != [b"rt"]:
                raise NotFound("sockets are opened at /rt")
        except StateBackedError as error:
            await receive()  # websocket.connect
            await _refuse_upgrade(scope, send, error)
            return
        await self._sockets.serve(scope, receive, send)


class _Sender:
    """ASGI's send for cold routes: adds what every answer carries."""

    def __init__(self, send: Send, common: list[Header]) -> None:
        self._send = send
        self._common = common

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *self._common]
        await self._send(message)


async def _refuse_upgrade(scope: Scope, send: Send, error: StateBackedError) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    reply = error_reply(error, "")
    start: dict[str, Any] = {"status": reply.status, "headers": list(reply.headers)}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": reply.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """What starts and stops the server stands outside; this only answers."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
