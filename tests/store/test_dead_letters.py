"""Dead letters are bounded by org: kept whole, then as heads, then not at all. The same for every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from statebacked.model.envelopes import Cause
from statebacked.model.ids import Epoch, InstanceId, Instant, MachineName, OrgId
from statebacked.model.limits import (
    DEAD_LETTER_BYTES_PER_ORG_MAX,
    DEAD_LETTER_HEADS_PER_ORG_MAX,
    DEAD_LETTER_TYPE_CHARACTERS_MAX,
    DEAD_LETTERS_PER_ORG_MAX,
)
from statebacked.model.rows import DeadLetter, Message, Outcome, Timer
from statebacked.model.values import Address, Json
from statebacked.ports.store import DeadLetters
from statebacked.store.letters import LETTER_LIMITS, LetterLimits, head_of
from statebacked.store.memory import MemoryStore
from statebacked.store.sqlite.store import SqliteStore
from tests.store.builders import ONE, ORG, TWO, BothPorts, birth, consume, key_of, message, rejection, timer

pytestmark = pytest.mark.anyio


class Both(BothPorts, DeadLetters): ...


LIMITS = LetterLimits(letters=3, bytes=1_000, heads=2)
OTHER = OrgId("org_2")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, file: Path) -> AsyncIterator[MemoryStore | SqliteStore]:
    if request.param == "memory":
        yield MemoryStore(LIMITS)
        return
    sqlite = await SqliteStore.open(file, letter_limits=LIMITS)
    yield sqlite
    await sqlite.aclose()


async def bear(
    store: MemoryStore | SqliteStore,
    *timers: Timer,
    messages: tuple[Message, ...] = (),
    instance: InstanceId = ONE,
    org: OrgId = ORG,
) -> Epoch:
    epoch = await store.acquire("me")
    key = key_of(instance, org)
    await store.commit(birth(instance, epoch, key=key, timers=timers, messages=messages))
    return epoch


async def bury(
    store: MemoryStore | SqliteStore,
    epoch: Epoch,
    *keys: str,
    table: str = "timer",
    instance: InstanceId = ONE,
) -> None:
    for key in keys:
        cause = Cause("timer" if table == "timer" else "message", timer(key).key)
        outcome = await store.commit(consume(instance, epoch, 1, rejected=rejection(cause)))
        assert outcome is Outcome.COMMITTED


async def letters(store: MemoryStore | SqliteStore, org: OrgId = ORG) -> list[DeadLetter]:
    return await store.list_dead_letters(org, machine=None, instance=None, after="", limit=100)


async def kept(store: MemoryStore | SqliteStore, org: OrgId = ORG) -> dict[str, bool]:
    """The keys of its dead letters, and whether each is whole."""
    return {letter.key: not letter.is_truncated for letter in await letters(store, org)}


def test_the_limits_are_those_of_the_design() -> None:
    assert LETTER_LIMITS == (
        DEAD_LETTERS_PER_ORG_MAX,
        DEAD_LETTER_BYTES_PER_ORG_MAX,
        DEAD_LETTER_HEADS_PER_ORG_MAX,
    )
    assert LETTER_LIMITS[:2] == (10_000, 100_000_000)


async def test_over_the_count_of_an_org_heads_are_kept_and_at_last_nothing(
    store: MemoryStore | SqliteStore,
) -> None:
    epoch = await bear(store, *(timer(f"1.{n}") for n in range(7)))
    await bury(store, epoch, *(f"1.{n}" for n in range(7)))
    assert await kept(store) == {"1.0": True, "1.1": True, "1.2": True, "1.3": False, "1.4": False}
    whole, head = (await letters(store))[2:4]
    assert (head.event, head.reason, head.attempts, head.dead_at) == (
        b'{"type":"1.3"}',
        whole.reason,
        whole.attempts,
        whole.dead_at,
    )
    record = await store.load(key_of(ONE))
    assert record is not None
    assert record.timers == ()


async def test_over_the_bytes_of_an_org_a_head_is_kept_and_a_short_one_still_whole(
    store: MemoryStore | SqliteStore,
) -> None:
    long = Json(b'{"type":"long","text":"%s"}' % (b"x" * 600))
    events = [Message(key=timer(f"1.{n}").key, event=long) for n in range(2)]
    epoch = await bear(store, messages=(*events, message("1.2")))
    await bury(store, epoch, "1.0", "1.1", "1.2", table="message")
    assert await kept(store) == {"1.0": True, "1.1": False, "1.2": True}
    assert (await letters(store))[1].event == b'{"type":"long"}'


async def test_another_org_has_room_of_its_own(store: MemoryStore | SqliteStore) -> None:
    epoch = await bear(store, *(timer(f"1.{n}") for n in range(4)))
    epoch = await bear(store, timer("1.9"), instance=TWO, org=OTHER)
    await bury(store, epoch, *(f"1.{n}" for n in range(4)))
    await bury(store, epoch, "1.9", instance=TWO)
    assert await kept(store, OTHER) == {"1.9": True}


async def test_a_head_is_never_redriven_and_can_be_discarded(store: MemoryStore | SqliteStore) -> None:
    epoch = await bear(store, *(timer(f"1.{n}") for n in range(4)))
    await bury(store, epoch, *(f"1.{n}" for n in range(4)))
    head = (await letters(store))[3]
    assert await store.redrive(ORG, head.id, Instant(9)) == head
    assert (await letters(store))[3] == head
    assert await store.due_timers(Instant(9_999), 10) == []
    assert await store.discard(ORG, head.id)
    assert len(await letters(store)) == 3


@pytest.mark.parametrize("how", ["redrive", "discard", "sweep", "delete"])
async def test_what_goes_makes_room(how: str, store: MemoryStore | SqliteStore) -> None:
    epoch = await bear(store, *(timer(f"1.{n}") for n in range(3)))
    epoch = await bear(store, timer("1.5"), timer("1.6"), instance=TWO)
    await bury(store, epoch, *(f"1.{n}" for n in range(3)))
    await bury(store, epoch, "1.5", instance=TWO)
    assert not (await kept(store))["1.5"]
    first = (await letters(store))[0]
    if how == "redrive":
        assert await store.redrive(ORG, first.id, Instant(9)) is not None
    elif how == "discard":
        assert await store.discard(ORG, first.id)
    elif how == "sweep":
        await store.sweep_dead_letters(Instant(first.dead_at + 1))
    else:
        gone = consume(ONE, epoch, 1)
        await store.commit(type(gone)(instance=ONE, epoch=epoch, base=gone.base, deleted_at=Instant(1)))
    await bury(store, epoch, "1.6", instance=TWO)
    assert (await kept(store))["1.6"]


async def test_messages_to_others_count_for_the_org_of_their_sender(store: MemoryStore | SqliteStore) -> None:
    to = Address(MachineName("m"), key_of(TWO).name)
    posts = tuple(
        Message(key=timer(f"1.{n}").key, kind="event", to=to, event=Json(b'{"type":"hello","n":1}'))
        for n in range(4)
    )
    epoch = await bear(store, messages=posts)
    for n in range(4):
        cause = Cause("message", timer(f"1.{n}").key, ONE)
        rejected = consume(TWO, epoch, 0, rejected=rejection(cause))
        assert await store.commit(rejected) is Outcome.COMMITTED
    assert await kept(store) == {"1.0": True, "1.1": True, "1.2": True, "1.3": False}
    assert (await letters(store))[3].to == to


def test_a_head_has_the_type_of_its_event_cut_to_its_limit_and_nothing_else() -> None:
    assert head_of("event", Json(b'{"a":1,"type":"x","b":"secret"}')) == b'{"type":"x"}'
    long = Json(b'{"type":"%s"}' % (b"y" * 10_000))
    assert head_of("timer", long) == b'{"type":"%s"}' % (b"y" * DEAD_LETTER_TYPE_CHARACTERS_MAX)
    assert head_of("create", Json(b'{"type":"a context"}')) == b"null"
    assert head_of("done", Json(b"1")) == b"null"
