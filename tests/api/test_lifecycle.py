"""Pause, delete, dead letters and repeated requests, over HTTP, with the real engine on the memory store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from statebacked.api.lifecycle import proof_of
from statebacked.core.phases import Tick
from statebacked.core.policy import Policy
from statebacked.model.ids import InstanceKey, InstanceName, OrgId
from statebacked.model.limits import (
    DEAD_LETTER_MS,
    IDEMPOTENCY_ANSWER_BYTES_MAX,
    IDEMPOTENCY_KEY_CHARACTERS_MAX,
    IDEMPOTENCY_MS,
)
from statebacked.model.step import Step
from statebacked.model.values import Json
from statebacked.store.letters import LetterLimits
from statebacked.testing.fake_machines import Event, counted
from tests.api.server import ApiServer
from tests.engine.world import MACHINE, ORG, HandClock, World, until, world

pytestmark = pytest.mark.anyio

INSTANCE = f"/machines/{MACHINE}/i/a"


@asynccontextmanager
async def serving(policy: Policy | None = None) -> AsyncIterator[tuple[World, httpx.AsyncClient, ApiServer]]:
    """A server over a started engine, an instance `a`, and its admin's client."""
    async with world(policy=policy) as w:
        server = ApiServer(engine=w.engine, store=w.store)
        await server.org(org_id=ORG)
        async with server.client(await server.session((ORG, "admin"))) as client:
            await w.create("a")
            yield w, client, server


async def send(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post(INSTANCE + "/events", json={"event": {"type": "go"}}, headers=headers)


async def test_a_paused_instance_answers_409_and_is_read_and_resumes() -> None:
    async with serving() as (w, client, _):
        assert (await client.put(INSTANCE + "/status", json={"status": "paused"})).status_code == 204
        refused = await send(client)
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid-state")
        assert (await client.get(INSTANCE)).status_code == 200
        record = await w.engine.admin_read(InstanceKey(ORG, MACHINE, InstanceName("a")))
        assert record.status == "paused"
        assert (await client.put(INSTANCE + "/status", json={"status": "running"})).status_code == 204
        assert (await send(client)).json()["publicContext"] == {"count": 1}
        wrong = await client.put(INSTANCE + "/status", json={"status": "asleep"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-body")


async def test_deleting_takes_both_proofs_and_is_for_ever() -> None:
    async with serving() as (_, client, _):
        proof = proof_of(MACHINE, "a")
        flag, name = "dangerDataWillBeDeletedForever", "hmacSha256OfMachineInstanceNameWithMachineNameKey"
        for body, parameter in (
            ({}, flag),
            ({flag: "true", name: proof}, flag),
            ({flag: True}, name),
            ({flag: True, name: proof_of(MACHINE, "b")}, name),
        ):
            refused = await client.request("DELETE", INSTANCE, json=body)
            assert (refused.status_code, refused.json()["parameter"]) == (400, parameter)
        assert (await client.get(INSTANCE)).status_code == 200
        assert (await client.request("DELETE", INSTANCE, json={flag: True, name: proof})).status_code == 204
        assert (await client.get(INSTANCE)).status_code == 404
        again = await client.request("DELETE", INSTANCE, json={flag: True, name: proof})
        assert again.status_code == 404


async def test_a_dead_letter_is_listed_redriven_and_discarded() -> None:
    async with serving(Policy(attempts_max=1)) as (w, client, server):
        for _ in range(2):
            await w.send("a", "tell", to="b", say="go")
        await until(lambda: all(row.dead_at for row in w.store.instances.messages.values()))
        listed = (await client.get("/dead-letters", params={"machine": MACHINE, "instance": "a"})).json()
        first, second = listed["deadLetters"]
        assert first["to"] == {"machine": MACHINE, "instance": "b"}
        assert (first["kind"], first["event"], first["attempts"]) == ("event", {"type": "go"}, 1)
        assert first["reason"].startswith("not-found")
        assert (await client.get("/dead-letters", params={"machine": "other"})).json()["deadLetters"] == []
        page = (await client.get("/dead-letters", params={"limit": 1})).json()
        rest = (await client.get("/dead-letters", params={"limit": 1, "cursor": page["cursor"]})).json()
        assert [letter["id"] for letter in rest["deadLetters"]] == [second["id"]]

        await server.org(org_id=OrgId("org_other"))
        async with server.client(await server.session((OrgId("org_other"), "admin"))) as stranger:
            assert (await stranger.delete(f"/dead-letters/{first['id']}")).status_code == 404

        await w.create("b")
        assert (await client.post(f"/dead-letters/{first['id']}/redrive")).status_code == 204
        assert (await client.delete(f"/dead-letters/{second['id']}")).status_code == 204
        key = InstanceKey(ORG, MACHINE, InstanceName("b"))
        await until(lambda: _count(w, key) == 1)
        assert (await client.get("/dead-letters")).json()["deadLetters"] == []
        assert (await client.post(f"/dead-letters/{first['id']}/redrive")).status_code == 404


def _count(w: World, key: InstanceKey) -> Any:
    record = w.store.instances.load(key)
    return record and int(record.snapshot)


async def test_a_repeated_request_happens_once_and_gets_the_first_answer() -> None:
    async with serving() as (_, client, _):
        first = await send(client, **{"idempotency-key": "k-1"})
        await send(client)
        repeat = await send(client, **{"idempotency-key": "k-1"})
        assert repeat.json() == first.json()
        assert (await client.get(INSTANCE)).json()["publicContext"] == {"count": 2}
        other = await client.post(
            INSTANCE + "/events", json={"event": "act"}, headers={"idempotency-key": "k-1"}
        )
        assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")


async def test_a_repeat_that_comes_while_the_first_is_under_way_waits_with_it() -> None:
    async with serving() as (w, client, _):
        w.machines.hold()
        both = [asyncio.create_task(send(client, **{"idempotency-key": "k"})) for _ in range(2)]
        await until(lambda: len(w.machines.computed) == 2)
        w.machines.release()
        first, second = await asyncio.gather(*both)
        assert first.json() == second.json()
        assert (await client.get(INSTANCE)).json()["publicContext"] == {"count": 1}


async def test_a_refused_request_is_not_remembered_and_an_event_that_changes_nothing_is() -> None:
    async with serving() as (w, client, _):
        events = INSTANCE + "/events"
        for _ in range(2):
            refused = await client.post(events, json={"event": "no"}, headers={"idempotency-key": "a"})
            assert refused.status_code == 400
        await client.post(events, json={"event": "unknown"}, headers={"idempotency-key": "b"})
        await client.post(events, json={"event": "unknown"}, headers={"idempotency-key": "b"})
        assert [e.id for e in w.machines.computed[1:]] == [e.id for e in w.machines.computed[1:]]
        assert len(w.machines.computed) == 4  # the creation, two refusals, one unknown event
        bad = await client.post(events, json={"event": "go"}, headers={"idempotency-key": "a b"})
        assert (bad.status_code, bad.json()["parameter"]) == (400, "Idempotency-Key")


async def test_a_repeated_creation_creates_once() -> None:
    async with serving() as (_, client, _):
        body = {"slug": "new"}
        headers = {"idempotency-key": "k"}
        first = await client.post(f"/machines/{MACHINE}", json=body, headers=headers)
        again = await client.post(f"/machines/{MACHINE}", json=body, headers=headers)
        assert (first.status_code, again.json()) == (200, first.json())
        taken = await client.post(f"/machines/{MACHINE}", json=body)
        assert taken.status_code == 409


async def test_a_key_is_at_most_255_characters() -> None:
    async with serving() as (_, client, _):
        longest = "k" * IDEMPOTENCY_KEY_CHARACTERS_MAX
        assert (await send(client, **{"idempotency-key": longest})).status_code == 200
        refused = await send(client, **{"idempotency-key": longest + "k"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-parameter")


@pytest.mark.parametrize("size", [1_000, IDEMPOTENCY_ANSWER_BYTES_MAX])
async def test_a_repeat_gets_the_newest_state_where_the_answer_was_too_large_to_keep(
    size: int,
) -> None:
    def growing(count: int, event: Event) -> Step:
        public = Json(b'{"count":%d,"x":"%s"}' % (count + 1, b"x" * size))
        return replace(counted(count + 1), public=public, context=Json(b'{"public":' + public + b"}"))

    async with serving() as (w, client, _):
        w.machines.behaviour = growing
        first = await send(client, **{"idempotency-key": "k"})
        newest = await send(client)
        repeat = await send(client, **{"idempotency-key": "k"})
        assert repeat.json() == (newest if size > 1_000 else first).json()
        assert newest.json()["publicContext"]["count"] == 2


async def test_an_instance_that_never_rests_is_shown_as_throttled_and_one_line_says_so() -> None:
    async with serving(Policy(unasked_per_s=10, unasked_burst=2, throttled_ms=1_000)) as (w, client, server):
        server.catalogue.versions.update(w.store.versions)
        for _ in range(40):
            await w.send("a", "wait", ms=1_000)
        w.clock.wall += 1_000
        w.engine._activations.alarms.scan_soon()
        loaded = w.engine._activations.peek(InstanceKey(ORG, MACHINE, InstanceName("a")))
        assert loaded is not None
        await until(lambda: loaded.driver.activation.throttled_until is not None)
        shown = []
        for _ in range(25):
            seq = loaded.driver.activation.seq
            w.clock.mono += 100
            loaded.driver.signal(Tick())
            await until(lambda seq=seq: loaded.driver.activation.seq > seq)  # type: ignore[misc]
            shown.append((await client.get(INSTANCE + "/admin")).json().get("throttled", False))
        assert shown == [False] * 9 + [True] * 16
        told = [line for _, _, line in w.told if "more to do" in line]
        assert told == [
            "for 1 s there has been more to do than 10 steps a second that no client asks for: they wait"
        ]


async def test_a_dead_letter_of_which_only_the_head_was_kept_says_so_and_is_not_redriven() -> None:
    async with serving(Policy(attempts_max=1)) as (w, client, _):
        w.store.instances.letter_limits = LetterLimits(letters=1)
        for _ in range(2):
            await w.send("a", "tell", to="b", say="go")
        await until(lambda: all(row.dead_at for row in w.store.instances.messages.values()))
        whole, head = (await client.get("/dead-letters")).json()["deadLetters"]
        assert "truncated" not in whole
        assert (head["event"], head["truncated"]) == ({"type": "go"}, True)
        refused = await client.post(f"/dead-letters/{head['id']}/redrive")
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid-state")
        assert "without its event" in refused.json()["error"]
        assert (await client.delete(f"/dead-letters/{head['id']}")).status_code == 204
        assert (await client.post(f"/dead-letters/{whole['id']}/redrive")).status_code == 204


async def test_answers_and_dead_letters_are_kept_for_their_time() -> None:
    async with serving(Policy(attempts_max=1)) as (w, client, _):
        await send(client, **{"idempotency-key": "k"})
        await w.send("a", "tell", to="b", say="go")
        messages = w.store.instances.messages
        await until(lambda: all(row.dead_at for row in messages.values()))
        answers = w.store.instances.answers
        (answer,), (letter,) = answers.values(), messages.values()
        assert letter.dead_at is not None
        for now, kept in (
            (letter.dead_at + DEAD_LETTER_MS, (1, 1)),
            (letter.dead_at + DEAD_LETTER_MS + 1, (1, 0)),
            (answer.created_at + IDEMPOTENCY_MS, (1, 0)),
            (answer.created_at + IDEMPOTENCY_MS + 1, (0, 0)),
        ):
            async with world(w.store, HandClock(wall=now)):  # it sweeps as it starts
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert (len(answers), len(messages)) == kept
