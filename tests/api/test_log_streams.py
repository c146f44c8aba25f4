"""GET /logs/stream, by ASGI messages: resumable, bounded, alive, ended when it must."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from statebacked.api.application import ApiSettings
from statebacked.model.ids import InstanceName, KeyId, VersionId
from statebacked.model.limits import (
    LOG_ROWS_LOOKED_AT_MAX,
    LOG_STREAM_STALLED_MS,
    LOG_STREAMS_MAX,
    LOG_STREAMS_PER_ORG_MAX,
)
from statebacked.model.logs import LogEntry
from tests.api.contract import named
from tests.api.server import ApiServer
from tests.api.test_logs import VERSION, entry, time
from tests.api.test_socket import tick

pytestmark = pytest.mark.anyio

PATIENCE_S = 5.0
NEVER_ALIVE_MS = 60_000


class Event:
    """One event of the stream; a comment has nothing."""

    def __init__(self, text: str) -> None:
        lines = [line.partition(": ") for line in text.split("\n")]
        self.fields = {name: value for name, _, value in lines if name}
        self.id = self.fields.get("id")
        self.kind = self.fields.get("event", "message")
        self.is_comment = text.startswith(":")
        self.data: Any = json.loads(self.fields["data"]) if "data" in self.fields else None


class Reader:
    """The other end of a stream."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.is_sent_to = asyncio.Event()
        self.leaves = asyncio.Event()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.is_over = False
        self.task: asyncio.Task[None] | None = None
        self._text = ""
        self._events: list[Event] = []

    async def send(self, message: Any) -> None:
        self.is_sent_to.set()
        await self.may_send.wait()
        self.messages.put_nowait(dict(message))

    async def receive(self) -> dict[str, Any]:
        if self.leaves.is_set():
            return {"type": "http.disconnect"}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def begin(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            start = await self.messages.get()
        self.status, self.headers = start["status"], dict(start["headers"])

    async def event(self) -> Event:
        """The next one; entries are held against the contract."""
        while not self._events:
            assert not self.is_over, "the stream is over"
            async with asyncio.timeout(PATIENCE_S):
                message = await self.messages.get()
            self.is_over = not message.get("more_body", False)
            self._text += message["body"].decode()
            *whole, self._text = self._text.split("\n\n")
            self._events += [Event(text) for text in whole]
        event = self._events.pop(0)
        if event.kind == "message" and event.data is not None:
            named("LogEntry").validate(event.data)
        return event

    async def text(self) -> str:
        """The lines of the next entry; what comes before it is silence."""
        while (event := await self.event()).data is None:
            pass
        assert event.kind == "message", event.fields
        return str(event.data["log"])

    async def end(self) -> None:
        """There is nothing more."""
        while not self.is_over:
            async with asyncio.timeout(PATIENCE_S):
                message = await self.messages.get()
            assert message["body"] in (b"", b":\n\n"), message
            self.is_over = not message.get("more_body", False)
        assert self._events == []


@asynccontextmanager
async def stream(
    server: ApiServer, token: str, last_event_id: str = "", method: str = "GET", **query: str
) -> AsyncIterator[Reader]:
    reader = Reader()
    given = {"authorization": f"Bearer {token}", "host": "localhost:7070", "last-event-id": last_event_id}
    scope = {
        "type": "http",
        "method": method,
        "path": "/logs/stream",
        "raw_path": b"/logs/stream",
        "query_string": urlencode({name.rstrip("_"): value for name, value in query.items()}).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "server": ("localhost", 7070),
        "http_version": "1.1",
    }
    reader.task = asyncio.create_task(server.app(scope, reader.receive, reader.send))
    try:
        await reader.begin()
        yield reader
    finally:
        reader.may_send.set()
        reader.leaves.set()
        async with asyncio.timeout(PATIENCE_S):
            await reader.task


async def add(server: ApiServer, *entries: LogEntry) -> None:
    """As the capture does."""
    await server.log_store.append(entries)
    server.watches.stored(entries)


@pytest.fixture
def server() -> ApiServer:
    return ApiServer(ApiSettings(log_heartbeat_ms=NEVER_ALIVE_MS))


async def test_what_stands_is_told_and_then_what_comes(server: ApiServer) -> None:
    org = await server.org()
    await add(server, entry(org, 1, "before"), entry(org, 2, "a\nb", output="stderr"))
    async with stream(server, await server.token(org, ["logs.read"]), from_=time(1)) as reader:
        assert reader.status == 200
        assert reader.headers[b"content-type"] == b"text/event-stream"
        assert reader.headers[b"cache-control"] == b"no-store"
        assert reader.headers[b"x-request-id"]
        first = await reader.event()
        assert first.data == {
            "timestamp": time(2),
            "orgId": org,
            "machineName": "toggler",
            "instanceName": "i-1",
            "machineVersionId": VERSION,
            "outputType": "stderr",
            "log": "a\nb",
        }
        await add(server, entry(org, 5, "c"), entry(org, 5, "d", instance=None))
        assert [await reader.text(), await reader.text()] == ["c", "d"]
        await add(server, entry(org, 6, "e"))
        assert await reader.text() == "e"


async def test_without_from_it_begins_now(server: ApiServer) -> None:
    org = await server.org()
    await add(server, entry(org, 0, "before"))
    async with stream(server, await server.token(org)) as reader:
        await add(server, entry(org, 1, "after"))
        assert await reader.text() == "after"


async def test_it_goes_on_behind_the_last_event_that_was_seen(server: ApiServer) -> None:
    org = await server.org()
    token = await server.token(org)
    await add(server, *[entry(org, 3, f"{n}", instance=InstanceName(f"i-{n}")) for n in range(5)])
    async with stream(server, token, from_=time(0)) as reader:
        events = [await reader.event() for _ in range(5)]
    last = events[2].id
    assert last is not None
    # In the middle of a millisecond, whatever `from` says.
    async with stream(server, token, last, from_=time(900)) as reader:
        assert [await reader.text(), await reader.text()] == ["3", "4"]


async def test_an_id_is_good_for_its_own_stream_only(server: ApiServer) -> None:
    org, other = await server.org(), await server.org()
    token = await server.token(org)
    await add(server, entry(org, 1, "x"))
    async with stream(server, token, from_=time(0)) as reader:
        last = (await reader.event()).id
    assert last is not None
    for whose, query in ((token, {"machine": "toggler"}), (await server.token(other), {})):
        async with stream(server, whose, last, **query) as reader:
            assert reader.status == 400
    async with stream(server, token, "x" + last[1:]) as reader:
        assert reader.status == 400


async def test_a_filter_admits_what_it_names_and_an_org_sees_its_own_lines_only(server: ApiServer) -> None:
    org, other = await server.org(), await server.org()
    second = VersionId("ver_BBBBBBBBBBBBBBBBBBBBBB")
    query = {"machine": "toggler", "instance": "i-1", "version": second}
    async with (
        stream(server, await server.token(org), from_=time(0), **query) as narrow,
        stream(server, await server.token(other), from_=time(0)) as theirs,
    ):
        await add(
            server,
            entry(org, 1, "another version"),
            entry(org, 2, "another instance", version=second, instance=None),
            entry(other, 2, "theirs", version=second),
            entry(org, 3, "wanted", version=second),
        )
        assert await narrow.text() == "wanted"
        assert await theirs.text() == "theirs"


async def test_more_than_a_page_comes_whole_and_in_order(server: ApiServer) -> None:
    org = await server.org()
    entries = [entry(org, 1 + n // 50, f"{n}", instance=InstanceName(f"i-{n}")) for n in range(330)]
    await add(server, *entries)
    async with stream(server, await server.token(org), from_=time(0)) as reader:
        assert [await reader.text() for _ in range(330)] == [f"{n}" for n in range(330)]


async def test_what_is_rare_is_found_and_the_way_to_it_is_not_gone_twice(server: ApiServer) -> None:
    org = await server.org()
    token = await server.token(org)
    common = [entry(org, 1 + n // 100, "x") for n in range(LOG_ROWS_LOOKED_AT_MAX + 500)]
    await add(server, *common, entry(org, 900, "rare", instance=InstanceName("rare")))
    async with stream(server, token, from_=time(0), instance="rare") as reader:
        way = await reader.event()
        assert (way.data, way.is_comment) == (None, False)
        assert await reader.text() == "rare"
    assert way.id is not None
    async with stream(server, token, way.id, instance="rare") as reader:
        assert (await reader.event()).data["log"] == "rare"


async def test_it_ends_when_its_window_has_passed(server: ApiServer) -> None:
    org = await server.org()
    await add(server, entry(org, 1, "a"), entry(org, 30, "too late"))
    async with stream(server, await server.token(org), from_=time(0), to=time(20)) as reader:
        assert await reader.text() == "a"
        server.clock.pass_ms(21)
        while (event := await reader.event()).is_comment:
            pass
        assert (event.kind, event.data) == ("end", {"maxTimestamp": time(20)})
        await reader.end()


async def test_a_window_that_has_passed_and_is_empty_is_no_stream(server: ApiServer) -> None:
    org = await server.org()
    token = await server.token(org)
    await add(server, entry(org, 30, "later"))
    server.clock.pass_ms(100)
    async with stream(server, token, from_=time(0), to=time(20)) as reader:
        assert reader.status == 204
    async with stream(server, token, from_=time(0), to=time(40)) as reader:
        last = await reader.event()
        assert (await reader.event()).kind == "end"
    assert last.id is not None
    async with stream(server, token, last.id, to=time(40)) as reader:
        assert reader.status == 204


async def test_a_head_request_has_no_events(server: ApiServer) -> None:
    token = await server.token(await server.org())
    async with stream(server, token, method="HEAD") as reader:
        assert reader.status == 200
        await reader.end()


@pytest.mark.parametrize("query", [{"from": "soon"}, {"from": time(5), "to": time(4)}, {"machine": "a b"}])
async def test_a_bad_question_is_refused_as_anywhere(server: ApiServer, query: dict[str, str]) -> None:
    async with stream(server, await server.token(await server.org()), **query) as reader:
        assert reader.status == 400
        assert reader.headers[b"content-type"] == b"application/json"


# --- the token's end -----------------------------------------------------------------------------


async def test_a_revoked_key_ends_its_streams_at_once_and_no_others(server: ApiServer) -> None:
    org = await server.org()
    key_id, secret = await server.key(org)
    other = await server.token(org)
    admin = await server.session((org, "admin"))
    async with (
        stream(server, server.sign(key_id, secret)) as reader,
        stream(server, other) as neighbour,
        server.client(admin) as client,
    ):
        assert (await client.delete(f"/keys/{key_id}")).status_code == 204
        event = await reader.event()
        assert (event.kind, event.data["status"], event.data["code"]) == ("error", 403, "missing-user")
        await reader.end()
        await add(server, entry(org, 1, "goes on"))
        assert await neighbour.text() == "goes on"


async def test_a_token_that_expires_ends_its_stream() -> None:
    server = ApiServer(ApiSettings(log_heartbeat_ms=20))
    org = await server.org()
    token = await server.token(org, exp=server.clock.wall // 1000 + 60)
    async with stream(server, token) as reader:
        assert (await reader.event()).is_comment
        server.clock.pass_ms(200_000)
        while (event := await reader.event()).is_comment:
            pass
        assert (event.kind, event.data["code"]) == ("error", "missing-user")
        await reader.end()


async def test_a_key_that_another_process_removed_ends_its_stream() -> None:
    server = ApiServer(ApiSettings(log_heartbeat_ms=20))
    org = await server.org()
    key_id, secret = await server.key(org)
    async with stream(server, server.sign(key_id, secret)) as reader:
        await server.catalogue.delete_key(org, KeyId(key_id))
        server.clock.pass_ms(61_000)
        while (event := await reader.event()).is_comment:
            pass
        assert (event.kind, event.data["code"]) == ("error", "missing-user")


async def test_a_session_that_lost_its_role_ends_its_stream() -> None:
    server = ApiServer(ApiSettings(log_heartbeat_ms=20))
    org = await server.org()
    token = await server.session((org, "read"))
    async with stream(server, token) as reader:
        assert (await reader.event()).is_comment
        server.catalogue.memberships.clear()
        server.clock.pass_ms(1_000)
        while (event := await reader.event()).is_comment:
            pass
        assert (event.kind, event.data["code"]) == ("error", "missing-org")


# --- bounds --------------------------------------------------------------------------------------


async def test_a_slow_reader_costs_a_page_and_a_stalled_one_is_closed(server: ApiServer) -> None:
    org = await server.org()
    async with stream(server, await server.token(org), from_=time(0)) as reader:
        reader.may_send.clear()
        reader.is_sent_to.clear()
        await add(server, *[entry(org, 1 + n // 100, "x" * 10_000) for n in range(1_000)])
        # It waits in one send; nothing gathers meanwhile.
        async with asyncio.timeout(PATIENCE_S):
            await reader.is_sent_to.wait()
        assert reader.messages.empty()
        deadlines = server.app._streams.parts.deadlines
        tick(deadlines, LOG_STREAM_STALLED_MS - 2_000)
        await asyncio.sleep(0)
        assert reader.task is not None
        assert not reader.task.done()
        tick(deadlines, 4_000)
        async with asyncio.timeout(PATIENCE_S):
            await reader.task


async def test_a_client_that_leaves_is_forgotten(server: ApiServer) -> None:
    org = await server.org()
    async with stream(server, await server.token(org)) as reader:
        reader.leaves.set()
        assert reader.task is not None
        async with asyncio.timeout(PATIENCE_S):
            await reader.task
    assert server.watches._by_org == {}


async def test_an_org_has_so_many_streams_and_no_more(server: ApiServer) -> None:
    org, other = await server.org(), await server.org()
    token = await server.token(org)
    open_streams = [stream(server, token) for _ in range(LOG_STREAMS_PER_ORG_MAX)]
    for opened in open_streams:
        await opened.__aenter__()
    async with stream(server, token) as reader:
        assert reader.status == 429
    async with stream(server, await server.token(other)) as reader:
        assert reader.status == 200
    await open_streams.pop().__aexit__(None, None, None)
    async with stream(server, token) as reader:
        assert reader.status == 200
    for opened in open_streams:
        await opened.__aexit__(None, None, None)


async def test_a_server_has_so_many_streams_and_no_more(server: ApiServer) -> None:
    orgs = [await server.org() for _ in range(LOG_STREAMS_MAX // LOG_STREAMS_PER_ORG_MAX)]
    opened = []
    for org in orgs:
        token = await server.token(org)
        opened += [stream(server, token) for _ in range(LOG_STREAMS_PER_ORG_MAX)]
    for one in opened:
        assert (await one.__aenter__()).status == 200
    async with stream(server, await server.token(await server.org())) as reader:
        assert reader.status == 429
    for one in opened:
        await one.__aexit__(None, None, None)


async def test_a_server_that_stops_ends_its_streams_and_takes_no_more(server: ApiServer) -> None:
    org = await server.org()
    token = await server.token(org)
    async with stream(server, token) as reader:
        await server.app.until_answered(0)
        await reader.end()
    async with stream(server, token) as reader:
        assert reader.status == 503


async def test_logs_that_cannot_be_read_end_the_stream_with_an_error(server: ApiServer) -> None:
    org = await server.org()
    async with stream(server, await server.token(org), from_=time(0)) as reader:
        await add(server, entry(org, 1, "a"))
        assert await reader.text() == "a"
        server.log_store.is_down = True
        await add(server, entry(org, 2, "b"))
        event = await reader.event()
        assert (event.kind, event.data["status"], event.data["code"]) == ("error", 503, "unavailable")
        await reader.end()
