"""The hot routes: an event in, a state out."""

import pytest

from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio


async def test_an_event_is_answered_with_the_state_after_it(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        created = await client.post(
            "/machines/toggler", json={"slug": "i-1", "context": {"public": {"n": 1}}}
        )
        assert created.status_code == 200
        assert created.json() == {
            "ts": server.clock.wall,
            "state": "start",
            "publicContext": {"n": 1},
            "tags": ["fresh"],
            "done": False,
        }
        sent = await client.post("/machines/toggler/i/i-1/events", json={"event": {"type": "go", "n": 1}})
        assert sent.json()["state"] == "go"
        read = await client.get("/machines/toggler/i/i-1")
        assert read.json() == sent.json()
