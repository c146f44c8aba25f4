"""Whose message is delivered next: orgs take turns, and nobody has more under way than its share.

Theory of operation. A message is under way until its recipient has consumed or refused it, which may take as
long as that wants. So the number under way is bounded by recipient, or one that hangs would keep its org from
sending, and by org, or an org whose recipients hang would keep all others from it.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from statebacked.engine.buckets import Bucket
from statebacked.model.ids import InstanceId, InstanceKey, Monotonic, OrgId
from statebacked.model.limits import ORG_MESSAGES_UNDER_WAY_MAX, RECIPIENT_MESSAGES_UNDER_WAY_MAX

T = TypeVar("T")


class Turns(Generic[T]):
    """Items that want to be delivered. An item is in here once, from `add` until `take` gives it."""

    def __init__(self) -> None:
        self._ready: OrderedDict[OrgId, deque[tuple[InstanceKey, T]]] = OrderedDict()
        self._full: dict[OrgId, deque[tuple[InstanceKey, T]]] = {}
        self._behind: dict[InstanceKey, deque[T]] = {}  # recipients that have their share under way
        self._by_org: dict[OrgId, int] = {}
        self._by_recipient: dict[InstanceKey, int] = {}

    def add(self, to: InstanceKey, item: T) -> None:
        if self._has_its_share(to):
            self._behind.setdefault(to, deque()).append(item)
            return
        queues = self._full if self._by_org.get(to.org, 0) >= ORG_MESSAGES_UNDER_WAY_MAX else self._ready
        queues.setdefault(to.org, deque()).append((to, item))

    def take(self) -> T | None:
        """Whose turn it is; None when nobody has room for more, or nothing waits."""
        while self._ready:
            org, queue = self._ready.popitem(last=False)
            to, item = queue.popleft()
            if queue:
                self._ready[org] = queue
            if not self._has_its_share(to):
                return item
            self._behind.setdefault(to, deque()).append(item)
        return None

    def began(self, to: InstanceKey) -> None:
        """A message to that recipient is under way."""
        self._by_recipient[to] = self._by_recipient.get(to, 0) + 1
        count = self._by_org[to.org] = self._by_org.get(to.org, 0) + 1
        if count >= ORG_MESSAGES_UNDER_WAY_MAX and to.org in self._ready:
            self._full[to.org] = self._ready.pop(to.org)

    def ended(self, to: InstanceKey) -> None:
        """It no longer is."""
        _lower(self._by_recipient, to)
        _lower(self._by_org, to.org)
        if to.org in self._full:
            self._ready[to.org] = self._full.pop(to.org)
        behind = self._behind.get(to)
        if behind:
            item = behind.popleft()
            if not behind:
                del self._behind[to]
            self.add(to, item)

    def _has_its_share(self, to: InstanceKey) -> bool:
        return self._by_recipient.get(to, 0) >= RECIPIENT_MESSAGES_UNDER_WAY_MAX


K = TypeVar("K", InstanceKey, OrgId)


def _lower(counts: dict[K, int], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class Nursery(Generic[T]):
    """Children of one org that are to be made: as fast as its bucket allows, in turns by their parents."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._waiting: OrderedDict[InstanceId, deque[T]] = OrderedDict()

    def admit(self, parent: InstanceId, item: T, now: Monotonic) -> bool:
        """Whether the child may be made now; else `release` gives it when it may."""
        if not self._waiting and self._bucket.take(now):
            return True
        self._waiting.setdefault(parent, deque()).append(item)
        return False

    def release(self, now: Monotonic) -> list[T]:
        """Whose turn has come."""
        released: list[T] = []
        while self._waiting and self._bucket.take(now):
            parent, queue = self._waiting.popitem(last=False)
            released.append(queue.popleft())
            if queue:
                self._waiting[parent] = queue
        return released

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._waiting)
