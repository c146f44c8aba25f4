"""Requests with an idempotency key: however often one comes, its event happens once.

Theory of operation. The key is written by the commit of the event itself, so it stands exactly when the event
does. What is answered is kept beside it a moment later; a repeat that finds no answer (a crash came between,
or it was too large) gets the present state. A repeat that comes while the first is under way waits for it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import structlog

from statebacked.api.replies import Reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import state_body
from statebacked.auth.principal import Principal
from statebacked.model.envelopes import Repeatable
from statebacked.model.errors import IdempotencyKeyReused, InvalidParameter, NotFound
from statebacked.model.ids import InstanceKey
from statebacked.model.limits import IDEMPOTENCY_ANSWER_BYTES_MAX, IDEMPOTENCY_KEY_CHARACTERS_MAX
from statebacked.model.rows import KeptAnswer
from statebacked.ports.clock import Clock
from statebacked.ports.store import Answers, StoreFailed

logger = structlog.get_logger(__name__)

HEADER = b"idempotency-key"

Place = tuple[str, bytes, str]


class Repeats:
    """Asks for each event once, and answers its repeats."""

    def __init__(self, answers: Answers, engine: Engine, clock: Clock) -> None:
        self._answers = answers
        self._engine = engine
        self._clock = clock
        self._under_way: dict[Place, tuple[bytes, asyncio.Future[Reply]]] = {}

    async def once(
        self,
        header: bytes,
        principal: Principal,
        target: tuple[str, InstanceKey],
        body: bytes,
        ask: Callable[[Repeatable], Awaitable[Reply]],
    ) -> Reply:
        """The reply of `ask`, or of the request that came first with the key. `target` is the method with the
        route, and the instance. Raises InvalidParameter, IdempotencyKeyReused, and what `ask` raises."""
        what, key = target
        repeatable = Repeatable(
            scope=_scope(what, key, principal),
            key=_key(header),
            body_sha256=hashlib.sha256(body).digest(),
            at=self._clock.now().wall,
        )
        place = (principal.org, repeatable.scope, repeatable.key)
        under_way = self._under_way.get(place)
        if under_way is not None:
            _check_body(under_way[0], repeatable)
            return await asyncio.shield(under_way[1])
        first = asyncio.ensure_future(self._ask_once(place, repeatable, key, ask))
        self._under_way[place] = (repeatable.body_sha256, first)
        first.add_done_callback(lambda done: self._is_over(place, done))
        return await asyncio.shield(first)

    def _is_over(self, place: Place, done: "asyncio.Future[Reply]") -> None:
        del self._under_way[place]
        if not done.cancelled():
            done.exception()  # whoever still waits has it; nobody has to

    async def _ask_once(
        self,
        place: Place,
        repeatable: Repeatable,
        key: InstanceKey,
        ask: Callable[[Repeatable], Awaitable[Reply]],
    ) -> Reply:
        kept = await self._answers.find_answer(key.org, repeatable.scope, repeatable.key)
        if kept is not None:
            _check_body(kept.body_sha256, repeatable)
            return await self._answer_again(key, kept)
        reply = await ask(repeatable)
        if len(reply.body) <= IDEMPOTENCY_ANSWER_BYTES_MAX:
            try:
                await self._answers.keep_answer(
                    key.org, repeatable.scope, repeatable.key, reply.status, reply.body
                )
            except StoreFailed as failure:
                logger.error("an answer cannot be kept", error=str(failure))
        return reply

    async def _answer_again(self, key: InstanceKey, kept: KeptAnswer) -> Reply:
        if kept.status is not None and kept.answer is not None:
            return Reply(kept.status, kept.answer)
        record = await self._engine.admin_read(key)
        if record.id != kept.instance:
            raise NotFound("the instance of the first request was deleted")
        return Reply(200, state_body(record.view))


def _scope(what: str, key: InstanceKey, principal: Principal) -> bytes:
    """Bound to the request's target and to who asks: the same key of others is another."""
    who = principal.key or principal.user or principal.kind
    parts = (what, key.machine, key.name, who, hashlib.sha256(principal.auth).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _key(header: bytes) -> str:
    is_visible = all(0x21 <= byte <= 0x7E for byte in header)
    if not 1 <= len(header) <= IDEMPOTENCY_KEY_CHARACTERS_MAX or not is_visible:
        message = f"Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_CHARACTERS_MAX} visible ASCII characters"
        raise InvalidParameter(message, "Idempotency-Key")
    return header.decode("ascii")


def _check_body(body_sha256: bytes, repeatable: Repeatable) -> None:
    if body_sha256 != repeatable.body_sha256:
        raise IdempotencyKeyReused("this Idempotency-Key came before, with another body: use a new one")
