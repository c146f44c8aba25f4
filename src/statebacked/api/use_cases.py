"""What the API asks of the engine, as protocols: the engine fits them by shape and knows nothing of HTTP.

All raise the errors of model/errors.py.
"""

from collections.abc import Sequence
from typing import Protocol

from statebacked.model.envelopes import Control, Repeatable
from statebacked.model.errors import StateBackedError
from statebacked.model.ids import InstanceKey, OrgId, VersionId
from statebacked.model.indexes import IndexKey, Order, Range, ReadablePage
from statebacked.model.rows import DeadLetter, InstanceRecord, StateView
from statebacked.model.values import Json


class Subscriber(Protocol):
    """Hears of one instance for one authContext, on the event loop. Neither method waits or raises."""

    def update(self, view: StateView) -> None:
        """The newest state that it may read. Some states may be left out, never the last."""

    def refuse(self, error: StateBackedError) -> None:
        """The subscription is over: it may not read any more, or the instance is gone."""


class Subscription(Protocol):
    """One subscription, for whoever asked for it."""

    def close(self) -> None:
        """Nothing is heard afterwards. Closing twice, or after `refuse`, does nothing."""


class Engine(Protocol):
    """The use cases of instances."""

    async def create_instance(
        self,
        key: InstanceKey,
        context: Json | None,
        version: VersionId | None,
        auth: Json,
        repeatable: Repeatable | None = None,
    ) -> StateView:
        """Settled. `context` is the caller's JSON object; `version` None means the machine's current one."""

    async def send_event(
        self, key: InstanceKey, event: Json, auth: Json, repeatable: Repeatable | None = None
    ) -> StateView:
        """Settled. `event` is a JSON object with a string `type`."""

    async def control(self, key: InstanceKey, payload: Control) -> StateView:
        """Pause, resume or delete, in order with the instance's events."""

    async def redrive(self, org: OrgId, letter: str) -> DeadLetter:
        """Deliver a dead letter again."""

    async def discard(self, org: OrgId, letter: str) -> None:
        """Forget a dead letter."""

    async def read(self, key: InstanceKey, auth: Json) -> StateView:
        """The newest durable state, if allowRead admits the authContext."""

    async def admin_read(self, key: InstanceKey) -> InstanceRecord:
        """The whole instance; no authorizer is asked."""

    def is_throttled(self, key: InstanceKey) -> bool:
        """Whether the instance has long had more to do, unasked, than it may."""

    async def find_readable(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, auth: Json
    ) -> ReadablePage:
        """A page of an index, of the rows that allowRead admits the authContext to."""

    async def wish(self, key: InstanceKey, version: VersionId) -> None:
        """Run that version from the next outside event on; the present one takes a wish back."""

    async def subscribe(self, key: InstanceKey, auth: Json, subscriber: Subscriber) -> Subscription:
        """Pushes the current state first, then each newer one."""

    def usable(self) -> bool:
        """Whether events can be taken now."""
