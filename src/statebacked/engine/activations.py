"""All instances that this process has loaded: each once, dropped when idle, loaded anew when a commit failed.

Crash only: when a commit does not succeed the activation ends. Nobody is forgotten then: a caller whose event
stands in the history is answered with the present state, one whose event was under way and does not stand
there is told that nothing happened, and envelopes that had not begun go on in a new activation, in order.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

import structlog

from statebacked.core import phases
from statebacked.core.delivery import of_message, of_timer
from statebacked.core.instance import activate, conceive
from statebacked.core.phases import Activation
from statebacked.core.wording import NO_INSTANCE
from statebacked.engine.accounts import Accounts, taken_up
from statebacked.engine.alarms import Alarms, Busy
from statebacked.engine.codes import Codes
from statebacked.engine.driver import Ending
from statebacked.engine.loaded import Loaded, Parts, saved_state
from statebacked.engine.relay import Relay
from statebacked.engine.undeliverable import refuse_message
from statebacked.model.envelopes import Cause, Initialize
from statebacked.model.errors import InvalidName, NoCurrentVersion, NotFound, StateBackedError, Unavailable
from statebacked.model.ids import (
    NEVER,
    ActivationNumber,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    VersionId,
)
from statebacked.model.limits import MAILBOX_ENVELOPES_MAX
from statebacked.model.rows import DeadLetter, DueMessage, DueTimer, InstanceRecord, Message, Outcome, Timer
from statebacked.ports.machines import Code
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

ACTIVATIONS_MAX = 10_000  # above it idle ones are dropped, the least recently used first
SETBACK_MS = 250  # pause before an instance goes on by itself whose commit failed

Loading = asyncio.Task[Loaded | None]


class Activations:
    """`on_fenced` is called when another owner has taken the store: then everything is unavailable."""

    def __init__(self, parts: Parts, codes: Codes, epoch: Epoch, on_fenced: Callable[[], None]) -> None:
        self.alarms = Alarms(parts.store, parts.clock, self._deliver_timer)
        self.relay = Relay(parts.outbox, parts.clock, self._deliver_message, self._departed)
        self.is_open = True
        self._parts = parts
        self._codes = codes
        self._epoch = epoch
        self._on_fenced = on_fenced
        self._loaded: OrderedDict[InstanceKey, Loaded] = OrderedDict()
        self._loading: dict[InstanceKey, Loading] = {}
        self._numbers = 0
        self._accounts = Accounts(parts)

    def __len__(self) -> int:
        return len(self._loaded)

    def peek(self, key: InstanceKey) -> Loaded | None:
        """The instance if it is loaded and exists."""
        loaded = self._loaded.get(key)
        return loaded if loaded is not None and loaded.view is not None else None

    async def get(self, key: InstanceKey) -> Loaded:
        """Loads it if need be. Raises NotFound, StoreFailed, and Unavailable while draining or fenced."""
        loaded = await self.find(key)
        if loaded is None:
            raise NotFound(NO_INSTANCE)
        return loaded

    async def find(self, key: InstanceKey) -> Loaded | None:
        """None when there is no such instance."""
        if not self.is_open:
            raise Unavailable("this server takes no more events; try again")
        loaded = self._loaded.get(key)
        if loaded is not None:
            self._loaded.move_to_end(key)
            return loaded
        task = self._loading.get(key) or self._start(key, self._load(key))
        return await asyncio.shield(task)

    async def conceive(self, key: InstanceKey, code: Code) -> Loaded:
        """The instance, or an activation of one that is to be created by `code`."""
        found = await self.find(key) or self._loaded.get(key)
        if found is not None:
            return found
        ts_floor = await self._parts.outbox.last_ts(key)
        return self._loaded.get(key) or self._conceive(key, code, ts_floor)

    def drop_if_unborn(self, loaded: Loaded) -> None:
        """A creation was refused: forget the activation, unless others wait in it."""
        if loaded.view is None and loaded.is_idle() and self._loaded.get(loaded.key) is loaded:
            self._drop(loaded)

    def drain(self) -> None:
        """Begin nothing more; answer everyone who waits with the durable state, as at the deadline."""
        self.is_open = False
        for loaded in list(self._loaded.values()):
            loaded.driver.signal(phases.Drain())

    async def aclose(self) -> None:
        for loaded in list(self._loaded.values()):
            self._drop(loaded)
        await self.relay.aclose()
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._accounts.aclose()

    # --- loading -----------------------------------------------------------------------------------

    # Any: what a coroutine yields and is sent is the event loop's own business.
    def _start(self, key: InstanceKey, loading: Coroutine[Any, Any, Loaded | None]) -> Loading:
        """Whoever asks for the instance from now on waits for this task."""
        task = asyncio.get_running_loop().create_task(loading)
        self._loading[key] = task
        task.add_done_callback(lambda done: self._loading_is_over(key, done))
        return task

    def _loading_is_over(self, key: InstanceKey, task: Loading) -> None:
        if self._loading.get(key) is task:
            del self._loading[key]
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("an instance cannot be loaded", error=repr(failure))

    async def _load(self, key: InstanceKey) -> Loaded | None:
        record = await self._parts.store.load(key)
        if record is None:
            return None
        loaded = await self._activate(record)
        if loaded.driver.activation.mailbox:
            loaded.driver.signal(phases.Tick())
        return loaded

    async def _activate(self, record: InstanceRecord) -> Loaded:
        code = await self._codes.of(record.key, record.version)
        self._numbers += 1
        activation = activate(record, ActivationNumber(self._numbers), self._epoch)
        return self._hold(Loaded(activation, code, saved_state(record), parts=self._parts, surroundings=self))

    def _conceive(self, key: InstanceKey, code: Code, ts_floor: Instant) -> Loaded:
        activation = self._unborn(key, code.version, ts_floor)
        return self._hold(Loaded(activation, code, None, parts=self._parts, surroundings=self))

    def _unborn(self, key: InstanceKey, version: VersionId, ts_floor: Instant = NEVER) -> Activation:
        self._numbers += 1
        instance = InstanceId(self._parts.ids.new("ins"))
        number = ActivationNumber(self._numbers)
        return conceive(instance, key, version, number, self._epoch, ts_floor)

    def _hold(self, loaded: Loaded) -> Loaded:
        assert loaded.key not in self._loaded, "an instance is loaded once"
        self._loaded[loaded.key] = loaded
        if len(self._loaded) > ACTIVATIONS_MAX:
            for candidate in list(islice(self._loaded.values(), 100)):
                if candidate.may_be_dropped() and candidate is not loaded:
                    self._drop(candidate)
                else:  # it is in use, or its bucket would be full again: the next ones are looked at sooner
                    self._loaded.move_to_end(candidate.key)
        return loaded

    def _drop(self, loaded: Loaded) -> None:
        del self._loaded[loaded.key]
        loaded.close()

    # --- what comes due ----------------------------------------------------------------------------

    async def _deliver_timer(self, due: DueTimer) -> None:
        """Raises Busy while half a mailbox waits: the row stays in the store."""
        loaded = await self.find(due.key)
        if loaded is None or loaded.driver.activation.instance != due.instance:
            return
        if len(loaded.driver.activation.mailbox) >= MAILBOX_ENVELOPES_MAX // 2:
            raise Busy
        loaded.deliver(of_timer(due))

    def _deliver_message(self, due: DueMessage) -> Coroutine[Any, Any, None] | None:
        """At once when the recipient is loaded: most are."""
        loaded = self._loaded.get(due.to)
        if loaded is None or loaded.view is None:
            return self._find_and_deliver(due)
        self._loaded.move_to_end(due.to)
        self._give(loaded, due)
        return None

    async def _find_and_deliver(self, due: DueMessage) -> None:
        try:
            loaded = await self._recipient(due)
        except (NotFound, NoCurrentVersion, InvalidName) as refusal:
            refuse_message(due, refusal, self._unborn(due.to, VersionId("")), self._parts, self.relay)
        except (StoreFailed, StateBackedError) as failure:
            logger.error("a message cannot be delivered yet", error=str(failure))
            self.relay.turned_away(due)
        else:
            self._give(loaded, due)

    async def _recipient(self, due: DueMessage) -> Loaded:
        if due.message.kind != "create":
            return await self.get(due.to)
        found = await self.find(due.to)
        if found is not None:
            return found
        return await self.conceive(due.to, await self._codes.for_creation(due.to, due.message.version))

    def _give(self, loaded: Loaded, due: DueMessage) -> None:
        a = loaded.driver.activation
        if a.status == "paused":
            self.relay.held(due)
        elif not self.is_open or len(a.mailbox) >= MAILBOX_ENVELOPES_MAX // 2:
            self.relay.turned_away(due)
        else:
            loaded.deliver(of_message(due))

    def _departed(self, sender: InstanceKey, owner: InstanceId, count: int) -> None:
        loaded = self._loaded.get(sender)
        if loaded is not None and loaded.driver.activation.instance == owner:
            loaded.driver.signal(phases.Departed(count))

    async def redriven(self, letter: DeadLetter, at: Instant) -> None:
        """A dead letter is alive again in the store. Its sender is told: of one of its own in any case; of
        one to another instance, which it only counts, if it is loaded."""
        if letter.kind in ("timer", "self"):
            loaded = await self.find(letter.sender)
        else:
            self.relay.scan_soon()  # it waits behind what else its pair has
            loaded = self._loaded.get(letter.sender)
        if loaded is not None and loaded.driver.activation.instance == letter.instance:
            loaded.driver.signal(phases.Redriven(_row_of(letter, at)))

    # --- loaded.Surroundings -----------------------------------------------------------------------

    def arm(self, timers: tuple[DueTimer, ...]) -> None:
        self.alarms.arm(timers)

    def post(self, loaded: Loaded, messages: tuple[Message, ...]) -> None:
        self.relay.post(loaded.driver.activation.instance, loaded.key, messages)

    def delivered(self, loaded: Loaded, causes: tuple[Cause, ...]) -> None:
        self.relay.done(causes)
        self._drop_later_if_unborn(loaded)

    def redeliver(self, loaded: Loaded, command: phases.Redeliver) -> None:
        self.relay.redeliver(command.cause, command.attempts, command.at)
        self._drop_later_if_unborn(loaded)

    def _drop_later_if_unborn(self, loaded: Loaded) -> None:
        if loaded.view is None:
            asyncio.get_running_loop().call_soon(self.drop_if_unborn, loaded)

    def rescan(self) -> None:
        self.alarms.scan_soon()
        self.relay.scan_soon()

    def gone(self, loaded: Loaded) -> None:
        if self._loaded.get(loaded.key) is loaded:
            self._drop(loaded)
        self.relay.forget(loaded.key)
        self._parts.fanout.gone(loaded.key)

    # --- after a commit that did not succeed -------------------------------------------------------

    def ended(self, loaded: Loaded, ending: Ending) -> None:
        if self._loaded.get(loaded.key) is not loaded:
            return
        self._drop(loaded)
        self.rescan()
        if ending is Outcome.FENCED:
            self.is_open = False
            self._on_fenced()
        elif isinstance(ending, BaseException):
            is_ours = not isinstance(ending, StoreFailed | asyncio.CancelledError)
            logger.error("an activation ends", error=repr(ending), exc_info=ending if is_ours else None)
        self._start(loaded.key, self._recover(loaded, ending))

    async def _recover(self, loaded: Loaded, ending: Ending) -> Loaded | None:
        begun = [] if ending is Outcome.NAME_TAKEN else taken_up(loaded)
        try:
            record = await self._accounts.settle(loaded, begun)
            if self.is_open:
                return await self._go_on(loaded, record)
        except StoreFailed as failure:
            logger.error("an instance cannot be recovered yet", error=str(failure))
            self._accounts.settle_later(loaded, begun)
        for envelope in list(loaded.outside.values()):
            if envelope not in begun:
                self._accounts.refuse(envelope)
        return None

    async def _go_on(self, loaded: Loaded, record: InstanceRecord | None) -> Loaded | None:
        rest = list(loaded.outside.values())
        if record is None and not any(isinstance(e.payload, Initialize) for e in rest):
            for envelope in rest:
                self._parts.callers.refuse(envelope.id, "not-found", NO_INSTANCE)
            return None
        if record is None:
            fresh = self._conceive(loaded.key, loaded.code, loaded.driver.activation.ts_floor)
        else:
            fresh = await self._activate(record)
        for envelope in rest:
            fresh.deliver(envelope)
        if not rest:
            asyncio.get_running_loop().call_later(SETBACK_MS / 1000, fresh.driver.signal, phases.Tick())
        return fresh


def _row_of(letter: DeadLetter, at: Instant) -> DueTimer | Message:
    """The living row."""
    if letter.kind != "timer":
        return Message(key=letter.key, event=letter.event, kind=letter.kind)
    assert letter.send_id is not None
    timer = Timer(key=letter.key, send_id=letter.send_id, due=letter.due, event=letter.event, to=letter.to)
    return DueTimer(instance=letter.instance, key=letter.sender, timer=timer, fire_at=at, attempts=0)
