"""Instances: what each route answers, and whose texts reach whom."""

import json

import pytest
from structlog.testing import capture_logs

from statebacked.api.application import ApiSettings
from statebacked.model.errors import MachineRefusal, Unavailable
from statebacked.model.ids import OrgId
from statebacked.model.limits import READINESS_SEEN_MS
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

INSTANCE = "/machines/toggler/i/i-1"


async def with_instance(server: ApiServer) -> OrgId:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        await client.post(
            "/machines/toggler", json={"slug": "i-1", "context": {"public": {"n": 1}, "own": 2}}
        )
    return org


async def test_an_event_is_answered_with_the_state_after_it(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org)) as client:
        sent = await client.post(INSTANCE + "/events", json={"event": {"type": "go", "n": 1}})
        assert sent.json() == {
            "ts": server.clock.wall + 1,
            "state": "go",
            "publicContext": {"n": 1},
            "tags": [],
            "done": False,
        }
        assert (await client.get(INSTANCE)).json() == sent.json()
        assert (await client.post(INSTANCE + "/events", json={"event": "end"})).json()["done"] is True
    assert [event for _, event, _ in server.engine.events] == [b'{"type":"go","n":1}', b'{"type":"end"}']


async def test_the_machine_judges_by_the_tokens_auth_context(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.token(org, act={"sid": "s-1"}, sub="u-1")
    async with server.client(token) as client:
        await client.post(INSTANCE + "/events", json={"event": "go"})
    assert json.loads(server.engine.events[-1][2]) == {"sid": "s-1", "sub": "u-1"}


async def test_an_admin_acts_as_whom_the_header_says_and_as_nobody_without_it(server: ApiServer) -> None:
    org = await with_instance(server)
    token = await server.session((org, "admin"))
    acts = [
        ({}, b"{}"),
        ({"x_statebacked_act": '{"sid": "s"}'}, b'{"sid":"s"}'),
        ({"x_statebacked_act": '{"name": "é"}'.encode().decode("latin-1")}, '{"name":"é"}'.encode()),
        ({"x_statebacked_act": '{"name": "é"}'}, '{"name":"é"}'.encode()),
        ({"x_statebacked_act": '{"stateBackedSender": 1, "a": 2}'}, b'{"a":2}'),
    ]
    for headers, auth in acts:
        async with server.client(token) as client:
            raw = [(b"x-statebacked-act", value.encode("latin-1")) for value in headers.values()]
            await client.post(INSTANCE + "/events", json={"event": "go"}, headers=raw)
        assert server.engine.events[-1][2] == auth


@pytest.mark.parametrize("act", ["x", "[]", "5", "null", '{"__proto__": 1}', '{"a":' * 20 + "1" + "}" * 20])
async def test_a_malformed_act_header_is_refused(server: ApiServer, act: str) -> None:
    org = await with_instance(server)
    async with server.client(await server.session((org, "admin")), x_statebacked_act=act) as client:
        response = await client.get(INSTANCE)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")
        assert response.json()["parameter"] == "x-statebacked-act"


async def test_an_absent_instance_is_404_and_a_taken_name_409(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org)) as client:
        for path in ("/machines/toggler/i/none", "/machines/none/i/i-1"):
            assert (await client.get(path)).status_code == 404
            assert (await client.get(path + "/admin")).status_code == 404
            assert (await client.get(path + "/events")).status_code == 404
            assert (await client.post(path + "/events", json={"event": "go"})).status_code == 404
        assert (await client.post("/machines/none", json={"slug": "i"})).status_code == 404
        taken = await client.post("/machines/toggler", json={"slug": "i-1"})
        assert (taken.status_code, taken.json()["code"]) == (409, "conflict")


async def test_bad_names_and_versions_are_refused(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org)) as client:
        for slug in ("", ".", "..", "a b", "a/b", "é", "x" * 129):
            response = await client.post("/machines/toggler", json={"slug": slug})
            assert (response.status_code, response.json()["code"]) == (400, "invalid-name")
        for name in ("%2E%2E", "a%20b", "a%2Fb", "%FF"):
            response = await client.get(f"/machines/toggler/i/{name}")
            assert (response.status_code, response.json()["code"]) == (400, "invalid-name")
        response = await client.post("/machines/toggler", json={"slug": "i-2", "machineVersionId": "ver_x"})
        assert response.status_code == 404


async def test_names_of_identity_providers_are_taken_encoded_and_raw(server: ApiServer) -> None:
    org = await with_instance(server)
    name = "auth0|abc.d@example.com:+~"
    async with server.client(await server.token(org)) as client:
        await client.post("/machines/toggler", json={"slug": name})
        for path in (name, name.replace("|", "%7C"), name.replace("@", "%40")):
            assert (await client.get(f"/machines/toggler/i/{path}")).status_code == 200


async def test_the_admin_state_is_whole_and_asks_no_authorizer(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org, act={"refused": True})) as client:
        assert (await client.get(INSTANCE)).json()["code"] == "rejected-by-machine-authorizer"
        state = (await client.get(INSTANCE + "/admin")).json()
        assert state["context"] == {"public": {"n": 1}, "own": 2}
        assert state["status"] == "running"
        assert state["machineVersion"]["clientInfo"] == "1.0"


async def test_the_history_begins_with_the_initial_event(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org)) as client:
        await client.post(INSTANCE + "/events", json={"event": {"type": "go", "n": 1}})
        transitions = (await client.get(INSTANCE + "/events")).json()["transitions"]
        assert [t["event"] for t in transitions] == [{"type": "xstate.init"}, {"type": "go", "n": 1}]
        assert [t["state"] for t in transitions] == ["start", "go"]
        assert [t["seq"] for t in transitions] == [1, 2]
        assert transitions[1]["actor"] == {"sub": "user-1"}


# --- errors --------------------------------------------------------------------------------------


async def test_what_machine_code_threw_is_read_by_its_owners_only(server: ApiServer) -> None:
    org = await with_instance(server)
    secret = "TypeError: secret is undefined"
    readers = [await server.session((org, "admin")), await server.token(org, ["events.write", "logs.read"])]
    others = [await server.token(org, ["events.write"])]
    for token in readers + others:
        async with server.client(token) as client:
            response = await client.post(INSTANCE + "/events", json={"event": "throw"})
            assert (response.status_code, response.json()["code"]) == (400, "machine-error")
            assert (response.json()["error"] == secret) == (token in readers)


async def test_an_authorizers_text_is_a_machines_text_too(server: ApiServer) -> None:
    org = await with_instance(server)
    async with server.client(await server.token(org, ["state.read"], act={"refused": True})) as client:
        response = await client.get(INSTANCE)
        assert (response.status_code, response.json()["code"]) == (403, "rejected-by-machine-authorizer")
        assert "Mallory" not in response.text
    async with server.client(await server.token(org, ["instances.write"], act={"refused": True})) as client:
        response = await client.post("/machines/toggler", json={"slug": "i-9"})
        assert "Mallory" not in response.text


async def test_what_machine_code_threw_is_logged_in_fields_but_under_dev(server: ApiServer) -> None:
    """There the machine's own line is shown already."""
    for one, count in ((server, 1), (ApiServer(ApiSettings(expose_machine_texts=True)), 0)):
        org = await with_instance(one)
        one.engine.next_error = MachineRefusal("machine-error", "it's broken: 100%")
        with capture_logs() as logs:
            async with one.client(await one.token(org)) as client:
                response = await client.post(INSTANCE + "/events", json={"event": "go"})
        lines = [line for line in logs if line["event"] == "a machine refuses"]
        assert len(lines) == count
        for line in lines:
            assert line["request"] == response.headers["x-request-id"]
            assert (line["code"], line["text"]) == ("machine-error", "it's broken: 100%")


async def test_under_dev_everyone_reads_them() -> None:
    server = ApiServer(ApiSettings(expose_machine_texts=True))
    org = await with_instance(server)
    async with server.client(await server.token(org, ["state.read"], act={"refused": True})) as client:
        assert "Mallory" in (await client.get(INSTANCE)).text


async def test_a_refusal_in_the_servers_own_words_is_read_by_everyone(server: ApiServer) -> None:
    org = await with_instance(server)
    server.engine.next_error = MachineRefusal("context-too-large", "the context would be 400,001 bytes")
    async with server.client(await server.token(org, ["events.write"])) as client:
        response = await client.post(INSTANCE + "/events", json={"event": "go"})
        assert (response.status_code, response.json()["code"]) == (400, "context-too-large")
        assert "400,001" in response.json()["error"]


async def test_our_own_fault_is_internal_and_tells_nothing(server: ApiServer) -> None:
    org = await with_instance(server)
    for path, method in ((INSTANCE, "GET"), (INSTANCE + "/admin", "GET"), (INSTANCE + "/events", "POST")):
        server.engine.next_error = RuntimeError("the password is hunter2")
        with capture_logs() as logs:
            async with server.client(await server.token(org)) as client:
                response = await client.request(method, path, json={"event": "go"})
        assert (response.status_code, response.json()["code"]) == (500, "internal")
        assert "hunter2" not in response.text
        assert response.json()["requestId"] == response.headers["x-request-id"]
        [line] = logs
        assert (line["event"], line["request"]) == ("a request fails", response.json()["requestId"])
        assert line["exc_info"] is True


async def test_unavailable_says_that_it_may_be_tried_again(server: ApiServer) -> None:
    org = await with_instance(server)
    server.engine.next_error = Unavailable("the server restarts: send the event again")
    async with server.client(await server.token(org)) as client:
        response = await client.post(INSTANCE + "/events", json={"event": "go"})
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"


async def test_a_server_with_an_obstacle_is_not_ready_and_looks_once_a_second() -> None:
    looks, obstacle = 0, "the disk is full"

    async def find_obstacle() -> str | None:
        nonlocal looks
        looks += 1
        return obstacle or None

    async def find_none() -> None:
        return None

    server = ApiServer(obstacles=(find_obstacle, find_none))
    async with server.client() as client:
        for _ in range(5):
            response = await client.get("/readyz")
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert "the disk is full" in response.json()["error"]
        assert looks == 1
        obstacle = ""
        server.clock.pass_ms(READINESS_SEEN_MS - 1)
        assert (await client.get("/readyz")).status_code == 503
        server.clock.pass_ms(1)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_readiness_is_the_engines(server: ApiServer) -> None:
    async with server.client() as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        server.engine.is_usable = False
        assert (await client.get("/readyz")).json()["code"] == "unavailable"
        assert (await client.get("/healthz")).status_code == 200
