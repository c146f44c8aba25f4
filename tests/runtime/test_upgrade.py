"""An upgrade through the pool: which processes it takes, and what becomes of one that fails on the way."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from statebacked.model.errors import InvalidMachine, Unavailable
from statebacked.model.ids import (
    InstanceKey,
    InstanceName,
    Instant,
    MigrationId,
    RowKey,
    SendId,
    Seq,
    VersionId,
)
from statebacked.model.rows import PendingTimer
from statebacked.model.step import Arrival, Moved, SetTimer
from statebacked.model.values import Json
from statebacked.ports.machines import Code, MigrationFailed, Route, Saved
from statebacked.runtime.pool import PoolPolicy
from tests.event_loop import run
from tests.runtime.rig import MACHINE, ORG, Rig, real_sandbox, rig

KEY = InstanceKey(ORG, MACHINE, InstanceName("i"))
SAVED = Saved(Seq(3), Json(b'{"value":"here"}'), Json(b'{"n":1}'))
TIMERS = [PendingTimer(RowKey(f"1.{n}"), SendId(f"t{n}"), Instant(n)) for n in range(2)]


def version(id: str, xstate: str = "5.33.3") -> Code:
    return Code(ORG, MACHINE, VersionId(id), xstate)


def step(id: str) -> Code:
    return Code(ORG, MACHINE, VersionId("v2"), "5.33.3", MigrationId(id))


def route(*migrations: str) -> Route:
    return Route(source=version("v1"), migrations=tuple(step(id) for id in migrations), target=version("v2"))


def bundles(**how: Any) -> dict[str, bytes]:  # Any: JSON that tells the fake worker what to do
    known = {"v1": {}, "v2": {}, "mig_1": {"by": "one"}, "mig_2": {"by": "two"}, **how}
    return {id: json.dumps(one).encode() for id, one in known.items()}


async def migrate(r: Rig, *migrations: str) -> Arrival:
    return await r.pool.migrate(route(*migrations or ("mig_1",)), KEY, SAVED, TIMERS)


@run
async def test_each_part_runs_in_a_process_of_its_own_code() -> None:
    async with rig(bundles()) as r:
        arrival = await migrate(r, "mig_1", "mig_2")
        codes = {worker.code for worker in r.workers()}
        assert codes == {version("v1"), step("mig_1"), step("mig_2"), version("v2")}
        told = json.loads(arrival.step.snapshot)
        assert told["by"] == "two"
        assert arrival.step.context == SAVED.context
        assert arrival.step.timers == (SetTimer(SendId("fresh"), 9, Json(b'{"type":"fresh"}')),)
        assert arrival.moved == (Moved(RowKey("1.0"), SendId("new 1.0"), Json(b'{"type":"new 1.0"}')),)
        assert arrival.removed == ("1.1",)
        pids = {*r.pool.pids()}
        await migrate(r, "mig_1", "mig_2")
        assert {*r.pool.pids()} == pids, "the processes are kept for the next instance"


@run
async def test_a_part_that_says_no_is_the_reason() -> None:
    async with rig(bundles(mig_1={"part": "stuck"})) as r:
        with pytest.raises(MigrationFailed, match="no way"):
            await migrate(r)
        assert len(r.workers()) == 2, "nobody is killed for it"


@pytest.mark.parametrize("part", ["die", "hang"])
def test_a_migration_that_ends_its_worker_is_tried_once_more_and_then_fails(part: str) -> None:
    @run
    async def test() -> None:
        async with rig(bundles(mig_1={"part": part})) as r:
            with pytest.raises(MigrationFailed, match=r"the migration (exited with|did not answer)"):
                await migrate(r)

    test()


@run
async def test_a_worker_that_dies_of_something_else_costs_no_upgrade() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mark = str(Path(folder, "mark"))
        async with rig(bundles(mig_1={"part": "die once", "mark": mark})) as r:
            assert (await migrate(r)).removed == ("1.1",)


@run
async def test_a_part_that_is_never_answered_is_given_up() -> None:
    policy = PoolPolicy(step_ms=300, authorize_ms=100, load_ms=900, prewarmed=0, prewarmed_majors=())
    async with rig(bundles(mig_1={"part": "mute"}), policy=policy) as r:
        with pytest.raises(MigrationFailed, match="does not answer"):
            await migrate(r)


BREACHES = {
    "v1": ["too much", "too little", "no object", "arrived", "readable"],
    "mig_1": ["too much", "too little", "no object", "large context", "arrived", "readable"],
    "v2": ["too much", "too little", "no object", "outlined", "readable"],
}


@pytest.mark.parametrize(("who", "part"), [(who, part) for who, parts in BREACHES.items() for part in parts])
def test_a_worker_that_breaks_the_protocol_is_killed(who: str, part: str) -> None:
    @run
    async def test() -> None:
        async with rig(bundles(**{who: {"part": part}})) as r:
            with pytest.raises(MigrationFailed, match="broke the protocol"):
                await migrate(r)
            guilty = version(who) if who.startswith("v") else step(who)
            assert guilty not in {worker.code for worker in r.workers()}

    test()


@pytest.mark.parametrize(
    "how",
    [
        {"step": {"effects": True}},
        {"step": {"starts": ["svc"]}},
        {"step": {"stops": ["svc"]}},
        {"step": {"sends": 1}},
        {"step": {"ev": True}},
        {"step": {"ctx": False}},
        {"step": {"changed": False}},
        {"step": {"out": [["unlink", "svc"]]}},
        {"step": {"idx": [["by-nobody", []]]}},
        {"kept": [["9.9", "x"]]},
        {"kept": [["1.0", "x"]]},
        {"kept": [["1.1", "x"]]},
    ],
    ids=str,
)
def test_an_arrival_can_do_nothing_but_change_the_state(how: dict[str, object]) -> None:
    @run
    async def test() -> None:
        async with rig(bundles(v2=how)) as r:
            with pytest.raises(MigrationFailed, match="broke the protocol"):
                await migrate(r)

    test()


@run
async def test_code_that_does_not_load_is_the_reason() -> None:
    async with rig(bundles(mig_1={"load": "unloadable", "message": "not a module"})) as r:
        with pytest.raises(MigrationFailed, match="not a module"):
            await migrate(r)
        with pytest.raises(MigrationFailed, match="the code of this version is gone"):
            await migrate(r, "mig_9")


@run
async def test_without_room_an_upgrade_is_unavailable() -> None:
    policy = PoolPolicy(memory_mb_max=0, room_wait_ms=0, prewarmed=0, prewarmed_majors=())
    async with rig(bundles(), policy=policy) as r:
        with pytest.raises(Unavailable):
            await migrate(r)
    async with rig(bundles()) as r:
        await r.pool.aclose()
        with pytest.raises(Unavailable):
            await migrate(r)


@run
async def test_what_a_migration_says_is_told_with_its_instance_and_version() -> None:
    async with rig(bundles(mig_1={"part": "log"})) as r:
        await migrate(r)
        log = await r.logged("part 1")
        assert (log.key, log.code.version, log.code.migration) == (KEY, "v2", "mig_1")


# --- real workers --------------------------------------------------------------------------------

MACHINE_CODE = b"""import { createMachine } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ id: "m", initial: "a", context: {}, states: {
  a: { after: { 50: "b" } }, b: {} } });"""
FAULTY = {
    "loop": b"export const upgradeState = () => { for (;;); };",
    "heap": b"""export const upgradeState = () => {
        for (const kept = []; ;) kept.push({ x: [kept.length] }); };""",
    "arrays": b"""export const upgradeState = () => {
        for (const kept = []; ;) kept.push(new Uint8Array(20_000_000).fill(1)); };""",
}
REAL = PoolPolicy(step_ms=1_500, load_ms=3_000, prewarmed=0, prewarmed_majors=())


@pytest.mark.worker
@pytest.mark.parametrize("fault", FAULTY)
def test_machine_code_that_never_ends_fails_the_upgrade_and_nobody_else(fault: str) -> None:
    @run
    async def test() -> None:
        code = {"v1": MACHINE_CODE, "v2": MACHINE_CODE, "mig_1": FAULTY[fault]}
        code["mig_2"] = b"""import { assign } from "xstate"; console.log(typeof assign);
            export const upgradeState = (path) => path;"""
        async with rig(code, policy=REAL, sandbox=real_sandbox()) as r:
            saved = Saved(
                Seq(1), Json(b'{"value":"a","status":"active","historyValue":{},"children":[]}'), Json(b"{}")
            )
            timers = [PendingTimer(RowKey("1.0"), SendId("xstate.after.50.m.a"), Instant(1))]

            async def upgraded(migration: str) -> Arrival:
                return await r.pool.migrate(route(migration), KEY, saved, timers)

            failing = asyncio.ensure_future(upgraded("mig_1"))
            assert (await upgraded("mig_2")).moved[0].send_id == "xstate.after.50.m.a"
            with pytest.raises(MigrationFailed, match=r"did not answer|ran out of memory"):
                await failing
            assert (await upgraded("mig_2")).removed == ()

    test()


@pytest.mark.worker
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"export const upgradeState = 1;", "upgradeState"),
        (b"export default 1;", "upgradeState"),
        (b"syntax error", "SyntaxError"),
        (b"import fs from 'node:fs'; export const upgradeState = () => fs;", "node:fs"),
        (b"import { nothing } from 'xstate'; export const upgradeState = () => nothing;", "nothing"),
        (b"for (;;);", "did not"),
    ],
)
def test_a_module_that_is_no_migration_is_refused_with_the_reason(code: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        async with rig({}, policy=REAL, sandbox=real_sandbox()) as r:
            with pytest.raises(InvalidMachine, match=reason):
                await r.pool.validate_migration(code)
            assert r.pool.pids() == []

    test()


@pytest.mark.worker
@run
async def test_a_migration_may_use_either_major() -> None:
    async with rig({}, policy=REAL, sandbox=real_sandbox()) as r:
        for name, major in (("actions", "4"), ("setup", "5")):
            code = f"import {{ {name} }} from 'xstate'; export const upgradeState = () => {name};"
            assert (await r.pool.validate_migration(code.encode())).xstate.startswith(major)
        plain = await r.pool.validate_migration(b"export const upgradeState = (path) => path;")
        assert plain.xstate.startswith("5")
