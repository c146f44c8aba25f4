"""The composition root: the only module that knows every other one. It wires one server by hand."""

import asyncio
import base64
import os
import resource
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import structlog
import uvicorn
from websockets import http11

from statebacked.api.application import ApiParts, ApiSettings, Application, build_application
from statebacked.api.connections import Connections
from statebacked.api.listeners import are_loopback, listen, local_url_of, url_of
from statebacked.api.one_write import OneWriteProtocol
from statebacked.api.socket_protocol import SocketProtocol
from statebacked.auth.first_start import AdminFile, ensure_admin
from statebacked.auth.secrets import Keyring, open_keyring
from statebacked.core.policy import Policy
from statebacked.egress.client import GuardedHttp
from statebacked.engine.service import Engine
from statebacked.logs.capture import Capture
from statebacked.logs.reading import Logs
from statebacked.logs.retention import Retention
from statebacked.logs.watching import Watches
from statebacked.model.ids import InstanceKey, Instant, Monotonic
from statebacked.model.limits import (
    CONNECTIONS_PER_ADDRESS_MAX,
    HEADERS_BYTES_MAX,
    SOCKET_MESSAGE_CHARACTERS_MAX,
    WAITING_CONNECTIONS_MAX,
)
from statebacked.model.logs import OutputType
from statebacked.model.values import Now
from statebacked.ports.machines import Code, MachineLog
from statebacked.runtime.pool import Pool, PoolPolicy
from statebacked.runtime.process import find_sandbox
from statebacked.runtime.proof import Proof, prove
from statebacked.settings import Settings
from statebacked.store.sqlite.logs import SqliteLogs
from statebacked.store.sqlite.store import SqliteStore

logger = structlog.get_logger(__name__)

DATABASE = "statebacked.sqlite3"
LOG_DATABASE = "logs.sqlite3"
STEP_GRACE_MS = 5_000  # a compute is an authorizer and a step, each with its own limit in the worker
DESCRIPTORS_WANTED = 65_536
HEARD_WITHIN_S = 0.5  # a request that is on its way when the server stops; a restart takes that much longer


class SystemClock:
    def now(self) -> Now:
        return Now(Instant(int(time.time() * 1000)), Monotonic(int(time.monotonic() * 1000)))


class RandomIds:
    def new(self, prefix: str) -> str:
        return f"{prefix}_{base64.urlsafe_b64encode(os.urandom(16))[:22].decode()}"


class Server:
    """A server that listens at `url`. `admin` is None when its admin.json was taken away. `fenced` is set
    when another server has taken its store: it can commit nothing any more."""

    def __init__(self, settings: Settings, url: str, admin: AdminFile | None, fenced: asyncio.Event) -> None:
        self.settings = settings
        self.url = url
        self.admin = admin
        self.fenced = fenced


@asynccontextmanager
async def open_server(
    settings: Settings,
    machine_log: MachineLog,
    *,
    listeners: Sequence[socket.socket] = (),
    expose_machine_texts: bool = False,
) -> AsyncIterator[Server]:
    """A server from its first durable byte to its last socket. Leaving it is the graceful stop: stop
    accepting, let steps commit, answer everyone with the durable state, close sockets last.

    It accepts from `listeners` and closes them; without any it binds the address of the settings. A
    connection that it has not accepted when it stops waits for whoever else holds the socket.
    Raises OSError for an address that is taken, MasterKeyRefused and SchemaRefused.
    """
    _set_up_libraries()
    listeners = listeners or (listen(settings.host, settings.port),)
    for listener in listeners:
        listener.setblocking(False)
    url = settings.public_url or url_of(listeners[0])
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        proof = asyncio.create_task(prove(find_sandbox(os.environ)))
        stack.push_async_callback(_end, proof)
        store = await SqliteStore.open(settings.data / DATABASE)
        stack.push_async_callback(store.aclose)
        keyring = await _keyring(settings, store)
        admin = await ensure_admin(
            settings.data,
            url,
            local_url_of(listeners[0]),
            catalogue=store,
            keyring=keyring,
            clock=SystemClock(),
            ids=RandomIds(),
            random_bytes=secrets.token_bytes,
        )
        logs, capture = await stack.enter_async_context(_open_logs(settings, store))

        def tell(code: Code, key: InstanceKey | None, output: OutputType, line: str) -> None:
            capture.write(code, key, output, line)
            machine_log(code, key, output, line)

        egress = _egress(settings)
        stack.push_async_callback(egress.aclose)
        pool = _pool(settings, store, tell, await proof, egress)
        stack.push_async_callback(pool.aclose)
        engine = await _engine(settings, store, pool, tell)
        stack.push_async_callback(engine.aclose)
        api_settings = _api_settings(settings, listeners, expose_machine_texts)
        application = _application(engine, store, pool, logs, keyring, api_settings)
        await engine.start()
        connections = Connections(per_address_max=min(CONNECTIONS_PER_ADDRESS_MAX, _descriptors() // 4))
        http = _Http(_http_config(application, connections), connections)
        serving = asyncio.create_task(http.serve(sockets=list(listeners)))
        stack.push_async_callback(_stop, http, serving, engine, application, settings.drain_ms)
        await http.until_listening()
        pool.prewarm()
        yield Server(settings, url, admin, engine.fenced)


@asynccontextmanager
async def _open_logs(settings: Settings, store: SqliteStore) -> AsyncIterator[tuple[Logs, Capture]]:
    """The logs in a file of their own: nothing that is said stands in the way of a commit."""
    clock, watches = SystemClock(), Watches()
    file = await SqliteLogs.open(settings.data / LOG_DATABASE)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(file.aclose)
        capture = await Capture.open(file, clock, watches.stored)
        stack.push_async_callback(capture.aclose)
        bytes_max = settings.log_mb * 1_000_000
        retention = Retention(file, store, capture, clock, days=settings.log_days, bytes_max=bytes_max)
        clearing = asyncio.create_task(retention.run())
        stack.callback(clearing.cancel)
        yield Logs(file, capture, retention, watches), capture


async def _engine(settings: Settings, store: SqliteStore, pool: Pool, machine_log: MachineLog) -> Engine:
    """The owner of every instance from now on: whoever had the store before is fenced."""
    return Engine(
        store=store,
        catalogue=store,
        machines=pool,
        migrator=pool,
        clock=SystemClock(),
        ids=RandomIds(),
        policy=Policy(
            settle_ms=settings.settle_ms,
            compute_ms=settings.step_ms + STEP_GRACE_MS,
            attempts_max=settings.delivery_attempts,
            retry_first_ms=settings.retry_ms,
            retry_longest_ms=max(60_000, settings.retry_ms),
        ),
        epoch=await store.acquire(f"{socket.gethostname()}:{os.getpid()}"),
        machine_log=machine_log,
    )


def _api_settings(
    settings: Settings, listeners: Sequence[socket.socket], expose_machine_texts: bool
) -> ApiSettings:
    return ApiSettings(
        public_url=settings.public_url,
        bound_to_loopback=are_loopback(listeners),
        expose_machine_texts=expose_machine_texts,
    )


def _application(
    engine: Engine, store: SqliteStore, pool: Pool, logs: Logs, keyring: Keyring, settings: ApiSettings
) -> Application:
    parts = ApiParts(
        engine=engine,
        store=store,
        catalogue=store,
        machines=pool,
        logs=logs,
        migrator=pool,
        keyring=keyring,
        clock=SystemClock(),
        ids=RandomIds(),
        random_bytes=secrets.token_bytes,
        obstacles=(store.find_write_failure, pool.find_start_failure),
        settings=settings,
    )
    return build_application(parts)


async def _stop(
    http: "_Http", serving: "asyncio.Task[None]", engine: Engine, application: Application, drain_ms: int
) -> None:
    began = time.monotonic()
    await http.stop_accepting()
    await application.until_answered(drain_ms)
    await engine.drain(max(0, drain_ms - int((time.monotonic() - began) * 1000)))
    await application.close_sockets()
    http.should_exit = True
    await serving


async def _end(task: asyncio.Task[Proof]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _set_up_libraries() -> None:
    """Before any thread runs: a library that reads the environment while it is changed ends the process."""
    os.environ.setdefault("UV_THREADPOOL_SIZE", "16")  # they resolve names; four would soon be held up
    # A socket's token stands in its URL. The library has read its limit from the environment by now.
    http11.MAX_LINE_LENGTH = HEADERS_BYTES_MAX


def _descriptors() -> int:
    """How many descriptors this process may have open: from now on as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(DESCRIPTORS_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


async def _keyring(settings: Settings, store: SqliteStore) -> Keyring:
    file: Path = settings.master_key_file or settings.data / "secrets" / "master.key"
    return await open_keyring(store, file, given=settings.master_key, random_bytes=secrets.token_bytes)


def _egress(settings: Settings) -> GuardedHttp:
    if settings.allow_egress:
        logger.warning("machine code may fetch from this machine and private networks")
    return GuardedHttp(allow_private=settings.allow_egress)


def _pool(
    settings: Settings,
    store: SqliteStore,
    machine_log: MachineLog,
    proof: Proof,
    egress: GuardedHttp,
) -> Pool:
    policy = PoolPolicy(
        step_ms=settings.step_ms,
        authorize_ms=settings.step_ms,
        settle_ms=settings.settle_ms,
        prewarmed=settings.prewarmed,
        idle_ms=settings.worker_idle_ms,
        memory_mb_max=settings.workers_memory_mb,
    )

    async def load_selectors(code: Code) -> Sequence[tuple[str, str]]:
        version = await store.find_version(code.org, code.machine, code.version)
        return version.index_selectors if version is not None else ()

    return Pool(
        proof.sandbox,
        policy,
        store.load_bundle,
        machine_log,
        load_selectors=load_selectors,
        egress=egress,
        start_failure=proof.failure,
    )


def _http_config(application: Application, connections: Connections) -> uvicorn.Config:
    protocol = partial(OneWriteProtocol, connections=connections)
    return uvicorn.Config(
        application,
        http=cast("type[asyncio.Protocol]", protocol),
        ws=SocketProtocol,
        ws_max_size=4 * SOCKET_MESSAGE_CHARACTERS_MAX,
        ws_per_message_deflate=False,
        lifespan="off",
        backlog=WAITING_CONNECTIONS_MAX,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


class _Http(uvicorn.Server):
    """uvicorn, which leaves signals to serve/run.py and tells when it listens."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self._is_listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._is_listening.set()

    async def until_listening(self) -> None:
        await self._is_listening.wait()

    async def stop_accepting(self) -> None:
        """From now on each answer ends its connection. Requests on their way are still heard."""
        for listener in self.servers:
            listener.close()
        await self._connections.stop(HEARD_WITHIN_S)
