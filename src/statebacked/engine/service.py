"""The use cases that the API calls: create, send, read, subscribe. Errors are those of model/errors.py."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from statebacked.core.policy import Policy
from statebacked.core.wording import NO_INSTANCE
from statebacked.engine.activations import Activations
from statebacked.engine.callers import Callers
from statebacked.engine.codes import Codes
from statebacked.engine.fanout import Fanout, Subscriber, Subscription
from statebacked.engine.loaded import Parts, saved_state
from statebacked.engine.readable import ReadableRows
from statebacked.model.envelopes import Control, Envelope, External, Initialize, Repeatable, Wish
from statebacked.model.errors import (
    Conflict,
    InvalidState,
    MachineRefusal,
    NotFound,
    RejectedByAuthorizer,
    Unavailable,
)
from statebacked.model.ids import EnvelopeId, Epoch, InstanceKey, Instant, OrgId, VersionId
from statebacked.model.indexes import IndexKey, Order, Range, ReadablePage
from statebacked.model.limits import DEAD_LETTER_MS, IDEMPOTENCY_MS
from statebacked.model.rows import DeadLetter, InstanceRecord, StateView
from statebacked.model.values import Json
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids
from statebacked.ports.machines import MachineLog, Machines, Migrator, WorkerGone
from statebacked.ports.store import InstanceStore, StoreFailed

logger = structlog.get_logger(__name__)

UNDELIVERED_MAX = 10_000
SWEEP_S = 3_600


class Engine:
    """Owns every instance of the store from `start` to `aclose`."""

    def __init__(
        self,
        *,
        store: InstanceStore,
        catalogue: Catalogue,
        machines: Machines,
        migrator: Migrator,
        clock: Clock,
        ids: Ids,
        policy: Policy,
        epoch: Epoch,
        machine_log: MachineLog,
    ) -> None:
        self._store = store
        self._machines = machines
        self._clock = clock
        self._run = ids.new("evt")
        self._envelopes = 0
        self.fenced = asyncio.Event()  # another server has taken the store
        self._callers = Callers()
        self._codes = Codes(catalogue)
        self._fanout = Fanout(self._judge)
        self._readable = ReadableRows(store, machines, self._codes)
        parts = Parts(
            store=store,
            outbox=store,
            machines=machines,
            migrator=migrator,
            codes=self._codes,
            clock=clock,
            ids=ids,
            policy=policy,
            callers=self._callers,
            fanout=self._fanout,
            machine_log=machine_log,
        )
        self._activations = Activations(parts, self._codes, epoch, self._fenced)
        self._pumps: list[asyncio.Task[None]] = []

    # --- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what the last owner left: messages under way at once, timers as they are due."""
        loop = asyncio.get_running_loop()
        pumps = (self._activations.alarms.run(), self._activations.relay.run(), self._sweep())
        self._pumps = [loop.create_task(pump) for pump in pumps]
        for key in await self._store.undelivered(UNDELIVERED_MAX):
            await self._activations.find(key)

    async def _sweep(self) -> None:
        """Forget kept answers and dead letters that are too old, now and then. Until cancelled."""
        while True:
            now = self._clock.now().wall
            try:
                await self._store.sweep_answers(Instant(now - IDEMPOTENCY_MS))
                await self._store.sweep_dead_letters(Instant(now - DEAD_LETTER_MS))
            except StoreFailed as failure:
                logger.error("old rows cannot be removed", error=str(failure))
            await asyncio.sleep(SWEEP_S)

    def usable(self) -> bool:
        return self._activations.is_open and not self.fenced.is_set()

    async def drain(self, patience_ms: int) -> None:
        """Take no more events, let running ones settle for `patience_ms`, then answer everyone."""
        self._activations.is_open = False
        try:
            async with asyncio.timeout(patience_ms / 1000):
                await self._callers.until_empty()
        except TimeoutError:
            self._activations.drain()
            try:
                async with asyncio.timeout(5):
                    await self._callers.until_empty()
            except TimeoutError:
                logger.error("callers are left without an answer", count=len(self._callers))

    async def aclose(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._activations.aclose()
        await self._fanout.aclose()

    def _fenced(self) -> None:
        if not self.fenced.is_set():
            logger.error("another server has taken over this store; this one takes no more events")
        self.fenced.set()

    # --- writing -----------------------------------------------------------------------------------

    async def create_instance(
        self,
        key: InstanceKey,
        context: Json | None,
        version: VersionId | None,
        auth: Json,
        repeatable: Repeatable | None = None,
    ) -> StateView:
        """The state after the first transition has settled."""
        envelope = self._envelope(Initialize(context), auth, repeatable)
        try:
            code = await self._codes.for_creation(key, version)
            loaded = await self._activations.conceive(key, code)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        if loaded.view is None and loaded.code != code:
            raise Conflict("another creation of that name is under way; try again")
        answer = self._callers.expect(envelope.id)
        loaded.deliver(envelope)
        try:
            return await answer
        finally:
            self._activations.drop_if_unborn(loaded)

    async def send_event(
        self, key: InstanceKey, event: Json, auth: Json, repeatable: Repeatable | None = None
    ) -> StateView:
        """`event` is a JSON object with a string `type`. The state once the instance has settled."""
        return await self._deliver(key, self._envelope(External(event), auth, repeatable))

    async def control(self, key: InstanceKey, payload: Control) -> StateView:
        """Pause, resume or delete the instance, or wish another version for it, in order with its events. The
        state then; of a deleted one, its last."""
        return await self._deliver(key, self._envelope(payload, None, None))

    async def wish(self, key: InstanceKey, version: VersionId) -> None:
        """Run that version from the next outside event on. The version that it runs takes a wish back.

        Raises NotFound, and NoMigrationPath when no migrations lead there."""
        record = await self.admin_read(key)
        try:
            await self._codes.route(key, record.version, version)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        await self.control(key, Wish(version))

    async def _deliver(self, key: InstanceKey, envelope: Envelope) -> StateView:
        try:
            loaded = await self._activations.get(key)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        answer = self._callers.expect(envelope.id)
        loaded.deliver(envelope)
        return await answer

    def _envelope(
        self, payload: Initialize | External | Control, auth: Json | None, repeatable: Repeatable | None
    ) -> Envelope:
        """Its id: unique to this process by a random start, then counted, since chance is a system call."""
        self._envelopes += 1
        id = EnvelopeId(f"{self._run}.{self._envelopes}")
        return Envelope(
            id=id, payload=payload, source="client", auth=auth, wants_reply=True, repeatable=repeatable
        )

    # --- dead letters ------------------------------------------------------------------------------

    async def redrive(self, org: OrgId, letter: str) -> DeadLetter:
        """Deliver a dead letter again, with as many attempts as a new one has. Raises NotFound, and
        InvalidState where only its head was kept."""
        at = self._clock.now().wall
        try:
            found = await self._store.redrive(org, letter, at)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        if found is None:
            raise NotFound("there is no such dead letter")
        if found.is_truncated:
            raise InvalidState(
                "this dead letter was kept without its event, since the org had no room for more; discard it"
            )
        await self._activations.redriven(found, at)
        return found

    async def discard(self, org: OrgId, letter: str) -> None:
        """Forget a dead letter. Raises NotFound."""
        try:
            is_gone = await self._store.discard(org, letter)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        if not is_gone:
            raise NotFound("there is no such dead letter")

    # --- reading -----------------------------------------------------------------------------------

    async def read(self, key: InstanceKey, auth: Json) -> StateView:
        """The newest durable state that allowRead admits; never waits for events under way."""
        view, (is_allowed,) = await self._judge(key, [auth])
        if not is_allowed:
            raise RejectedByAuthorizer("allowRead refuses")
        return view

    async def admin_read(self, key: InstanceKey) -> InstanceRecord:
        """Everything about the instance; no authorizer is asked."""
        try:
            record = await self._store.load(key)
        except StoreFailed as failure:
            raise _unavailable(failure) from failure
        if record is None:
            raise NotFound(NO_INSTANCE)
        return record

    def is_throttled(self, key: InstanceKey) -> bool:
        """Whether it has long had more to do, unasked, than it may."""
        loaded = self._activations.peek(key)
        return loaded is not None and loaded.is_throttled()

    async def find_readable(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, auth: Json
    ) -> ReadablePage:
        """The rows of an index whose instances allowRead admits this caller to. A page may hold fewer than
        `limit` rows, even none, and more may follow."""
        try:
            return await self._readable.find(index, ranges, order=order, limit=limit, auth=auth)
        except WorkerGone as gone:
            raise MachineRefusal("machine-fault", gone.reason) from gone
        except StoreFailed as failure:
            raise _unavailable(failure) from failure

    async def subscribe(self, key: InstanceKey, auth: Json, subscriber: Subscriber) -> Subscription:
        """Pushes the present state at once and every newest one until closed or refused."""
        subscription = self._fanout.add(key, auth, subscriber)
        try:
            subscription.offer(await self.read(key, auth))
        except BaseException:
            subscription.close()
            raise
        return subscription

    async def _judge(self, key: InstanceKey, auths: Sequence[Json]) -> tuple[StateView, Sequence[bool]]:
        """allowRead on the newest durable state, and which that was."""
        try:
            loaded = self._activations.peek(key)
            if loaded is not None:
                seen = loaded.view
                assert seen is not None
                # A worker that dies under a read may have died of another's event: asked again, elsewhere.
                with suppress(WorkerGone):
                    allowed = await loaded.attached.may_read(seen.seq, auths)
                    if allowed is not None:
                        return seen, allowed
            record = await self.admin_read(key)
            code = await self._codes.of(key, record.version)
            return record.view, await self._machines.may_read(code, key, saved_state(record), auths)
        except WorkerGone as gone:
            raise MachineRefusal("machine-fault", gone.reason) from gone
        except StoreFailed as failure:
            raise _unavailable(failure) from failure


def _unavailable(failure: StoreFailed) -> Unavailable:
    logger.error("the store fails", error=str(failure))
    return Unavailable("the store cannot be reached; nothing happened, try again")
