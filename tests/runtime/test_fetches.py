"""What the host lets a worker fetch, whatever the worker claims; and whose turn it is."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from statebacked.model import limits
from statebacked.model.ids import ActivationNumber, MachineName, OrgId, Seq, ServiceId, ServiceRun, VersionId
from statebacked.ports.egress import EgressFailed, EgressRefused, HttpRequest, HttpResponse
from statebacked.ports.machines import Code
from statebacked.runtime.fetch_frames import PIECE_COST, Fetch, FetchAbort, FetchFrame, FetchMore, FetchUpload
from statebacked.runtime.fetches import Fetches, FetchParts, NoEgress, Shares
from statebacked.runtime.framing import ProtocolError
from statebacked.runtime.turns import Turns
from tests.event_loop import run

SERVICE = ServiceRun(ServiceId("svc"), Seq(2))
A = ActivationNumber(1)


class Instance:
    """A claimant: one service runs, compute 7 is judged, its own code may not any more."""

    def __init__(self) -> None:
        self.own_until = 0.0

    def fetch_until(self, service: ServiceRun | None, compute: int | None) -> float:
        if service == SERVICE or compute == 7:
            return math.inf
        if service is None and compute is None and asyncio.get_running_loop().time() < self.own_until:
            return self.own_until
        raise EgressRefused("it may not")


class Home:
    def __init__(self) -> None:
        self.code: Code | None = Code(OrgId("org_1"), MachineName("m"), VersionId("v"), "5.33.3")
        self.is_paused = False
        self.guests = {1: Instance(), 2: Instance()}
        self.said: asyncio.Queue[tuple[dict[str, Any], bytes]] = asyncio.Queue()  # Any: a header

    def is_judging(self, number: int) -> bool:
        return number == 3

    def write(self, parts: Sequence[bytes]) -> None:
        self.said.put_nowait((json.loads(parts[1]), b"".join(parts[2:])))

    async def hears(self, kind: str) -> tuple[dict[str, Any], bytes]:  # Any: as above
        async with asyncio.timeout(10):
            header, section = await self.said.get()
        assert header["t"] == kind, header
        return header, section


class Egress:
    """A port whose answers the test gives. `orgs` tells on whose behalf it was asked."""

    def __init__(self, *pieces: bytes, waits: bool = False) -> None:
        self.pieces = pieces
        self.waits = waits
        self.orgs: list[OrgId | None] = []
        self.bodies: list[bytes] = []
        self.ended = 0

    @asynccontextmanager
    async def send(self, org: OrgId | None, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        self.orgs.append(org)
        try:
            if request.body is not None:
                self.bodies.append(b"".join([piece async for piece in request.body]))
            if self.waits:
                await asyncio.Event().wait()
            yield HttpResponse(
                status=200, reason="", headers=(), url=request.url, redirected=False, body=self._body()
            )
        finally:
            self.ended += 1

    async def _body(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def made(egress: Any = None) -> tuple[Fetches, Home]:  # Any: a double of a port
    home = Home()
    used = Egress(waits=True) if egress is None else egress
    parts = FetchParts(used, Turns(), Shares(), authorize_ms=5_000, starts=Turns())
    return Fetches(parts, home), home


def fetch(f: int, **claim: Any) -> Fetch:  # Any: fields of a frame
    more = {"body": False, **claim}
    return Fetch(f=f, method="GET", url="http://x.test/", headers=[], redirect="follow", **more)


OWN = {"a": 1, "service": ("svc", 2)}


@pytest.mark.parametrize(
    "claim",
    [
        {"a": 9},
        {"a": 1},
        {"a": 1, "service": ("svc", 3)},
        {"a": 1, "service": ("other", 2)},
        {"a": 1, "compute": 6},
        {"read": 4},
        {"a": 1, "service": ("svc", 2), "read": 4},
        {},
    ],
)
def test_a_claim_that_the_host_knows_nothing_of_is_refused(claim: dict[str, Any]) -> None:
    @run
    async def test() -> None:
        egress = Egress()
        fetches, home = made(egress)
        fetches.received(fetch(1, **claim), [])
        header, _ = await home.hears("fetch_failed")
        assert header["f"] == 1
        assert not fetches
        assert egress.orgs == []

    test()


@pytest.mark.parametrize("claim", [OWN, {"a": 1, "compute": 7}, {"read": 3}])
def test_the_org_is_that_of_the_hosts_own_record(claim: dict[str, Any]) -> None:
    @run
    async def test() -> None:
        egress = Egress(b"one", b"two")
        fetches, home = made(egress)
        fetches.received(fetch(1, **claim), [])
        assert (await home.hears("fetch_head"))[0]["status"] == 200
        assert [(await home.hears("fetch_chunk"))[1] for _ in range(3)] == [b"one", b"two", b""]
        assert egress.orgs == ["org_1"]
        assert not fetches

    test()


@run
async def test_what_only_a_broken_worker_sends_is_a_breach() -> None:
    fetches, home = made()
    fetches.received(fetch(1, **OWN, body=True), [])
    fetches.received(fetch(2, **OWN), [])
    longest = b"x" * limits.FETCH_CHUNK_BYTES_MAX
    broken: list[tuple[FetchFrame, list[bytes]]] = [
        (fetch(1, **OWN), []),
        (FetchUpload(1, ends=False), []),
        (FetchUpload(1, ends=False), [b"a", b"b"]),
        (FetchUpload(1, ends=False), [longest + b"x"]),
        (FetchUpload(2, ends=False), [b"a"]),
        (FetchMore(2, 1), []),
    ]
    for frame, sections in broken:
        with pytest.raises(ProtocolError):
            fetches.received(frame, sections)
    count = limits.FETCH_WINDOW_BYTES // (len(longest) + PIECE_COST)
    for _ in range(count):
        fetches.received(FetchUpload(1, ends=False), [longest])
    with pytest.raises(ProtocolError, match="more of a body than may be sent"):
        fetches.received(FetchUpload(1, ends=False), [longest])
    home.code = None
    with pytest.raises(ProtocolError):
        fetches.received(fetch(3, **OWN), [])
    fetches.close()


@run
async def test_more_of_a_body_that_is_whole_is_a_breach() -> None:
    fetches, _ = made()
    fetches.received(fetch(1, **OWN, body=True), [])
    fetches.received(FetchUpload(1, ends=True), [b"all"])
    with pytest.raises(ProtocolError, match="more of a body that is whole"):
        fetches.received(FetchUpload(1, ends=False), [b"more"])
    fetches.close()


@run
async def test_more_requests_than_may_be_are_a_breach() -> None:
    fetches, home = made()
    for f in range(limits.FETCHES_PER_INSTANCE_MAX):
        fetches.received(fetch(f, **OWN), [])
    with pytest.raises(ProtocolError, match="of an instance"):
        fetches.received(fetch(99, **OWN), [])
    for a in range(2, 5):
        home.guests[a] = Instance()
        for f in range(limits.FETCHES_PER_INSTANCE_MAX):
            fetches.received(fetch(100 * a + f, **{**OWN, "a": a}), [])
    with pytest.raises(ProtocolError, match="too many fetches"):
        fetches.received(fetch(99, read=3), [])
    assert len(fetches) == limits.FETCHES_PER_WORKER_MAX
    fetches.received(FetchAbort(0), [])
    fetches.received(fetch(99, **OWN), [])
    fetches.close()
    assert not fetches


@run
async def test_an_org_and_a_server_have_so_many_under_way_and_get_them_back() -> None:
    parts = FetchParts(Egress(waits=True), Turns(), Shares(), authorize_ms=5_000, starts=Turns())
    homes = [Home() for _ in range(16)]
    for number, home in enumerate(homes):
        home.guests = {a: Instance() for a in range(1, 5)}
        if number >= 4:
            home.code = Code(OrgId(f"org_1{number // 4}"), MachineName("m"), VersionId("v"), "5.33.3")
    workers = [Fetches(parts, home) for home in homes]

    def fill(fetches: Fetches) -> None:
        for f in range(limits.FETCHES_PER_WORKER_MAX):
            fetches.received(fetch(f, **{**OWN, "a": 1 + f // limits.FETCHES_PER_INSTANCE_MAX}), [])

    for fetches in workers[:4]:
        fill(fetches)
    another = Home()
    of_the_org = Fetches(parts, another)
    of_the_org.received(fetch(1, **OWN), [])
    assert "256 requests of this org" in (await another.hears("fetch_failed"))[0]["message"]
    for fetches in workers[4:]:
        fill(fetches)
    assert sum(map(len, workers)) == limits.FETCHES_MAX
    message = "the server has too many requests under way"
    assert (await homes[-1].hears("fetch_failed"))[0]["message"] == message
    await idle()
    for fetches in workers:
        fetches.close()
    await idle()
    of_the_org.received(fetch(2, **OWN), [])
    assert len(of_the_org) == 1
    of_the_org.close()


@run
async def test_frames_about_a_fetch_that_is_over_crossed_with_its_end() -> None:
    fetches, _ = made()
    for frame in (FetchUpload(7, ends=False), FetchMore(7, 10**9), FetchAbort(7)):
        fetches.received(frame, [b""])


@run
async def test_an_answer_comes_no_faster_than_it_is_taken() -> None:
    piece = b"x" * limits.FETCH_CHUNK_BYTES_MAX
    fetches, home = made(Egress(*[piece] * 8))
    fetches.received(fetch(1, **OWN), [])
    await home.hears("fetch_head")
    cost = len(piece) + PIECE_COST
    window = limits.FETCH_WINDOW_BYTES // cost
    for _ in range(window):
        await home.hears("fetch_chunk")
    await idle()
    assert home.said.empty()
    fetches.received(FetchMore(1, cost), [])
    await home.hears("fetch_chunk")
    home.is_paused = True
    fetches.received(FetchMore(1, 2 * cost), [])
    await idle()
    assert home.said.empty()
    home.is_paused = False
    fetches.drained()
    await home.hears("fetch_chunk")
    await home.hears("fetch_chunk")
    fetches.close()


async def idle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


@run
async def test_what_was_sent_gives_room_for_more_up_to_the_limit() -> None:
    egress = Egress()
    fetches, home = made(egress)
    fetches.received(fetch(1, **OWN, body=True), [])
    piece = b"x" * 50_000
    for _ in range(limits.FETCH_BODY_BYTES_MAX // len(piece)):
        fetches.received(FetchUpload(1, ends=False), [piece])
        header, _ = await home.hears("fetch_upload_more")
        assert header["bytes"] == len(piece) + PIECE_COST
    fetches.received(FetchUpload(1, ends=True), [b"x"])
    header, _ = await home.hears("fetch_failed")
    assert "longer than 10,000,000 bytes" in header["message"]


@run
async def test_stopped_services_and_closed_instances_lose_what_they_fetch() -> None:
    egress = Egress(waits=True)
    fetches, home = made(egress)
    fetches.received(fetch(1, **OWN), [])
    fetches.received(fetch(2, **{**OWN, "a": 2}), [])
    fetches.received(fetch(3, a=1, compute=7), [])
    fetches.received(fetch(4, read=3), [])
    await idle()
    ends: list[tuple[Callable[[], None], int]] = [
        (lambda: fetches.stopped(A, [SERVICE]), 1),
        (lambda: fetches.answered(A), 3),
        (lambda: fetches.read_over(3), 4),
        (lambda: fetches.closed(ActivationNumber(2)), 2),
    ]
    for end, f in ends:
        end()
        assert (await home.hears("fetch_failed"))[0]["f"] == f
    await idle()
    assert egress.ended == 4


@run
async def test_what_goes_on_after_its_service_ends_with_the_time_to_settle() -> None:
    fetches, home = made()
    loop = asyncio.get_running_loop()
    fetches.received(fetch(1, **OWN), [])
    fetches.received(fetch(2, **{**OWN, "a": 2}), [])
    home.guests[1].own_until = loop.time() + 0.05
    fetches.ended(A, SERVICE)
    fetches.ended(ActivationNumber(2), SERVICE)
    assert (await home.hears("fetch_failed"))[0]["f"] == 2  # its time was over
    home.guests[1].own_until = loop.time() + 0.1  # an event from outside
    assert (await home.hears("fetch_failed"))[0]["f"] == 1
    assert loop.time() >= home.guests[1].own_until


@run
async def test_an_authorizer_that_is_asked_for_ever_may_fetch_for_its_time() -> None:
    home = Home()
    fetches = Fetches(
        FetchParts(Egress(waits=True), Turns(), Shares(), authorize_ms=30, starts=Turns()), home
    )
    fetches.received(fetch(1, a=1, compute=7), [])
    fetches.received(fetch(2, read=3), [])
    for _ in range(2):
        header, _ = await home.hears("fetch_failed")
        assert header["message"] == "an authorizer may fetch for 0.03 s"


@run
async def test_a_failure_and_a_fault_are_told_once() -> None:
    class Failing(Egress):
        @asynccontextmanager
        async def send(self, org: OrgId | None, request: HttpRequest) -> AsyncIterator[HttpResponse]:
            raise EgressFailed("it failed") if request.method == "GET" else LookupError
            yield

    fetches, home = made(Failing())
    fetches.received(fetch(1, **OWN), [])
    assert (await home.hears("fetch_failed"))[0]["message"] == "it failed"
    faulty = fetch(2, **OWN)
    faulty.method = "PUT"
    fetches.received(faulty, [])
    assert (await home.hears("fetch_failed"))[0]["message"] == "the server failed to perform it"
    assert not fetches


@run
async def test_a_server_without_egress_lets_nothing_out() -> None:
    fetches, home = made(NoEgress())
    fetches.received(fetch(1, **OWN), [])
    assert (await home.hears("fetch_failed"))[0]["message"] == "this server lets no requests out"


# --- turns


@run
async def test_keys_take_turns_however_much_each_wants() -> None:
    turns = Turns(per_loop_turn=2)
    taken: list[str] = []

    async def take(key: str) -> None:
        await turns.take(key)
        taken.append(key)

    async with asyncio.TaskGroup() as group:
        for key in "aaaaaaaabbc":
            group.create_task(take(key))
    assert sorted(taken) == sorted("aaaaaaaabbc")
    assert taken.index("b") < 5
    assert taken.index("c") < 6
    assert taken[-3:] == ["a", "a", "a"]


@run
async def test_a_loop_turn_has_so_many_turns_and_no_more() -> None:
    turns = Turns(per_loop_turn=3)
    taken = 0

    async def take() -> None:
        nonlocal taken
        await turns.take("a")
        taken += 1

    tasks = [asyncio.ensure_future(take()) for _ in range(30)]
    before = 0
    while taken < 30:
        await asyncio.sleep(0)
        assert taken - before <= 3
        before = taken
    await asyncio.gather(*tasks)


@run
async def test_who_gave_up_waiting_takes_no_turn() -> None:
    turns = Turns(per_loop_turn=1)
    await turns.take("a")
    tasks = [asyncio.ensure_future(turns.take(key)) for key in "aabb"]
    await asyncio.sleep(0)
    for task in tasks[:3]:
        task.cancel()
    async with asyncio.timeout(5):
        await tasks[3]
        await turns.take("c")
