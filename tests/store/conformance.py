"""What every store promises: the laws of ports.Store. test_conformance.py runs them on each adapter."""

import asyncio

import pytest

from statebacked.model.envelopes import Cause
from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    Seq,
)
from statebacked.model.rows import InstanceRecord, Outcome, PendingTimer, StateView
from statebacked.model.values import Json
from tests.store.builders import (
    ONE,
    THREE,
    TWO,
    VERSION,
    BothPorts,
    birth,
    consume,
    key_of,
    message,
    of_message,
    of_timer,
    rejection,
    run,
    step,
    timer,
    transition,
)

COMMITTED, FENCED = Outcome.COMMITTED, Outcome.FENCED
CAUSE_GONE, NAME_TAKEN = Outcome.CAUSE_GONE, Outcome.NAME_TAKEN


async def record_of(store: BothPorts, instance: InstanceId) -> InstanceRecord:
    record = await store.load(key_of(instance))
    assert record is not None
    return record


async def timer_keys(store: BothPorts, instance: InstanceId = ONE) -> list[str]:
    return [pending.key for pending in (await record_of(store, instance)).timers]


async def message_keys(store: BothPorts, instance: InstanceId = ONE) -> list[str]:
    return [one.key for one in (await record_of(store, instance)).messages]


class CommitLaws:
    """What a commit writes, and when it writes nothing."""

    async def test_a_first_commit_creates_the_instance(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        commit = birth(
            ONE,
            epoch,
            context=b'{"public":{"a":[1]},"secret":1}',
            timers=(timer("1.1"),),
            messages=(message("1.2"),),
            services=(run("fetch", 1),),
        )
        assert await store.commit(commit) is COMMITTED
        assert await record_of(store, ONE) == InstanceRecord(
            id=ONE,
            key=key_of(ONE),
            version=VERSION,
            status="running",
            created_at=Instant(777),
            view=StateView(
                seq=Seq(1),
                ts=Instant(1001),
                value=Json(b'"s1"'),
                tags=Json(b'["t1"]'),
                done=False,
                public=Json(b'{"a":[1]}'),
            ),
            snapshot=Json(b'{"snapshot":1}'),
            context=Json(b'{"public":{"a":[1]},"secret":1}'),
            services=(run("fetch", 1),),
            timers=(PendingTimer(timer("1.1").key, timer("1.1").send_id, Instant(5000)),),
            messages=(message("1.2"),),
        )

    async def test_an_instance_that_was_never_created_is_not_found(self, store: BothPorts) -> None:
        assert await store.load(key_of(ONE)) is None

    async def test_a_step_moves_the_head_and_keeps_the_identity(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        before = await record_of(store, ONE)
        assert await store.commit(step(ONE, epoch, 1, context=b'{"public":2}')) is COMMITTED
        after = await record_of(store, ONE)
        assert after.view == StateView(
            seq=Seq(2),
            ts=Instant(1002),
            value=Json(b'"s2"'),
            tags=Json(b'["t2"]'),
            done=True,
            public=Json(b"2"),
        )
        assert (after.snapshot, after.context) == (b'{"snapshot":2}', b'{"public":2}')
        assert (after.id, after.key, after.version, after.created_at) == (
            before.id,
            before.key,
            before.version,
            before.created_at,
        )

    async def test_an_unchanged_context_stays_with_its_public_part(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, context=b'{"public":"p"}'))
        await store.commit(step(ONE, epoch, 1, context=None))
        record = await record_of(store, ONE)
        assert (record.context, record.view.public) == (b'{"public":"p"}', b'"p"')

    @pytest.mark.parametrize(
        ("context", "public"),
        [
            (b"{}", None),
            (b'{"publicity":1}', None),
            (b'{"inner":{"public":1}}', None),
            (b'{"public":null}', b"null"),
            (b'{"a":"}\\"public\\":","public":{"x": [1, 2]} , "z":1}', b'{"x": [1, 2]}'),
            (b'{"\\u0070ublic":"\xc3\xa9"}', b'"\xc3\xa9"'),
            (b"null", None),
            (b'["public"]', None),
            (b'"public"', None),
        ],
    )
    async def test_the_public_part_is_the_member_public_of_the_context(
        self, store: BothPorts, context: bytes, public: bytes | None
    ) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, context=context))
        record = await record_of(store, ONE)
        assert (record.view.public, record.context) == (public, context)

    async def test_json_comes_back_byte_for_byte(self, store: BothPorts) -> None:
        context = b'{ "b" : 1e2 ,"a":"\xf0\x9f\x9a\xaa\\u0000", "a" :' + b"9" * 400_000 + b"}"
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, context=context))
        assert (await record_of(store, ONE)).context == context

    async def test_several_steps_of_one_commit_are_all_in_the_history(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        assert await store.commit(step(ONE, epoch, 1, count=3)) is COMMITTED
        history = await store.list_transitions(key_of(ONE), after=Seq(0), limit=10)
        assert history == [transition(ONE, seq) for seq in (1, 2, 3, 4)]
        assert (await record_of(store, ONE)).view.seq == 4

    async def test_the_order_of_calls_is_the_order_of_commits(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        commits = [birth(ONE, epoch), *(step(ONE, epoch, base) for base in range(1, 40))]
        answers = [store.commit(commit) for commit in commits]
        assert await asyncio.gather(*answers) == [COMMITTED] * 40

    async def test_services_are_replaced_by_those_of_the_commit(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, services=(run("a", 1), run("b", 1))))
        await store.commit(step(ONE, epoch, 1, services=(run("b", 1), run("a", 2))))
        assert (await record_of(store, ONE)).services == (run("b", 1), run("a", 2))
        await store.commit(consume(ONE, epoch, 2))
        assert (await record_of(store, ONE)).services == ()

    async def test_a_commit_without_a_head_leaves_state_and_history(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, messages=(message("1.1"),)))
        before = await record_of(store, ONE)
        assert await store.commit(consume(ONE, epoch, 1, of_message("1.1"))) is COMMITTED
        after = await record_of(store, ONE)
        assert (after.view, after.snapshot, after.context) == (before.view, before.snapshot, before.context)
        assert len(await store.list_transitions(key_of(ONE), after=Seq(0), limit=10)) == 1


class RaceLaws:
    """Who loses a race has written nothing."""

    async def test_every_owner_gets_an_epoch_above_all_before(self, store: BothPorts) -> None:
        epochs = [await store.acquire(owner) for owner in ("a", "b", "a")]
        assert epochs == sorted(set(epochs))
        assert epochs[0] > 0

    @pytest.mark.parametrize("wrong", [-1, 1])
    async def test_only_the_epoch_of_the_lease_may_write(self, store: BothPorts, wrong: int) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),)))
        before = await record_of(store, ONE)
        other = Epoch(epoch + wrong)
        assert await store.commit(step(ONE, other, 1, timers=(timer("2.1"),))) is FENCED
        assert await store.commit(birth(TWO, other)) is FENCED
        assert await store.commit(consume(ONE, other, 1, of_timer("1.1"))) is FENCED
        rejected = rejection(of_timer("1.1"), retry_at=9)
        assert await store.commit(consume(ONE, other, 1, rejected=rejected)) is FENCED
        assert await record_of(store, ONE) == before
        assert await store.load(key_of(TWO)) is None
        assert [due.attempts for due in await store.due_timers(Instant(9999), 10)] == [0]

    async def test_a_take_over_fences_the_owner_before(self, store: BothPorts) -> None:
        old = await store.acquire("old")
        await store.commit(birth(ONE, old))
        new = await store.acquire("new")
        assert await store.commit(step(ONE, old, 1)) is FENCED
        assert await store.commit(step(ONE, new, 1)) is COMMITTED

    @pytest.mark.parametrize("base", [1, 3])
    async def test_a_commit_on_another_seq_is_fenced(self, store: BothPorts, base: int) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        await store.commit(step(ONE, epoch, 1))
        before = await record_of(store, ONE)
        lost = step(ONE, epoch, base, context=b"1", timers=(timer("9.1"),), messages=(message("9.2"),))
        assert await store.commit(lost) is FENCED
        assert await record_of(store, ONE) == before
        assert len(await store.list_transitions(key_of(ONE), after=Seq(0), limit=10)) == 2

    async def test_a_step_of_an_instance_that_does_not_exist_is_fenced(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        assert await store.commit(step(ONE, epoch, 0)) is FENCED
        assert await store.commit(consume(ONE, epoch, 0)) is FENCED
        assert await store.list_transitions(key_of(ONE), after=Seq(0), limit=10) == []

    async def test_of_two_births_of_a_name_exactly_one_is_born(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        first = birth(ONE, epoch, timers=(timer("1.1"),))
        second = birth(TWO, epoch, key=key_of(ONE), timers=(timer("1.1"),), messages=(message("1.2"),))
        born, lost = await asyncio.gather(store.commit(first), store.commit(second))
        assert (born, lost) == (COMMITTED, NAME_TAKEN)
        assert (await record_of(store, ONE)).id == ONE
        assert await store.undelivered(10) == []
        assert await store.find_transition(TWO, EnvelopeId("env-ins_2-1")) is None

    async def test_a_name_is_free_in_another_machine_and_another_org(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        keys = [
            key_of(ONE),
            key_of(ONE, machine=MachineName("gate")),
            key_of(ONE, org=OrgId("org_2")),
        ]
        for number, key in enumerate(keys):
            assert await store.commit(birth(InstanceId(f"ins_{number}"), epoch, key=key)) is COMMITTED
        ids = [record.id for key in keys if (record := await store.load(key)) is not None]
        assert ids == ["ins_0", "ins_1", "ins_2"]

    async def test_an_instance_id_is_born_once(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        assert await store.commit(birth(ONE, epoch, key=key_of(TWO))) is FENCED
        assert await store.load(key_of(TWO)) is None

    async def test_an_epoch_that_ended_is_told_before_a_taken_name(self, store: BothPorts) -> None:
        old = await store.acquire("old")
        await store.commit(birth(ONE, old))
        await store.acquire("new")
        assert await store.commit(birth(TWO, old, key=key_of(ONE))) is FENCED

    async def test_a_loser_does_not_disturb_its_neighbours(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        ids = [InstanceId(f"ins_{number}") for number in range(9)]
        await asyncio.gather(*(store.commit(birth(one, epoch)) for one in ids))
        commits = [step(one, epoch, 1 if number % 3 else 7) for number, one in enumerate(ids)]
        outcomes = await asyncio.gather(*(store.commit(commit) for commit in commits))
        assert outcomes == [FENCED, COMMITTED, COMMITTED] * 3
        assert [(await record_of(store, one)).view.seq for one in ids] == [1, 2, 2] * 3


class CauseLaws:
    """Rows that cause a step are consumed by it, once."""

    async def test_a_consumed_row_is_gone_and_its_neighbours_stay(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        timers, messages = (timer("1.1"), timer("1.2")), (message("1.3"), message("1.4"))
        await store.commit(birth(ONE, epoch, timers=timers, messages=messages))
        await store.commit(birth(TWO, epoch, timers=timers, messages=messages))
        assert await store.commit(step(ONE, epoch, 1, consumed=(of_timer("1.1"),))) is COMMITTED
        assert await store.commit(step(ONE, epoch, 2, consumed=(of_message("1.3"),))) is COMMITTED
        assert (await timer_keys(store), await message_keys(store)) == (["1.2"], ["1.4"])
        assert await timer_keys(store, TWO) == ["1.1", "1.2"]
        assert await message_keys(store, TWO) == ["1.3", "1.4"]

    @pytest.mark.parametrize("cause", [of_timer("1.1"), of_message("1.2")])
    async def test_a_row_is_consumed_once(self, store: BothPorts, cause: object) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),), messages=(message("1.2"),)))
        causes = (of_timer("1.1"),) if cause == of_timer("1.1") else (of_message("1.2"),)
        await store.commit(consume(ONE, epoch, 1, *causes))
        before = await record_of(store, ONE)
        again = step(ONE, epoch, 1, consumed=causes, context=b"1", timers=(timer("2.1"),))
        assert await store.commit(again) is CAUSE_GONE
        assert await record_of(store, ONE) == before
        assert len(await store.list_transitions(key_of(ONE), after=Seq(0), limit=10)) == 1

    async def test_nobody_is_born_of_a_message_that_is_gone(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, messages=(message("1.1"),)))
        cause = Cause("message", RowKey("1.1"), ONE)
        assert await store.commit(birth(TWO, epoch, consumed=(cause,))) is COMMITTED
        assert await store.commit(birth(TWO, epoch, consumed=(cause,))) is NAME_TAKEN
        assert await store.commit(birth(THREE, epoch, consumed=(cause,))) is CAUSE_GONE
        assert await store.load(key_of(THREE)) is None
        assert await store.commit(birth(THREE, epoch)) is COMMITTED

    async def test_one_cause_that_is_gone_keeps_the_others(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),)))
        causes = (of_timer("1.1"), of_message("1.1"))
        assert await store.commit(step(ONE, epoch, 1, consumed=causes)) is CAUSE_GONE
        assert await timer_keys(store) == ["1.1"]

    async def test_a_cause_of_another_instance_is_none(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),)))
        await store.commit(birth(TWO, epoch))
        assert await store.commit(step(TWO, epoch, 1, consumed=(of_timer("1.1"),))) is CAUSE_GONE
        assert await timer_keys(store) == ["1.1"]

    async def test_a_stale_writer_hears_fenced_whatever_it_consumes(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),)))
        assert await store.commit(step(ONE, epoch, 5, consumed=(of_timer("1.1"),))) is FENCED
        assert await store.commit(step(ONE, epoch, 5, consumed=(of_timer("9.9"),))) is FENCED
        assert await store.commit(step(TWO, epoch, 1, consumed=(of_timer("9.9"),))) is FENCED
