"""Who gets which worker, and what an activation hears. With fake workers."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from statebacked.model.errors import InvalidMachine, Unavailable
from statebacked.model.ids import InstanceName, OrgId, Seq, ServiceId, ServiceRun
from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost
from statebacked.model.values import Json
from statebacked.ports.machines import Saved, Validated, WorkerGone
from statebacked.ports.store import StoreFailed
from tests.event_loop import run
from tests.runtime.rig import FAKE, QUICK, FakeSandbox, envelope, rig
from tests.runtime.test_protocol import event

AUTHS = [Json(b'{"ok":true}'), Json(b'{"ok":false}')]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedSandbox(FakeSandbox):
    """Whose workers start once that file is there."""

    switch: Path

    def command(self, major: int) -> list[str]:
        if self.switch.exists():
            return FAKE.command(major)
        return [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]


# --- computing


def is_unavailable(signal: object) -> bool:
    return isinstance(signal, Refused) and signal.code == "unavailable"


@run
async def test_a_new_instance_is_computed_without_a_state() -> None:
    async with rig() as r:
        lodger = r.lodger()
        context = await lodger.step("init")
        assert (context["n"], context["base"], lodger.loads) == (1, False, 0)


@run
async def test_a_state_is_sent_only_to_a_worker_that_lacks_it() -> None:
    async with rig() as r:
        first = r.lodger()
        assert not (await first.step("init"))["base"]
        assert not (await first.step("add"))["base"]
        again = r.lodger()  # the same instance, loaded anew
        again.saved = first.saved
        assert (await again.step("add"))["base"]
        assert not (await again.step("add"))["base"]
        assert again.loads == 1


@run
async def test_a_worker_that_says_it_lacks_a_state_gets_it() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("forget")
        assert (await lodger.hear(Refused)).code == "machine-error"
        context = await lodger.step("add")
        assert (context["base"], context["n"], lodger.loads) == (True, 2, 1)


@run
async def test_a_refusal_keeps_the_state_in_the_worker() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("refuse")
        assert await lodger.heard() == Refused(2, "machine-error", "it threw")
        assert not (await lodger.step("add"))["base"]


@run
async def test_an_event_is_judged_by_its_auth() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.attached.compute(7, lodger.seq, [event('{"type":"add"}', auth='{"ok":false}')], lodger.load)
        refused = await lodger.hear(Refused)
        assert (refused.number, refused.code) == (7, "rejected-by-machine-authorizer")


@run
async def test_several_events_are_computed_until_one_has_effects() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("add", "same", "effects", "add")
        stepped = await lodger.hear(Stepped)
        assert [step.changed for step in stepped.steps] == [True, False, True]
        lodger.commit(stepped)
        lodger.attached.perform(lodger.seq)
        assert (await lodger.hear(Performed)).seq == 3
        assert not (await lodger.step("add"))["base"]


@run
async def test_a_suspected_event_is_computed_without_the_next() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.attached.compute(2, lodger.seq, [envelope("add", losses=1), envelope("add")], lodger.load)
        assert len((await lodger.hear(Stepped)).steps) == 1


@run
async def test_an_uncommitted_step_is_dropped_by_the_next_compute_on_its_base() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("add")
        await lodger.hear(Stepped)  # never committed
        assert not (await lodger.step("add"))["base"]
        assert lodger.seq == 2


@run
async def test_the_answer_to_a_closed_compute_is_not_heard() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("add")
        lodger.attached.close()
        await r.logged(f"closed {lodger.number}")
        context = await lodger.step("add")
        assert (context["base"], lodger.n) == (True, 3)


@run
async def test_closing_before_the_worker_is_there_forgets_the_compute() -> None:
    async with rig() as r:
        lodger, other = r.lodger(), r.lodger("other")
        lodger.compute("init")
        lodger.attached.close()
        await other.step("init")
        assert lodger.signals.empty()
        assert (await lodger.step("init"))["n"] == 1


@run
async def test_a_state_that_cannot_be_loaded_loses_the_compute() -> None:
    async with rig() as r:
        lodger = r.lodger()
        lodger.saved = Saved(Seq(3), Json(b"{}"), Json(b"{}"))

        async def fail() -> Saved:
            raise StoreFailed

        lodger.compute("add", load=fail)
        assert is_unavailable(await lodger.heard())
        assert (await lodger.step("add"))["base"]


@run
async def test_another_state_than_the_one_asked_for_is_not_computed_on() -> None:
    async with rig() as r:
        lodger = r.lodger()
        lodger.saved = Saved(Seq(3), Json(b"{}"), Json(b"{}"))

        async def newer() -> Saved:
            return Saved(Seq(4), Json(b"{}"), Json(b"{}"))

        lodger.compute("add", load=newer)
        assert is_unavailable(await lodger.heard())


@run
async def test_more_computes_than_a_worker_takes_at_once_wait_their_turn() -> None:
    policy = replace(QUICK, in_flight_max=2)
    async with rig(policy=policy) as r:
        lodgers = [r.lodger(f"i{number}") for number in range(20)]
        for lodger in lodgers:
            lodger.compute("init")
        pids = {lodger.commit(await lodger.hear(Stepped))["pid"] for lodger in lodgers}
        assert len(pids) == 1


@run
async def test_a_compute_that_is_never_answered_leaves_room_when_it_is_closed() -> None:
    policy = replace(QUICK, in_flight_max=1)
    async with rig(policy=policy) as r:
        lodger, other = r.lodger(), r.lodger("other")
        await lodger.step("init")
        lodger.compute("mute")
        other.compute("init")
        lodger.attached.close()
        await other.hear(Stepped)


# --- performing and services


@run
async def test_performing_answers_with_what_was_sent() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        await lodger.step("effects")
        lodger.attached.perform(lodger.seq)
        performed = await lodger.hear(Performed)
        assert performed.seq == 2
        assert [sent.internal.event for sent in performed.sent] == [b'{"type":"own"}']


@run
async def test_a_running_service_is_heard_until_it_ends() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        await lodger.step("start")
        lodger.attached.perform(lodger.seq)
        await lodger.hear(Performed)
        service = ServiceRun(ServiceId("svc"), lodger.seq)
        lodger.compute("tick")
        chattered = await lodger.hear(Chattered)
        assert (chattered.sent.service, chattered.sent.ends_service) == (service, False)
        lodger.commit(await lodger.hear(Stepped))
        lodger.compute("end")
        assert (await lodger.hear(Chattered)).sent.ends_service
        lodger.commit(await lodger.hear(Stepped))
        lodger.compute("tick")  # it is over: the worker lies
        lodger.commit(await lodger.hear(Stepped))


@run
async def test_a_stopped_service_is_not_heard() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        await lodger.step("start")
        lodger.attached.perform(lodger.seq)
        await lodger.hear(Performed)
        lodger.attached.stop([ServiceRun(ServiceId("svc"), lodger.seq)])
        lodger.compute("tick")
        await lodger.hear(Stepped)


@run
async def test_a_service_that_a_step_stops_is_not_heard_after_it() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        for type in ("start", "stop"):
            await lodger.step(type)
            lodger.attached.perform(lodger.seq)
            await lodger.hear(Performed)
        lodger.compute("tick")
        await lodger.hear(Stepped)


@run
async def test_services_whose_state_the_worker_forgot_are_lost() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        await lodger.step("start")
        lodger.attached.perform(lodger.seq)
        await lodger.hear(Performed)
        lodger.compute("forget")
        await lodger.hear(Refused)
        lodger.compute("add")
        assert await lodger.heard() == WorkerLost()
        assert (await lodger.step("add"))["base"]


# --- reading


@run
async def test_an_activated_instance_is_read_at_the_seq_that_its_worker_holds() -> None:
    async with rig() as r:
        lodger = r.lodger()
        assert await lodger.attached.may_read(Seq(1), AUTHS) is None
        await lodger.step("init")
        assert await lodger.attached.may_read(Seq(1), AUTHS) == [True, False]
        await lodger.step("add")
        assert await lodger.attached.may_read(Seq(9), AUTHS) is None
        assert await lodger.attached.may_read(Seq(2), AUTHS) == [True, False]
        assert await lodger.attached.may_read(Seq(1), AUTHS) is None


@run
async def test_a_state_that_the_worker_forgot_cannot_be_read_there() -> None:
    async with rig() as r:
        lodger = r.lodger()
        await lodger.step("init")
        lodger.compute("forget")
        await lodger.hear(Refused)
        assert await lodger.attached.may_read(Seq(1), AUTHS) is None


@run
async def test_an_instance_that_is_not_activated_is_read_from_its_saved_state() -> None:
    async with rig() as r:
        lodger = r.lodger()
        saved = Saved(Seq(7), Json(b"{}"), Json(b"{}"))
        assert await r.pool.may_read(lodger.code, lodger.key, saved, AUTHS) == [True, False]


@run
async def test_many_saved_states_are_read_for_one_caller_in_one_frame() -> None:
    async with rig() as r:
        lodger = r.lodger()
        contexts = [b'{"ok":true}', b"{}", b'{"ok":true}']
        states = [
            (InstanceName(f"i{n}"), Saved(Seq(7), Json(b"{}"), Json(context)))
            for n, context in enumerate(contexts)
        ]
        assert await r.pool.may_read_each(lodger.code, states, AUTHS[0]) == [True, False, True]
        with pytest.raises(WorkerGone):
            await r.pool.may_read_each(lodger.code, states, Json(b'{"do":"die"}'))


@run
async def test_a_read_of_code_that_does_not_load_says_why() -> None:
    async with rig({"v1": b'{"load":"unloadable","message":"no machine"}'}) as r:
        lodger = r.lodger()
        with pytest.raises(WorkerGone, match="no machine"):
            await r.pool.may_read(lodger.code, lodger.key, Saved(Seq(1), Json(b"{}"), Json(b"{}")), AUTHS)


# --- which worker


@run
async def test_instances_of_a_version_share_a_worker() -> None:
    async with rig() as r:
        contexts = [await r.lodger(name).step("init") for name in ("a", "b", "c")]
        assert len({context["pid"] for context in contexts}) == 1
        assert r.pool.counters().processes == 1


@run
async def test_versions_and_orgs_never_share_a_worker() -> None:
    async with rig() as r:
        lodgers = [r.lodger(), r.lodger(version="v2"), r.lodger(org=OrgId("org_2"))]
        pids = {(await lodger.step("init"))["pid"] for lodger in lodgers}
        assert len(pids) == 3


@run
async def test_a_version_runs_under_the_major_that_is_stored_with_it() -> None:
    async with rig({"v1": b'{"load":"missing","has":4}'}) as r:
        for xstate, is_right in {"4.38.3": True, "inlined-4": True, "5.33.3": False}.items():
            lodger = r.lodger(xstate=xstate)
            lodger.compute("init")
            assert isinstance(await lodger.heard(), Stepped if is_right else Refused)


@run
async def test_a_spare_worker_takes_the_first_event_and_is_replaced() -> None:
    policy = replace(QUICK, prewarmed=1, prewarmed_majors=(5,), restock_ms=1)
    async with rig(policy=policy) as r:
        r.pool.prewarm()
        await r.restocked()
        spares = r.pool.pids()
        context = await r.lodger().step("init")
        assert [context["pid"]] == spares
        await r.restocked()
        assert r.pool.counters().processes == 2


def test_a_pool_whose_workers_do_not_start_says_so_until_one_does(tmp_path: Path) -> None:
    policy = replace(QUICK, prewarmed=1, prewarmed_majors=(5,))
    sandbox = SwitchedSandbox(deno=FAKE.deno, dist=FAKE.dist, switch=tmp_path / "works")

    @run
    async def test() -> None:
        async with rig(policy=policy, sandbox=sandbox) as r:
            assert await r.pool.find_start_failure() is None
            with capture_logs() as logs, pytest.raises(Unavailable):
                await r.pool.validate(b"{}", "5")
            assert "exited with code 3" in str(await r.pool.find_start_failure())
            levels = {line["log_level"] for line in logs if line["event"] == "a worker does not start"}
            assert levels == {"error"}
            sandbox.switch.touch()
            await r.pool.validate(b"{}", "5")
            assert await r.pool.find_start_failure() is None

    test()


@run
async def test_a_spare_worker_that_died_is_not_used() -> None:
    policy = replace(QUICK, prewarmed=1, prewarmed_majors=(5,))
    async with rig(policy=policy) as r:
        r.pool.prewarm()
        await r.restocked()
        [spare] = r.workers()
        os.kill(r.pool.pids()[0], signal.SIGKILL)
        await spare.gone
        assert (await r.lodger().step("init"))["n"] == 1


@run
async def test_an_idle_worker_is_evicted_and_its_instances_go_on_elsewhere() -> None:
    async with rig(policy=replace(QUICK, idle_ms=1)) as r:
        lodger = r.lodger()
        before = await lodger.step("init")
        [worker] = r.workers()
        await worker.gone
        assert lodger.signals.empty()
        after = await lodger.step("add")
        assert after["base"]
        assert after["pid"] != before["pid"]


@run
async def test_a_worker_with_a_running_service_is_not_evicted() -> None:
    async with rig(policy=replace(QUICK, idle_ms=1)) as r:
        lodger, other = r.lodger(), r.lodger(version="v2")
        await lodger.step("init")
        await lodger.step("start")
        lodger.attached.perform(lodger.seq)
        await lodger.take(await lodger.hear(Performed))
        [worker] = r.workers()
        await other.step("init")
        [idle] = set(r.workers()) - {worker}
        await idle.gone
        lodger.compute("end")
        said = await lodger.hear(Chattered)
        lodger.commit(await lodger.hear(Stepped))
        assert not (await lodger.take(said))["base"]
        await worker.gone
        assert lodger.signals.empty()


@run
async def test_the_least_recently_used_idle_worker_makes_room() -> None:
    policy = replace(QUICK, memory_mb_max=100)  # two workers
    async with rig({"v1": b"{}", "v2": b"{}", "v3": b"{}"}, policy=policy) as r:
        oldest, newer, newest = (r.lodger(version=version) for version in ("v1", "v2", "v3"))
        pids = [(await lodger.step("init"))["pid"] for lodger in (oldest, newer, newest)]
        assert set(r.pool.pids()) == set(pids[1:])
        assert oldest.signals.empty()


@run
async def test_without_room_an_event_is_refused_as_unavailable() -> None:
    policy = replace(QUICK, memory_mb_max=50, room_wait_ms=150)
    async with rig(policy=policy) as r:
        busy, other = r.lodger(), r.lodger(version="v2")
        await busy.step("init")
        busy.compute("mute")
        other.compute("init")
        assert (await other.hear(Refused)).code == "unavailable"
        busy.attached.close()
        await other.step("init")


# --- loading


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (b'{"load":"unloadable","message":"no machine"}', "no machine"),
        (b'{"load":"die"}', "exited with code 9"),
        (b'{"load":"out of memory"}', "ran out of memory"),
        (b'{"load":"hang"}', "did not"),
        (b'{"load":"never"}', "did not finish loading"),
    ],
)
def test_what_waits_for_code_that_does_not_load_is_refused(bundle: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        async with rig({"v1": bundle}) as r:
            lodgers = [r.lodger("a"), r.lodger("b")]
            for lodger in lodgers:
                lodger.compute("init")
            for lodger in lodgers:
                refused = await lodger.hear(Refused)
                assert refused.code == "invalid-machine"
                assert reason in refused.message

    test()


@run
async def test_a_version_without_code_is_refused() -> None:
    async with rig({}) as r:
        lodger = r.lodger()
        lodger.compute("init")
        assert (await lodger.hear(Refused)).code == "invalid-machine"


@run
async def test_lines_of_a_machine_are_told_with_their_instance() -> None:
    async with rig({"v1": b'{"lines":["hello"]}'}) as r:
        lodger = r.lodger()
        await lodger.step("init")
        assert (await r.logged("hello")).key is None
        lodger.compute("log")
        await lodger.hear(Stepped)
        log = await r.logged("two")
        assert (log.code, log.key, log.stream) == (lodger.code, lodger.key, "stderr")
        await r.logged("(3 more lines were dropped)")


# --- validating


@run
async def test_a_bundle_is_validated_in_a_process_that_is_thrown_away() -> None:
    async with rig() as r:
        assert await r.pool.validate(b"{}", "5.33.3") == Validated("5.99.0")
        assert r.pool.counters().processes == 0


@run
async def test_a_bundle_that_lacks_an_export_of_4_is_one_of_5() -> None:
    async with rig() as r:
        assert await r.pool.validate(b'{"load":"missing","has":5}', None) == Validated("5.99.0")
        assert await r.pool.validate(b"{}", None) == Validated("4.99.0")
        assert await r.pool.validate(b'{"inlined":5}', None) == Validated("inlined-5")
        with pytest.raises(InvalidMachine, match="nothing of that name in 4"):
            await r.pool.validate(b'{"load":"missing","has":5}', "^4.38")


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (b'{"load":"unloadable","message":"no machine"}', "^no machine$"),
        (b'{"load":"die"}', "exited with code 9"),
        (b'{"load":"out of memory"}', "its heap passed 128 MB"),
        (b'{"load":"hang"}', "did not"),
        (b'{"load":"never"}', "did not finish loading in 0.9 seconds"),
    ],
)
def test_a_bundle_that_does_not_load_is_refused_with_the_reason(bundle: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        async with rig() as r:
            with pytest.raises(InvalidMachine, match=reason):
                await r.pool.validate(bundle, None)
            assert r.pool.counters().processes == 0

    test()


@run
async def test_closing_the_pool_tells_nobody_and_ends_every_process() -> None:
    async with rig() as r:
        lodger, other = r.lodger(), r.lodger(version="v2")
        await lodger.step("init")
        lodger.compute("hang")
        other.compute("init")
        await r.pool.aclose()
        assert r.pool.counters() == (0, 0)
        assert lodger.signals.empty()
        assert other.signals.empty()


@run
async def test_a_worker_that_says_too_much_is_heard_later_and_in_full() -> None:
    lines = [f"{n:04} " + "x" * 1_000 for n in range(1_000)]
    async with rig({"v1": json.dumps({"lines": lines}).encode()}, policy=replace(QUICK, load_ms=5_000)) as r:
        lodger = r.lodger()
        lodger.compute("init")
        was_held = False
        while lodger.signals.empty():
            was_held = was_held or any(worker.is_held for worker in r.workers())
            await asyncio.sleep(0.01)
        assert was_held
        assert [r.logs.get_nowait().line for _ in lines] == lines
        assert not any(worker.is_held for worker in r.workers())


@run
async def test_a_flood_of_lines_answers_no_ping() -> None:
    async with rig({"v1": b'{"load":"flood"}'}, policy=replace(QUICK, load_ms=20_000)) as r:
        lodger = r.lodger()
        lodger.compute("init")
        refused = await lodger.hear(Refused)
        assert refused.code == "invalid-machine"
        assert "did not answer" in refused.message
