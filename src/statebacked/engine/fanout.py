"""Subscriptions: every subscriber that may read ends at the newest state; in between, newest wins.

One task an instance asks allowRead for the newest seq, once for each distinct authContext, and pushes. A
state that comes while it asks makes it ask once more. Who cannot be judged is told so, or judged again later:
nobody waits for a push that never comes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from statebacked.model.errors import NotFound, RejectedByAuthorizer, StateBackedError, Unavailable
from statebacked.model.ids import InstanceKey, Instant
from statebacked.model.rows import StateView
from statebacked.model.values import Json

logger = structlog.get_logger(__name__)

AGAIN_S = 1.0  # after a push that could not be judged for reasons that pass

Judge = Callable[[InstanceKey, Sequence[Json]], Awaitable[tuple[StateView, Sequence[bool]]]]


class Subscriber(Protocol):
    """Whoever wants to see an instance. Called on the event loop; must not wait."""

    def update(self, view: StateView) -> None: ...

    def refuse(self, error: StateBackedError) -> None:
        """The subscription is over."""


class Subscription:
    """One subscriber of one instance, until closed or refused."""

    def __init__(self, fanout: "Fanout", key: InstanceKey, auth: Json, subscriber: Subscriber) -> None:
        self.auth = auth
        self._fanout = fanout
        self._key = key
        self._subscriber = subscriber
        self._last = Instant(-1)

    def offer(self, view: StateView) -> None:
        """Push, unless the subscriber has that state or a newer one."""
        if view.ts > self._last:
            self._last = view.ts
            self._subscriber.update(view)

    def refuse(self, error: StateBackedError) -> None:
        self.close()
        self._subscriber.refuse(error)

    def close(self) -> None:
        self._fanout.remove(self._key, self)


class Fanout:
    """`judge` answers for the newest durable state, and says which that is. It raises StateBackedError."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._subscriptions: dict[InstanceKey, list[Subscription]] = {}
        self._changed: set[InstanceKey] = set()
        self._tasks: dict[InstanceKey, asyncio.Task[None]] = {}

    def add(self, key: InstanceKey, auth: Json, subscriber: Subscriber) -> Subscription:
        subscription = Subscription(self, key, auth, subscriber)
        self._subscriptions.setdefault(key, []).append(subscription)
        return subscription

    def remove(self, key: InstanceKey, subscription: Subscription) -> None:
        """Also when it is gone already."""
        held = self._subscriptions.get(key, [])
        if subscription in held:
            held.remove(subscription)
        if not held:
            self._subscriptions.pop(key, None)

    def publish(self, key: InstanceKey) -> None:
        """The instance has a new durable state."""
        if key not in self._subscriptions:
            return
        self._changed.add(key)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._push(key))

    def gone(self, key: InstanceKey) -> None:
        """The instance was deleted; a later life of its name is another."""
        self._changed.discard(key)
        for subscription in self._subscriptions.pop(key, []):
            subscription.refuse(NotFound("the instance was deleted"))

    async def aclose(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _push(self, key: InstanceKey) -> None:
        try:
            while key in self._changed:
                self._changed.discard(key)
                await self._push_newest(key)
        finally:
            del self._tasks[key]

    async def _push_newest(self, key: InstanceKey) -> None:
        subscriptions = list(self._subscriptions.get(key, ()))
        auths = list(dict.fromkeys(s.auth for s in subscriptions))
        if not auths:
            return
        try:
            view, allowed = await self._judge(key, auths)
        except Unavailable as error:
            logger.warning("a push cannot be judged yet", reason=error.message)
            await asyncio.sleep(AGAIN_S)
            self._changed.add(key)
            return
        except StateBackedError as error:
            logger.warning("a push cannot be judged", code=error.code)
            for subscription in subscriptions:
                subscription.refuse(error)
            return
        verdicts = dict(zip(auths, allowed, strict=True))
        for subscription in subscriptions:
            self._tell(subscription, view, verdicts[subscription.auth])

    def _tell(self, subscription: Subscription, view: StateView, may_read: bool) -> None:
        if may_read:
            subscription.offer(view)
        else:
            subscription.refuse(RejectedByAuthorizer("allowRead refuses this state"))
