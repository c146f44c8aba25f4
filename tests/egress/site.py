"""A small HTTP server of raw sockets: it sends whatever a real one might, and tells what it got."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Got:
    """One request. `connection` counts the connections of the site."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    connection: int = 0
    reader: asyncio.StreamReader | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


Handler = Callable[[Got, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """`pages` answer by path without query; `requests` came, in order."""

    port: int = 0
    scheme: str = "http"
    pages: dict[str, Handler] = field(default_factory=dict)
    requests: list[Got] = field(default_factory=list)
    connections: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)  # a request
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # a client closed its connection
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # a client went away in the middle

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def page(self, path: str) -> Callable[[Handler], Handler]:
        def added(handler: Handler) -> Handler:
            self.pages[path] = handler
            return handler

        return added

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (got := await _head(reader)) is not None:
                got.connection, got.reader = number, reader
                self.requests.append(got)
                self.came.set()
                handler = self.pages.get(got.path.partition("?")[0])
                if handler is None:
                    got.body = await read_body(got)
                    writer.write(answer(404, b"nothing here"))
                else:
                    await handler(got, writer)
                await writer.drain()
            self.gone.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost.set()
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> Got | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = [line.split(":", 1) for line in lines]
    return Got(method, path, [(name.lower(), value.strip()) for name, value in pairs])


async def read_body(got: Got) -> bytes:
    """All of the request's body."""
    assert got.reader is not None
    if got.header("transfer-encoding") == "chunked":
        parts = []
        while size := int(await got.reader.readuntil(b"\n"), 16):
            parts.append(await got.reader.readexactly(size))
            await got.reader.readline()
        await got.reader.readline()
        return b"".join(parts)
    return await got.reader.readexactly(int(got.header("content-length") or 0))


def answer(status: int, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    """A whole answer; the connection stays open."""
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name}: {value}" for name, value in headers)]
    if status not in {204, 304}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def text(body: bytes, *headers: tuple[str, str], status: int = 200) -> Handler:
    async def handler(got: Got, writer: asyncio.StreamWriter) -> None:
        got.body = await read_body(got)
        writer.write(answer(status, b"" if got.method == "HEAD" else body, *headers))

    return handler


def redirect(status: int, location: str) -> Handler:
    return text(b"elsewhere", ("location", location), status=status)


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    served = Site(scheme="http" if tls is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await served.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the site
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
