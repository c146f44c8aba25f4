"""What the machine code of one worker fetches, under way.

Theory of operation. A worker only claims whose code asks. Org, machine and instance are the host's own record
of the worker and its activations, and so is until when the claimant may: a running service while it runs, an
instance's own code until its time to settle is over, an authorizer while its answer is awaited. One task
performs a fetch; it ends with the last frame to the worker, by an abort, or when its claimant may no more.
Frames about a fetch that is over are dropped: they crossed with its end. What only a broken worker would send
(more requests, longer pieces or more credit than there may be) is a ProtocolError, for which it is killed.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

import structlog

from statebacked.model import limits
from statebacked.model.ids import ActivationNumber, OrgId, Seq, ServiceId, ServiceRun
from statebacked.ports.egress import Egress, EgressFailed, EgressRefused, HttpRequest, HttpResponse
from statebacked.ports.machines import Code
from statebacked.runtime.fetch_frames import (
    PIECE_COST,
    Fetch,
    FetchAbort,
    FetchFrame,
    FetchMore,
    FetchUpload,
    fetch_chunk,
    fetch_failed,
    fetch_head,
    fetch_upload_more,
)
from statebacked.runtime.framing import ProtocolError
from statebacked.runtime.turns import Turns

logger = structlog.get_logger(__name__)

_BODILESS: Final = frozenset({204, 205, 304})

Key = tuple[str, int]  # ("a", activation) or ("read", number of the read)


class NoEgress:
    """ports.Egress of a server that lets nothing out."""

    def send(self, org: OrgId | None, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        raise EgressRefused("this server lets no requests out")


class Shares:
    """How many fetches are under way, in all workers together: sockets and memory are the server's."""

    def __init__(self) -> None:
        self._counts: Counter[OrgId] = Counter()
        self._count = 0

    def take(self, org: OrgId) -> None:
        """Raises EgressRefused."""
        if self._counts[org] >= limits.FETCHES_PER_ORG_MAX:
            raise EgressRefused(f"{limits.FETCHES_PER_ORG_MAX} requests of this org are under way")
        if self._count >= limits.FETCHES_MAX:
            raise EgressRefused("the server has too many requests under way")
        self._counts[org] += 1
        self._count += 1

    def give_back(self, org: OrgId) -> None:
        self._counts[org] -= 1
        self._count -= 1
        if not self._counts[org]:
            del self._counts[org]


class FetchParts(NamedTuple):
    """What the fetches of all workers share. `authorize_ms`: how long an authorizer may fetch. `turns` are
    taken for pieces of bodies, `starts` for requests, which are more work."""

    egress: Egress
    turns: Turns
    shares: Shares
    authorize_ms: int
    starts: Turns


NO_FETCHES: Final = FetchParts(NoEgress(), Turns(), Shares(), 0, Turns())


class Claimant(Protocol):
    """An activation, as far as fetches go."""

    def fetch_until(self, service: ServiceRun | None, compute: int | None) -> float:
        """Until when (loop time) the code of this run, of the authorizer of this compute, or of the instance
        itself may fetch. Raises EgressRefused when it may not."""


class Home(Protocol):
    """The worker."""

    @property
    def code(self) -> Code | None: ...
    @property
    def is_paused(self) -> bool:
        """It does not read what it is sent."""

    @property
    def guests(self) -> Mapping[int, Claimant]:
        """By activation."""

    def is_judging(self, number: int) -> bool:
        """allowRead is under way under that number."""

    def write(self, parts: Sequence[bytes]) -> None: ...


class _Under:
    """One fetch under way."""

    def __init__(self, frame: Fetch, key: Key, begun_at: float) -> None:
        self.frame = frame
        self.key = key
        self.begun_at = begun_at
        self.service = (
            None if frame.service is None else ServiceRun(ServiceId(frame.service[0]), Seq(frame.service[1]))
        )
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.credit = limits.FETCH_WINDOW_BYTES  # what the worker takes of the answer now
        self.upload_credit = limits.FETCH_WINDOW_BYTES  # what it may send of the request
        self.pieces: deque[bytes] = deque()
        self.has_all = False
        self.uploaded_bytes = 0
        self._woken: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until something of it has changed."""
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Fetches:
    """What is under way in one worker."""

    def __init__(self, parts: FetchParts, home: Home) -> None:
        self._egress, self._turns, self._shares, self._authorize_ms, self._starts = parts
        self._home = home
        self._loop = asyncio.get_running_loop()
        self._under: dict[int, _Under] = {}
        self._counts: Counter[Key] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()  # also of fetches that are over and still closing

    def __len__(self) -> int:
        return len(self._under)

    # --- what the worker says

    def received(self, frame: FetchFrame, sections: list[bytes]) -> None:
        """Raises ProtocolError."""
        match frame:
            case Fetch():
                self._begin(frame)
            case FetchUpload(f, ends):
                self._uploaded(f, sections, ends=ends)
            case FetchMore(f, count):
                self._more(f, count)
            case FetchAbort(f) if under := self._under.get(f):
                self._end(under)
            case FetchAbort():
                pass  # it crossed with the end

    def _begin(self, frame: Fetch) -> None:
        code = self._home.code
        key: Key = ("a", frame.a) if frame.read is None else ("read", frame.read)
        if code is None or frame.f in self._under:
            raise ProtocolError("a fetch that cannot be")
        if self._counts[key] >= limits.FETCHES_PER_INSTANCE_MAX:
            raise ProtocolError("too many fetches of an instance")
        if len(self._under) >= limits.FETCHES_PER_WORKER_MAX:
            raise ProtocolError("too many fetches")
        under = _Under(frame, key, self._loop.time())
        try:
            until = self._until(under)
            self._shares.take(code.org)
        except EgressRefused as refused:
            self._home.write(fetch_failed(frame.f, str(refused)))
            return
        self._under[frame.f] = under
        self._counts[key] += 1
        self._end_at(under, until)
        under.task = self._loop.create_task(self._perform(under, code.org))
        self._tasks.add(under.task)
        under.task.add_done_callback(lambda task: self._closed(task, code.org))

    def _closed(self, task: asyncio.Task[None], org: OrgId) -> None:
        self._tasks.discard(task)
        self._shares.give_back(org)

    def _uploaded(self, f: int, sections: list[bytes], *, ends: bool) -> None:
        under = self._under.get(f)
        if under is None:
            return
        [piece] = sections if len(sections) == 1 else [b""]
        if len(sections) != 1 or len(piece) > limits.FETCH_CHUNK_BYTES_MAX or not under.frame.body:
            raise ProtocolError("a piece of a body that cannot be")
        if under.has_all:
            raise ProtocolError("more of a body that is whole")
        if piece:
            under.upload_credit -= len(piece) + PIECE_COST
            if under.upload_credit < 0:
                raise ProtocolError("more of a body than may be sent")
            under.pieces.append(piece)
        under.has_all = ends
        under.wake()

    def _more(self, f: int, count: int) -> None:
        under = self._under.get(f)
        if under is None:
            return
        under.credit += count
        if under.credit > limits.FETCH_WINDOW_BYTES:
            raise ProtocolError("more credit than was taken")
        under.wake()

    def drained(self) -> None:
        """The worker reads again."""
        for under in self._under.values():
            under.wake()

    # --- who may

    def _until(self, under: _Under) -> float:
        """Until when it may go on. Raises EgressRefused."""
        frame, until = under.frame, math.inf
        if frame.read is not None:
            if not self._home.is_judging(frame.read):
                raise EgressRefused("the authorizer that asks for it has answered")
        else:
            claimant = self._home.guests.get(frame.a)
            if claimant is None:
                raise EgressRefused("the instance that asks for it is not loaded any more")
            until = claimant.fetch_until(under.service, frame.compute)
        if frame.read is None and frame.compute is None:
            return until
        judged_until = under.begun_at + self._authorize_ms / 1000
        if self._loop.time() >= judged_until:
            raise EgressRefused(f"an authorizer may fetch for {self._authorize_ms / 1000:g} s")
        return judged_until

    def _end_at(self, under: _Under, until: float) -> None:
        if under.timer is not None:
            under.timer.cancel()
        under.timer = None if until == math.inf else self._loop.call_at(until, self._expire, under)

    def _expire(self, under: _Under) -> None:
        """See whether it may go on: an event from outside gives more time."""
        try:
            self._end_at(under, self._until(under))
        except EgressRefused as refused:
            self._end(under, str(refused))

    def stopped(self, activation: ActivationNumber, runs: Collection[ServiceRun]) -> None:
        """A promise cannot be stopped; what it fetches can."""
        self._end_all(activation, lambda under: under.service in runs, "the service was stopped")

    def ended(self, activation: ActivationNumber, run: ServiceRun) -> None:
        """A service ended by itself: what it still fetches is the instance's own from now on."""
        for under in self._of(activation):
            if under.service == run:
                under.service = None
                self._expire(under)

    def answered(self, activation: ActivationNumber) -> None:
        """The compute of the activation is over, and its authorizer with it."""
        self._end_all(
            activation, lambda under: under.frame.compute is not None, "the authorizer has answered"
        )

    def read_over(self, number: int) -> None:
        for under in [*self._under.values()]:
            if under.frame.read == number:
                self._end(under, "the authorizer has answered")

    def closed(self, activation: ActivationNumber) -> None:
        self._end_all(activation, lambda under: True, "the instance was unloaded")

    def close(self) -> None:
        """The worker is gone."""
        for under in [*self._under.values()]:
            self._end(under)

    def _of(self, activation: ActivationNumber) -> list[_Under]:
        return [under for under in self._under.values() if under.key == ("a", activation)]

    def _end_all(
        self, activation: ActivationNumber, concerns: Callable[[_Under], bool], message: str
    ) -> None:
        for under in self._of(activation):
            if concerns(under):
                self._end(under, message)

    # --- performing

    async def _perform(self, under: _Under, org: OrgId) -> None:
        """The root of a task."""
        frame = under.frame
        request = HttpRequest(
            method=frame.method,
            url=frame.url,
            headers=frame.headers,
            body=self._upload(under) if frame.body else None,
            length=frame.length,
            redirect=frame.redirect,
        )
        try:
            await self._starts.take((org, self._home))
            async with self._egress.send(org, request) as response:
                await self._answer(under, response)
        except EgressFailed as failed:
            self._end(under, str(failed))
        except Exception:
            logger.exception("a fetch fails", code=self._home.code)
            self._end(under, "the server failed to perform it")

    async def _answer(self, under: _Under, response: HttpResponse) -> None:
        f, has_body = under.frame.f, under.frame.method != "HEAD" and response.status not in _BODILESS
        source = (response.url, response.redirected)
        status = (response.status, response.reason)
        head = fetch_head(f, status, response.headers, source, body=has_body)
        if not has_body:
            self._end(under, last=head)
            return
        self._home.write(head)
        pieces = aiter(response.body)
        while True:
            await self._turns.take((self._home, under.key))
            piece = await anext(pieces, None)
            if piece is None:
                break
            cost = len(piece) + PIECE_COST
            while under.credit < cost or self._home.is_paused:
                await under.wait()
            under.credit -= cost
            self._home.write(fetch_chunk(f, piece))
        self._end(under, last=fetch_chunk(f, b"", ends=True))

    async def _upload(self, under: _Under) -> AsyncIterator[bytes]:
        """The request's body as it comes. Each piece gives its cost back when it was sent on."""
        while True:
            while under.pieces:
                await self._turns.take((self._home, under.key))
                piece = under.pieces.popleft()
                under.uploaded_bytes += len(piece)
                if under.uploaded_bytes > limits.FETCH_BODY_BYTES_MAX:
                    most = f"{limits.FETCH_BODY_BYTES_MAX:,} bytes"
                    raise EgressFailed(f"the body of the request is longer than {most}")
                yield piece
                cost = len(piece) + PIECE_COST
                under.upload_credit += cost
                if not under.has_all:
                    self._home.write(fetch_upload_more(under.frame.f, cost))
            if under.has_all:
                return
            await under.wait()

    def _end(self, under: _Under, message: str | None = None, *, last: Sequence[bytes] = ()) -> None:
        """It is over: with a failure or a last frame; without when the worker gave it up or is gone."""
        if self._under.get(under.frame.f) is not under:
            return
        del self._under[under.frame.f]
        self._counts[under.key] -= 1
        if not self._counts[under.key]:
            del self._counts[under.key]
        if under.timer is not None:
            under.timer.cancel()
        if under.task is not None and under.task is not asyncio.current_task():
            under.task.cancel()
        if message is not None:
            last = fetch_failed(under.frame.f, message)
        if last:
            self._home.write(last)
