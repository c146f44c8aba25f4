"""What callers are told when a commit did not succeed. Its outcome may be unknown; the history says what
happened, and nobody is told before it does."""

import asyncio
from collections.abc import Sequence

import structlog

from statebacked.core.phases import Stepping
from statebacked.engine.loaded import Loaded, Parts
from statebacked.model.envelopes import Envelope
from statebacked.model.rows import InstanceRecord
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

RETRY_MS = 250  # pause before a history that could not be read is read again
NOTHING_HAPPENED = "nothing happened; try again"


class Accounts:
    """With the callers of activations that have ended."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._callers = parts.callers
        self._debts: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        debts = list(self._debts)
        for debt in debts:
            debt.cancel()
        await asyncio.gather(*debts, return_exceptions=True)

    async def settle(self, loaded: Loaded, begun: Sequence[Envelope]) -> InstanceRecord | None:
        """Answer those of `begun`, whose event was under way, by the history; the record as it is now. Raises
        StoreFailed."""
        record = await self._store.load(loaded.key)
        for envelope in begun:
            if envelope.id in loaded.outside:
                is_durable = await self._is_durable(loaded, envelope)
                del loaded.outside[envelope.id]
                if is_durable and record is not None:
                    self._callers.answer(envelope.id, record.view)
                else:
                    self.refuse(envelope)
        return record

    def settle_later(self, loaded: Loaded, begun: Sequence[Envelope]) -> None:
        """As soon as the history can be read."""
        debt = asyncio.get_running_loop().create_task(self._settle_when_readable(loaded, begun))
        self._debts.add(debt)
        debt.add_done_callback(self._debts.discard)

    def refuse(self, envelope: Envelope) -> None:
        self._callers.refuse(envelope.id, "unavailable", NOTHING_HAPPENED)

    async def _settle_when_readable(self, loaded: Loaded, begun: Sequence[Envelope]) -> None:
        while True:
            await asyncio.sleep(RETRY_MS / 1000)
            try:
                await self.settle(loaded, begun)
                return
            except StoreFailed as failure:
                logger.debug("a history cannot be read yet", error=str(failure))  # told when it began

    async def _is_durable(self, loaded: Loaded, envelope: Envelope) -> bool:
        a = loaded.driver.activation
        if any(w.to == envelope.id for w in a.waiting):
            return True
        return await self._store.find_transition(a.instance, envelope.id) is not None


def taken_up(loaded: Loaded) -> list[Envelope]:
    """Client envelopes that the activation had taken up."""
    a = loaded.driver.activation
    stepping = [e.id for e in a.phase.envelopes] if isinstance(a.phase, Stepping) else []
    ids = {*stepping, *(w.to for w in a.waiting)}
    return [e for e in loaded.outside.values() if e.id in ids]
