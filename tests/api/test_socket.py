"""Sockets, by ASGI messages: accepted whatever the token, told what is wrong, ended when they must."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from statebacked.api.application import ApiSettings
from statebacked.api.bodies import Deadlines
from statebacked.api.socket import Pace
from statebacked.auth.exchange import AnonymousSession, mint_anonymous
from statebacked.model.errors import NotFound, RejectedByAuthorizer
from statebacked.model.ids import Instant, OrgId
from statebacked.model.limits import (
    ANONYMOUS_TOKEN_S,
    RT_TOKEN_GRACE_S,
    SOCKET_MESSAGES_BURST,
    SOCKET_MESSAGES_PER_S_MAX,
    SOCKET_OUT_BYTES_MAX,
    SOCKET_SILENCE_MS,
    SOCKET_STALLED_MS,
    SOCKETS_PER_ADDRESS_MAX,
    SOCKETS_UNAUTHENTICATED_PER_ADDRESS_MAX,
    TOKEN_LEEWAY_S,
)
from statebacked.ports.store import StoreFailed
from tests.api.contract import named
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

PATIENCE_S = 5.0


class Wire:
    """The other end of one socket."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.task: asyncio.Task[None] | None = None

    async def send(self, message: Any) -> None:
        await self.may_send.wait()
        self.sent.put_nowait(dict(message))

    async def heard(self) -> dict[str, Any]:
        """The server's next ASGI message."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.sent.get()

    async def frame(self) -> dict[str, Any]:
        """The server's next frame, held against the contract."""
        message = await self.heard()
        assert message["type"] == "websocket.send", message
        frame: dict[str, Any] = json.loads(message["text"])
        named("SocketMessage").validate(frame)
        return frame

    def say(self, **message: Any) -> None:
        named("SocketRequest").validate(message)
        self.say_text(json.dumps(message))

    def say_text(self, text: str) -> None:
        self.to_server.put_nowait({"type": "websocket.receive", "text": text})

    def subscribe(self, request_id: str, instance: str = "i-1") -> None:
        self.say(
            type="subscribe-to-instance",
            requestId=request_id,
            machineName="toggler",
            machineInstanceName=instance,
        )

    def unsubscribe(self, request_id: str, instance: str = "i-1") -> None:
        self.say(
            type="unsubscribe-from-instance",
            requestId=request_id,
            machineName="toggler",
            machineInstanceName=instance,
        )

    async def settled(self) -> None:
        """All that was said has been handled: an error of a bad name comes in its turn."""
        self.subscribe_badly("settled")
        while True:
            frame = await self.frame()
            if frame.get("requestId") == "settled":
                return
            raise AssertionError(frame)

    def subscribe_badly(self, request_id: str) -> None:
        self.say_text(json.dumps({"type": "subscribe-to-instance", "requestId": request_id}))


@asynccontextmanager
async def socket(
    server: ApiServer, token: str = "", *, org: str | None = None, address: str = "127.0.0.1", **scope: Any
) -> AsyncIterator[Wire]:
    wire = Wire()
    query = {"token": token, **({"x-statebacked-org-id": org} if org else {})}
    full_scope = {
        "type": "websocket",
        "path": "/rt",
        "raw_path": b"/rt",
        "query_string": urlencode(query).encode(),
        "headers": [(b"host", b"localhost:7070")],
        "client": (address, 1234),
        **scope,
    }
    wire.to_server.put_nowait({"type": "websocket.connect"})
    wire.task = asyncio.create_task(server.app(full_scope, wire.to_server.get, wire.send))
    try:
        yield wire
    finally:
        wire.may_send.set()
        wire.to_server.put_nowait({"type": "websocket.disconnect", "code": 1005})
        async with asyncio.timeout(PATIENCE_S):
            await wire.task


async def with_instance(server: ApiServer, *names: str) -> OrgId:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        for name in names or ("i-1",):
            await client.post("/machines/toggler", json={"slug": name})
    return org


async def send_event(server: ApiServer, org: OrgId, event: str, instance: str = "i-1") -> None:
    async with server.client(await server.token(org)) as client:
        response = await client.post(f"/machines/toggler/i/{instance}/events", json={"event": event})
        assert response.status_code == 200


async def accepted(wire: Wire) -> None:
    assert (await wire.heard())["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "query",
    [
        b"token=%FF",
        b"token=\xff",
        b"x-statebacked-org-id=%FF&token=%00",
        b"token=" + b"%" * 9_000,
        b"&" * 9_000,
    ],
)
async def test_every_upgrade_is_accepted_whatever_its_query(server: ApiServer, query: bytes) -> None:
    async with socket(server, query_string=query) as wire:
        await accepted(wire)


# --- subscribing ---------------------------------------------------------------------------------


async def test_a_subscriber_hears_the_present_state_and_each_newer_one(server: ApiServer) -> None:
    org = await with_instance(server)
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        first = await wire.frame()
        assert first == {
            "type": "instance-update",
            "machineName": "toggler",
            "machineInstanceName": "i-1",
            "ts": server.clock.wall,
            "state": "start",
            "tags": ["fresh"],
            "done": False,
        }
        await send_event(server, org, "go")
        second = await wire.frame()
        assert (second["state"], second["ts"] > first["ts"]) == ("go", True)
        wire.unsubscribe("1")
        await wire.settled()
        await send_event(server, org, "more")
        await wire.settled()
    assert server.engine.subscribers == []


async def test_two_requests_of_one_instance_hear_each_push_once(server: ApiServer) -> None:
    org = await with_instance(server)
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await wire.frame()
        wire.subscribe("2")
        assert (await wire.frame())["state"] == "start"
        assert len(server.engine.subscribers) == 1
        await send_event(server, org, "go")
        assert (await wire.frame())["state"] == "go"
        wire.unsubscribe("1")
        await wire.settled()
        await send_event(server, org, "on")
        assert (await wire.frame())["state"] == "on"
        wire.unsubscribe("2")
        await wire.settled()
        assert server.engine.subscribers == []


async def test_many_sockets_share_the_encoding_of_a_push(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.token(org)
    async with socket(server, token) as one, socket(server, token) as two:
        for wire in (one, two):
            await accepted(wire)
            wire.subscribe("1")
            await wire.frame()
        await send_event(server, org, "go")
        texts = [(await wire.heard())["text"] for wire in (one, two)]
        assert texts[0] is texts[1]


async def test_a_socket_that_closes_is_forgotten(server: ApiServer) -> None:
    org = await with_instance(server)
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await wire.frame()
        assert len(server.engine.subscribers) == 1
    assert server.engine.subscribers == []
    assert server.app._sockets._open == set()


@pytest.mark.parametrize(
    ("instance", "claims", "code"),
    [
        ("none", {}, (404, "not-found")),
        ("i-1", {"act": {"refused": True}}, (403, "rejected-by-machine-authorizer")),
    ],
)
async def test_what_the_engine_refuses_is_told_and_the_socket_stays(
    server: ApiServer, instance: str, claims: dict[str, Any], code: tuple[int, str]
) -> None:
    org = await with_instance(server)
    async with socket(server, await server.token(org, **claims)) as wire:
        await accepted(wire)
        wire.subscribe("1", instance)
        error = await wire.frame()
        assert (error["requestId"], error["status"], error["code"]) == ("1", *code)
        await wire.settled()


async def test_a_push_that_is_refused_ends_the_subscription_with_one_error(server: ApiServer) -> None:
    org = await with_instance(server)
    for error in (RejectedByAuthorizer("no more"), NotFound("deleted")):
        async with socket(server, await server.token(org)) as wire:
            await accepted(wire)
            wire.subscribe("1")
            await wire.frame()
            server.engine.refuse_all(error)
            told = await wire.frame()
            assert (told["requestId"], told["status"], told["code"]) == ("1", error.status, error.code)
            await wire.settled()
            wire.subscribe("1")
            assert (await wire.frame())["type"] == "instance-update"


async def test_a_failing_engine_ends_the_subscription_not_the_socket(server: ApiServer) -> None:
    org = await with_instance(server)
    server.engine.next_error = RuntimeError("bug")
    with capture_logs() as logs:
        async with socket(server, await server.token(org)) as wire:
            await accepted(wire)
            wire.subscribe("1")
            told = await wire.frame()
            assert (told["status"], told["code"]) == (503, "unavailable")
            await wire.settled()
    [line] = logs
    assert (line["event"], line["machine"]) == ("a subscription fails", "toggler")


async def test_who_unsubscribes_while_the_engine_thinks_is_unsubscribed(server: ApiServer) -> None:
    org = await with_instance(server)
    thinking, go_on = asyncio.Event(), asyncio.Event()
    subscribe = server.engine.subscribe

    async def slowly(*arguments: Any) -> Any:
        thinking.set()
        await go_on.wait()
        return await subscribe(*arguments)

    server.engine.subscribe = slowly  # type: ignore[assignment, method-assign]  # a slow worker
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await thinking.wait()
        wire.unsubscribe("1")
        await wire.settled()
        go_on.set()
        await wire.settled()
        assert server.engine.subscribers == []


# --- tokens --------------------------------------------------------------------------------------


async def test_every_upgrade_is_accepted_and_each_subscribe_told_what_is_wrong(server: ApiServer) -> None:
    org = await with_instance(server)
    key = await server.key(org)
    tokens = {
        "": "missing-user",
        "x": "missing-user",
        server.sign(*key, exp=1): "missing-user",
        await server.token(org, ["events.write"]): "missing-scope",
    }
    for token, code in tokens.items():
        async with socket(server, token) as wire:
            await accepted(wire)
            for request_id in ("1", "2"):
                wire.subscribe(request_id)
                error = await wire.frame()
                assert (error["requestId"], error["status"], error["code"]) == (request_id, 403, code)


async def test_a_catalogue_that_fails_costs_no_socket(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.token(org)
    find_key = server.catalogue.find_key

    async def failing(key: Any) -> Any:
        raise StoreFailed("disk full")

    server.catalogue.find_key = failing  # type: ignore[method-assign]  # the store's own fault
    with capture_logs() as logs:
        async with socket(server, token) as wire:
            await accepted(wire)
            wire.subscribe("1")
            told = await wire.frame()
            assert (told["status"], told["code"]) == (503, "unavailable")
            server.catalogue.find_key = find_key  # type: ignore[method-assign]
            wire.subscribe("1")
            assert (await wire.frame())["state"] == "start"
    assert {line["event"] for line in logs} == {"a socket's token cannot be judged"}


async def test_the_org_in_the_url_is_the_tokens_own(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.token(org)
    async with socket(server, token, org=await server.org()) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["code"] == "missing-org"
    async with socket(server, token, org=org) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["state"] == "start"


async def test_a_session_may_subscribe_too(server: ApiServer) -> None:
    org = await with_instance(server)
    async with socket(server, await server.session((org, "read"))) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["state"] == "start"


async def test_deleting_a_key_ends_its_subscriptions_at_once(server: ApiServer) -> None:
    org = await with_instance(server)
    key_id, secret = await server.key(org)
    token, other = server.sign(key_id, secret), await server.token(org)
    async with socket(server, token) as wire, socket(server, other) as bystander:
        for one in (wire, bystander):
            await accepted(one)
            one.subscribe("1")
            await one.frame()
        wire.subscribe("2")
        await wire.frame()
        async with server.client(await server.session((org, "admin"))) as admin:
            await admin.delete(f"/keys/{key_id}")
        ended = [await wire.frame(), await wire.frame()]
        assert [(e["requestId"], e["status"], e["code"]) for e in ended] == [
            ("1", 403, "missing-user"),
            ("2", 403, "missing-user"),
        ]
        wire.subscribe("3")
        assert (await wire.frame())["code"] == "missing-user"
        await send_event(server, org, "go")
        assert (await bystander.frame())["state"] == "go"
        await wire.settled()


async def test_a_customers_token_ends_as_it_says(server: ApiServer) -> None:
    org = await with_instance(server)
    key = await server.key(org)
    # A moment before its end by the wall clock; the loop's clock brings the end.
    token = server.sign(*key, exp=server.clock.wall // 1000)
    server.clock.pass_ms(TOKEN_LEEWAY_S * 1000 - 20)
    async with socket(server, token) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await wire.frame()
        server.clock.pass_ms(20)
        ended = await wire.frame()
        assert (ended["requestId"], ended["status"], ended["code"]) == ("1", 403, "missing-user")
        server.clock.pass_ms(2_000)
        wire.subscribe("2")
        assert (await wire.frame())["code"] == "missing-user"


async def minted(server: ApiServer, org: OrgId) -> str:
    session = AnonymousSession("s", "s")
    return mint_anonymous(server.keyring, org, session, Instant(server.clock.wall))


async def test_a_minted_token_is_taken_a_day_past_its_end_here_only(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await minted(server, org)
    server.clock.pass_ms((ANONYMOUS_TOKEN_S + RT_TOKEN_GRACE_S) * 1000 - 1_000)
    async with server.client(token) as client:
        assert (await client.get("/machines/toggler/i/i-1")).json()["code"] == "missing-user"
    async with socket(server, token) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["state"] == "start"
    server.clock.pass_ms(2_000)
    async with socket(server, token) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["code"] == "missing-user"


async def test_the_grace_can_be_switched_off() -> None:
    server = ApiServer(ApiSettings(realtime_token_grace_ms=0))
    org = await with_instance(server)
    token = await minted(server, org)
    server.clock.pass_ms((ANONYMOUS_TOKEN_S + TOKEN_LEEWAY_S + 1) * 1000)
    async with socket(server, token) as wire:
        await accepted(wire)
        wire.subscribe("1")
        assert (await wire.frame())["code"] == "missing-user"


# --- limits --------------------------------------------------------------------------------------


async def test_an_address_has_a_limited_number_of_sockets(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.token(org)
    await _fill(server, token, SOCKETS_PER_ADDRESS_MAX, "203.0.113.5", "203.0.113.5")


async def test_strangers_have_fewer_and_an_ipv6_network_is_one_address(server: ApiServer) -> None:
    await _fill(server, "", SOCKETS_UNAUTHENTICATED_PER_ADDRESS_MAX, "2001:db8::1", "2001:db8::ffff:1")


async def test_a_server_has_a_limited_number_of_sockets() -> None:
    server = ApiServer(ApiSettings(sockets_max=2))
    org = await with_instance(server)
    token = await server.token(org)
    async with socket(server, token, address="127.0.0.1") as first:
        await accepted(first)
        async with socket(server, token, address="203.0.113.5") as second:
            await accepted(second)
            async with socket(server, token, address="198.51.100.7") as third:
                assert (await third.heard())["type"] == "websocket.close"
        async with socket(server, token, address="198.51.100.7") as again:
            await accepted(again)


async def test_messages_are_read_at_once_up_to_a_burst_and_then_at_a_pace() -> None:
    pace = Pace()
    for _ in range(SOCKET_MESSAGES_BURST):
        assert is_over_at_once(pace.keep())
    slower = [pace.keep() for _ in range(SOCKET_MESSAGES_PER_S_MAX)]
    assert not any(is_over_at_once(waiting) for waiting in slower)


def is_over_at_once(waiting: Coroutine[Any, Any, None]) -> bool:
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


async def _fill(server: ApiServer, token: str, limit: int, address: str, neighbour: str) -> None:
    sockets = [socket(server, token, address=address) for _ in range(limit)]
    for one in sockets:
        await accepted(await one.__aenter__())
    async with socket(server, token, address=neighbour) as refused:
        assert (await refused.heard())["type"] == "websocket.close"
    async with socket(server, token, address="198.51.100.7") as elsewhere:
        await accepted(elsewhere)
    async with socket(server, token, address="127.0.0.1") as local:
        await accepted(local)
    await sockets.pop().__aexit__(None, None, None)
    async with socket(server, token, address=address) as again:
        await accepted(again)
    for one in sockets:
        await one.__aexit__(None, None, None)


async def test_malformed_frames_end_a_socket_with_1008(server: ApiServer) -> None:
    async with socket(server) as wire:
        await accepted(wire)
        for number in range(10):
            if number % 2:
                wire.say_text("nonsense")
            else:
                wire.to_server.put_nowait({"type": "websocket.receive", "bytes": b"{}"})
        assert await wire.heard() == {"type": "websocket.close", "code": 1008}


def tick(deadlines: Deadlines, ms: int) -> None:
    for _ in range(ms // 1000 + 1):
        ticking = deadlines._ticking
        assert ticking is not None
        ticking.cancel()
        deadlines._tick(asyncio.get_running_loop())


async def test_a_socket_that_is_silent_for_ten_minutes_is_closed_with_1001(server: ApiServer) -> None:
    deadlines = server.app._sockets._parts.deadlines
    async with socket(server) as wire:
        await accepted(wire)
        await wire.settled()
        tick(deadlines, SOCKET_SILENCE_MS - 2_000)
        wire.say(type="ping")
        await wire.settled()
        tick(deadlines, SOCKET_SILENCE_MS - 2_000)
        await wire.settled()
        tick(deadlines, SOCKET_SILENCE_MS)
        assert await wire.heard() == {"type": "websocket.close", "code": 1001}


async def test_a_reader_that_makes_no_progress_is_closed_with_1013(server: ApiServer) -> None:
    org = await with_instance(server)
    deadlines = server.app._sockets._parts.deadlines
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await wire.frame()
        wire.may_send.clear()
        await send_event(server, org, "go")
        await asyncio.sleep(0)
        tick(deadlines, SOCKET_STALLED_MS)
        await asyncio.sleep(0)
        wire.may_send.set()
        assert await wire.heard() == {"type": "websocket.close", "code": 1013}
    assert server.engine.subscribers == []


async def test_a_slow_reader_misses_states_and_gets_the_newest(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        context = {"public": "x" * (SOCKET_OUT_BYTES_MAX // 8)}
        await client.post("/machines/toggler", json={"slug": "i-1", "context": context})
    async with socket(server, await server.token(org)) as wire:
        await accepted(wire)
        wire.subscribe("1")
        await wire.frame()
        wire.may_send.clear()
        for number in range(30):
            await send_event(server, org, f"e{number}")
        wire.may_send.set()
        states: list[str] = []
        while not states or states[-1] != "e29":
            states.append((await wire.frame())["state"])
        assert len(states) < 12
        assert states == sorted(states, key=lambda state: int(state[1:]))


# --- closing -------------------------------------------------------------------------------------


async def test_a_stopping_server_sends_what_waits_and_closes_with_1012(server: ApiServer) -> None:
    org = await with_instance(server)
    async with socket(server, await server.token(org)) as wire, socket(server) as stranger:
        for one in (wire, stranger):
            await accepted(one)
        wire.subscribe("1")
        await wire.frame()
        wire.may_send.clear()
        await send_event(server, org, "go")
        await send_event(server, org, "end")
        closing = asyncio.create_task(server.app.close_sockets())
        await asyncio.sleep(0)
        wire.may_send.set()
        assert [(await wire.frame())["state"], (await wire.frame())["state"]] == ["go", "end"]
        for one in (wire, stranger):
            assert await one.heard() == {"type": "websocket.close", "code": 1012}
        await closing
        async with socket(server) as late:
            await accepted(late)
            assert await late.heard() == {"type": "websocket.close", "code": 1012}


async def test_another_host_or_path_is_refused_before_the_upgrade(server: ApiServer) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        ({"headers": [(b"host", b"evil.example")]}, 421),
        ({"raw_path": b"/other", "path": "/other"}, 404),
    ]
    for scope, status in cases:
        async with socket(server, **scope, extensions={"websocket.http.response": {}}) as wire:
            message = await wire.heard()
            assert (message["type"], message["status"]) == ("websocket.http.response.start", status)
        async with socket(server, **scope) as wire:
            assert (await wire.heard())["type"] == "websocket.close"


async def test_slashes_too_many_are_forgiven_here_too(server: ApiServer) -> None:
    async with socket(server, raw_path=b"//rt/") as wire:
        await accepted(wire)
