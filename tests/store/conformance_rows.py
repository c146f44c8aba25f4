"""The laws of ports.Store, continued: timers and messages, history and lists."""

import asyncio

import msgspec

from statebacked.model.envelopes import Wish
from statebacked.model.ids import (
    EnvelopeId,
    InstanceId,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    Seq,
    VersionId,
)
from statebacked.model.rows import TimerPlace
from statebacked.ports.store import StoreFailed
from tests.store.builders import (
    MACHINE,
    ONE,
    ORG,
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
from tests.store.conformance import CAUSE_GONE, COMMITTED, message_keys, record_of, timer_keys
from tests.store.conftest import Pause


class TimerLaws:
    """Durable delays and messages: set, cancelled, due, rejected, buried."""

    async def test_timers_and_messages_keep_the_order_of_setting(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("9.2"), timer("9.1")), messages=(message("9.4"),)))
        await store.commit(step(ONE, epoch, 1, timers=(timer("10.1", due=1),), messages=(message("10.2"),)))
        await store.commit(step(ONE, epoch, 2, removed=(RowKey("10.1"),), timers=(timer("2.1"),)))
        assert await timer_keys(store) == ["9.2", "9.1", "2.1"]
        assert await message_keys(store) == ["9.4", "10.2"]

    async def test_removed_timers_are_gone_and_unknown_ones_no_matter(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"), timer("1.2"), timer("1.3"))))
        removed = (RowKey("1.1"), RowKey("1.3"), RowKey("7.7"))
        assert await store.commit(step(ONE, epoch, 1, removed=removed)) is COMMITTED
        assert await timer_keys(store) == ["1.2"]

    async def test_a_key_may_be_set_again_where_it_is_removed_or_consumed(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"), timer("1.2"))))
        again = step(
            ONE,
            epoch,
            1,
            removed=(RowKey("1.1"),),
            consumed=(of_timer("1.2"),),
            timers=(timer("1.1", due=6000), timer("1.2", due=7000)),
        )
        assert await store.commit(again) is COMMITTED
        assert [pending.due for pending in (await record_of(store, ONE)).timers] == [6000, 7000]

    async def test_a_taken_key_fails_the_commit_that_sets_it_and_no_other(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),)))
        await store.commit(birth(TWO, epoch))
        before = await record_of(store, ONE)
        bad = step(ONE, epoch, 1, context=b"1", messages=(message("2.1"),), timers=(timer("1.1"),))
        answers = [store.commit(step(TWO, epoch, 1)), store.commit(bad), store.commit(step(TWO, epoch, 2))]
        first, failed, last = await asyncio.gather(*answers, return_exceptions=True)
        assert (first, last) == (COMMITTED, COMMITTED)
        assert isinstance(failed, StoreFailed)
        assert await record_of(store, ONE) == before
        assert await store.commit(step(ONE, epoch, 1)) is COMMITTED

    async def test_due_timers_are_the_earliest_first_and_ties_in_the_order_of_setting(
        self, store: BothPorts
    ) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(TWO, epoch, timers=(timer("1.1", due=30), timer("1.2", due=10))))
        await store.commit(birth(ONE, epoch, timers=(timer("1.1", due=10), timer("1.2", due=20))))
        await store.commit(step(TWO, epoch, 1, timers=(timer("2.1", due=10), timer("2.2", due=31))))
        due = await store.due_timers(Instant(30), 10)
        assert [(one.instance, one.timer.key) for one in due] == [
            (TWO, "1.2"),
            (ONE, "1.1"),
            (TWO, "2.1"),
            (ONE, "1.2"),
            (TWO, "1.1"),
        ]
        assert await store.due_timers(Instant(30), 2) == due[:2]
        assert await store.due_timers(Instant(9), 10) == []
        assert (due[0].key, due[0].timer) == (key_of(TWO), timer("1.2", due=10))
        assert (due[0].fire_at, due[0].attempts) == (10, 0)

    async def test_due_timers_are_read_on_from_a_place_without_those_that_are_not_wanted(
        self, store: BothPorts
    ) -> None:
        epoch = await store.acquire("me")
        other = OrgId("org_2")
        due = {"1.1": 10, "1.2": 10, "1.3": 20}
        for instance, org in ((ONE, ORG), (TWO, ORG), (InstanceId("ins_3"), other)):
            timers = tuple(timer(key, due=at) for key, at in due.items())
            await store.commit(birth(instance, epoch, key=key_of(instance, org), timers=timers))
        every = await store.due_timers(Instant(30), 100)
        assert len(every) == 9
        for n, one in enumerate(every):
            place = TimerPlace(one.fire_at, one.row)
            assert await store.due_timers(Instant(30), 100, after=place) == every[n + 1 :]
            rest = [late for late in every[n + 1 :] if late.instance == TWO]
            assert await store.next_timers(TWO, Instant(30), 100, after=place) == rest
            assert await store.next_timers(TWO, Instant(30), 1, after=place) == rest[:1]
            assert await store.next_timers(TWO, Instant(9), 1, after=place) == []
        assert await store.due_timers(Instant(30), 100, without_orgs=[other], without_instances=[ONE]) == [
            one for one in every if one.instance == TWO
        ]

    async def test_a_rejected_timer_fires_later_with_its_attempts(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1", due=10), timer("1.2", due=50))))
        rejected = rejection(of_timer("1.1"), attempts=3, retry_at=60)
        assert await store.commit(consume(ONE, epoch, 1, rejected=rejected)) is COMMITTED
        due = await store.due_timers(Instant(60), 10)
        assert [(one.timer.key, one.fire_at, one.attempts) for one in due] == [("1.2", 50, 0), ("1.1", 60, 3)]
        assert due[1].timer == timer("1.1", due=10)
        assert [pending.due for pending in (await record_of(store, ONE)).timers] == [10, 50]
        at_once = rejection(of_timer("1.1"), attempts=4, retry_at=0)
        assert await store.commit(consume(ONE, epoch, 1, rejected=at_once)) is COMMITTED
        assert [one.fire_at for one in await store.due_timers(Instant(60), 10)] == [0, 50]

    async def test_a_dead_letter_is_never_due_nor_loaded_nor_consumed(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),), messages=(message("1.2"),)))
        for cause in (of_timer("1.1"), of_message("1.2")):
            assert await store.commit(consume(ONE, epoch, 1, rejected=rejection(cause))) is COMMITTED
        assert await store.due_timers(Instant(99_999), 10) == []
        assert await store.undelivered(10) == []
        record = await record_of(store, ONE)
        assert (record.timers, record.messages) == ((), ())
        for cause in (of_timer("1.1"), of_message("1.2")):
            assert await store.commit(step(ONE, epoch, 1, consumed=(cause,))) is CAUSE_GONE
            rejected = rejection(cause, retry_at=1)
            assert await store.commit(consume(ONE, epoch, 1, rejected=rejected)) is CAUSE_GONE

    async def test_a_letter_that_is_redriven_is_as_new_and_behind_what_waits(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        first = birth(
            ONE, epoch, timers=(timer("1.1"), timer("1.2")), messages=(message("1.3"), message("1.4"))
        )
        await store.commit(first)
        for cause in (of_timer("1.1"), of_message("1.3")):
            await store.commit(consume(ONE, epoch, 1, rejected=rejection(cause)))
        for letter in await store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9):
            assert await store.redrive(ORG, letter.id, Instant(7_000)) == letter
            assert await store.redrive(ORG, letter.id, Instant(7_000)) is None
        await store.commit(step(ONE, epoch, 1, timers=(timer("2.1"),), messages=(message("2.2"),)))
        assert await timer_keys(store) == ["1.2", "1.1", "2.1"]
        assert await message_keys(store) == ["1.4", "1.3", "2.2"]
        (due,) = [due for due in await store.due_timers(Instant(10_000_000), 9) if due.timer.key == "1.1"]
        assert (due.fire_at, due.attempts) == (7_000, 0)

    async def test_rejecting_a_row_that_is_gone_writes_nothing(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, timers=(timer("1.1"),), services=(run("a", 1),)))
        commit = consume(ONE, epoch, 1, of_timer("1.1"), rejected=rejection(of_message("1.1")))
        assert await store.commit(commit) is CAUSE_GONE
        record = await record_of(store, ONE)
        assert (record.services, len(record.timers)) == ((run("a", 1),), 1)

    async def test_undelivered_names_each_holder_of_messages_once_oldest_first(
        self, store: BothPorts
    ) -> None:
        epoch = await store.acquire("me")
        for one in (TWO, ONE, InstanceId("ins_3")):
            await store.commit(birth(one, epoch))
        await store.commit(step(TWO, epoch, 1, messages=(message("2.1"), message("2.2"))))
        await store.commit(step(ONE, epoch, 1, messages=(message("2.1"),)))
        assert await store.undelivered(10) == [key_of(TWO), key_of(ONE)]
        assert await store.undelivered(1) == [key_of(TWO)]
        await store.commit(consume(TWO, epoch, 2, of_message("2.1")))
        assert await store.undelivered(10) == [key_of(TWO), key_of(ONE)]
        await store.commit(consume(TWO, epoch, 2, of_message("2.2")))
        assert await store.undelivered(10) == [key_of(ONE)]

    async def test_rows_of_a_paused_instance_wait(self, store: BothPorts, pause: Pause) -> None:
        epoch = await store.acquire("me")
        for one in (ONE, TWO):
            await store.commit(birth(one, epoch, timers=(timer("1.1"),), messages=(message("1.2"),)))
        pause(ONE)
        assert [one.instance for one in await store.due_timers(Instant(9999), 10)] == [TWO]
        assert await store.next_timers(ONE, Instant(9999), 10, after=TimerPlace(Instant(0), 0)) == []
        assert await store.undelivered(10) == [key_of(TWO)]
        record = await record_of(store, ONE)
        assert (record.status, len(record.timers), len(record.messages)) == ("paused", 1, 1)


class ListLaws:
    """History and lists page through what is there."""

    async def test_an_envelope_is_found_in_the_history_of_its_instance(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        await store.commit(birth(TWO, epoch))
        await store.commit(step(ONE, epoch, 1, count=3))
        assert await store.find_transition(ONE, EnvelopeId("env-ins_1-3")) == 3
        assert await store.find_transition(ONE, EnvelopeId("env-ins_1-9")) is None
        assert await store.find_transition(TWO, EnvelopeId("env-ins_1-3")) is None
        assert await store.find_transition(InstanceId("ins_9"), EnvelopeId("env-ins_1-3")) is None

    async def test_pages_of_transitions_are_the_whole_history(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        await store.commit(step(ONE, epoch, 1, count=6))
        whole = await store.list_transitions(key_of(ONE), after=Seq(0), limit=100)
        assert [one.seq for one in whole] == [1, 2, 3, 4, 5, 6, 7]
        pages = [await store.list_transitions(key_of(ONE), after=Seq(seq), limit=3) for seq in (0, 3, 6, 7)]
        assert pages == [whole[:3], whole[3:6], whole[6:], []]
        assert await store.list_transitions(key_of(TWO), after=Seq(0), limit=3) == []

    async def test_a_transition_tells_who_caused_it(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        commit = step(ONE, epoch, 1)
        caused = transition(ONE, 2, actor=b'{"sub":"ann"}')
        await store.commit(msgspec.structs.replace(commit, transitions=(caused,)))
        assert await store.list_transitions(key_of(ONE), after=Seq(1), limit=1) == [caused]

    async def test_a_wish_and_a_new_version_are_kept_with_the_instance(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        wished = msgspec.structs.replace(consume(ONE, epoch, 1), wish=Wish(VersionId("ver_2")))
        assert await store.commit(wished) is COMMITTED
        record = await record_of(store, ONE)
        assert (record.version, record.desired) == (VERSION, "ver_2")
        upgrade = msgspec.structs.replace(
            step(ONE, epoch, 1, context=b"{}"), wish=Wish(None), version=VersionId("ver_2")
        )
        assert await store.commit(upgrade) is COMMITTED
        record = await record_of(store, ONE)
        assert (record.version, record.desired, record.view.seq) == ("ver_2", None, 2)
        lost = msgspec.structs.replace(step(ONE, epoch, 1), version=VersionId("ver_3"))
        assert await store.commit(lost) is not COMMITTED
        (summary,) = await store.list_instances(ORG, MACHINE, after="", limit=10)
        assert summary.version == "ver_2"

    async def test_pages_of_instances_are_those_of_the_machine_by_name(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        names = ["b", "~z", "A", "a", "é", "10", "9", "a.b"]
        for number, name in enumerate(names):
            key = key_of(ONE)._replace(name=InstanceName(name))
            await store.commit(birth(InstanceId(f"ins_{number}"), epoch, key=key))
        await store.commit(birth(InstanceId("x"), epoch, key=key_of(ONE, machine=MachineName("gate"))))
        await store.commit(birth(InstanceId("y"), epoch, key=key_of(ONE, org=OrgId("org_2"))))
        listed, after = [], ""
        while page := await store.list_instances(ORG, MACHINE, after=after, limit=3):
            assert len(page) <= 3
            listed += [one.name for one in page]
            after = page[-1].name
        assert listed == sorted(names)

    async def test_a_listed_instance_tells_its_status_and_version(
        self, store: BothPorts, pause: Pause
    ) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, version=VersionId("ver_unknown")))
        pause(ONE)
        (summary,) = await store.list_instances(ORG, MACHINE, after="", limit=10)
        assert (summary.name, summary.created_at, summary.status) == (key_of(ONE).name, 777, "paused")
        assert (summary.version, summary.client_info) == ("ver_unknown", None)
