"""CPU time of the HTTP layer for one event: uvicorn, the API and its answer, over an engine that echoes.

    python -m bench.http_layer [--seconds 5] [--clients 16]

Prints the server process's own CPU microseconds per POST of an event. The budget (docs: the stack) is 35
for HTTP, JSON, routing and reply, and 1 for a token that was verified before.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
from multiprocessing.connection import Connection
from typing import cast

import uvicorn
import uvloop
from tests.api.server import ApiServer

from statebacked.api.one_write import OneWriteProtocol
from statebacked.api.use_cases import Engine
from statebacked.model.ids import InstanceKey, Instant, Seq
from statebacked.model.rows import StateView
from statebacked.model.values import Json

_BODY = b'{"event":{"type":"toggle","n":12}}'
_VIEW = StateView(
    seq=Seq(2),
    ts=Instant(1_750_000_000_000),
    value=Json(b'"on"'),
    tags=Json(b"[]"),
    done=False,
    public=Json(b'{"toggleCount":1}'),
)


class EchoEngine:
    """Answers at once."""

    async def send_event(self, key: InstanceKey, event: Json, auth: Json) -> StateView:
        return _VIEW


def serve(port: int, pipe: Connection) -> None:
    """The server process: says its token, then, when asked, its CPU time and how many requests it had."""

    async def main() -> None:
        world = ApiServer(engine=cast("Engine", EchoEngine()))
        token = await world.token(await world.org())
        config = uvicorn.Config(
            world.app,
            port=port,
            http=OneWriteProtocol,
            loop="uvloop",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no signal for it
            await asyncio.sleep(0.01)
        pipe.send(token)
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        loop.add_reader(pipe.fileno(), asked.set)
        for _ in range(2):
            await asked.wait()
            pipe.recv()
            asked.clear()
            pipe.send((*os.times()[:2], server.server_state.total_requests))
        server.should_exit = True
        await task

    uvloop.run(main())


class Client(asyncio.Protocol):
    """Sends one request after the other on one connection, without looking at more than where answers end."""

    def __init__(self, request: bytes, done: asyncio.Event) -> None:
        self._request = request
        self._done = done
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        assert not data.startswith(b"HTTP/1.1 4"), data
        if not data.endswith(b"}"):
            return
        if self._done.is_set():
            self._transport.close()
        else:
            self._transport.write(self._request)


async def load(
    port: int, token: str, *, clients: int, seconds: float, pipe: Connection
) -> tuple[float, float]:
    """CPU microseconds of the server for each request: its own and the kernel's for it."""
    request = (
        b"POST /machines/toggler/i/session-123/events HTTP/1.1\r\nhost: localhost\r\n"
        b"accept: */*\r\nuser-agent: bench\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (token.encode(), len(_BODY), _BODY)
    )
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(request, done), "127.0.0.1", port)
    await asyncio.sleep(1)
    pipe.send("begin")
    user, system, count = pipe.recv()
    await asyncio.sleep(seconds)
    pipe.send("end")
    user_end, system_end, count_end = pipe.recv()
    done.set()
    requests = count_end - count
    print(f"{requests / seconds:8.0f} requests/s   {requests} in {seconds:g} s, {clients} clients")
    return (user_end - user) / requests * 1e6, (system_end - system) / requests * 1e6


def main() -> None:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    near, far = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(port, far))
    server.start()
    try:
        token = near.recv()
        user, system = asyncio.run(
            load(port, token, clients=options.clients, seconds=options.seconds, pipe=near)
        )
        print(f"{user:8.1f} µs of CPU an event in the server (HTTP, token, JSON, routing, reply)")
        print(f"{system:8.1f} µs of it in the kernel besides")
    finally:
        server.join(5)
        if server.is_alive() and server.pid is not None:
            os.kill(server.pid, 9)


if __name__ == "__main__":
    main()
