"""GET /logs: what may be asked, what is answered, and that each org sees its own lines only."""

from typing import Any

import pytest

from statebacked.model.ids import InstanceKey, InstanceName, Instant, MachineName, OrgId, VersionId
from statebacked.model.logs import LogEntry, LogErasure
from tests.api.doubles import START
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

VERSION = VersionId("ver_AAAAAAAAAAAAAAAAAAAAAA")


def entry(org: OrgId, at: int, text: str, **more: Any) -> LogEntry:
    given: dict[str, Any] = {
        "machine": MachineName("toggler"),
        "instance": InstanceName("i-1"),
        "version": VERSION,
        "output": "stdout",
        **more,
    }
    return LogEntry(at=Instant(START + at), org=org, text=text, **given)


def time(at: int) -> str:
    assert 0 <= at < 1_000
    return f"2025-06-15T15:06:40.{at:03d}Z"  # START


async def get(server: ApiServer, token: str, **query: str) -> Any:
    named = {name.rstrip("_"): value for name, value in query.items()}
    async with server.client(token) as client:
        response = await client.get("/logs", params=named)
        return response.json()


async def test_entries_are_told_as_the_published_client_expects_them(server: ApiServer) -> None:
    org = await server.org()
    await server.log_store.append(
        [
            entry(org, 1, "hello\nworld", output="stderr"),
            entry(org, 7, "\x1b[2J", instance=None, version=VERSION),
        ]
    )
    body = await get(server, await server.token(org, ["logs.read"]), from_=time(0))
    assert body == {
        "maxTimestamp": time(7),
        "logs": [
            {
                "timestamp": time(1),
                "orgId": org,
                "machineName": "toggler",
                "instanceName": "i-1",
                "machineVersionId": VERSION,
                "outputType": "stderr",
                "log": "hello\nworld",
            },
            {
                "timestamp": time(7),
                "orgId": org,
                "machineName": "toggler",
                "instanceName": "",
                "machineVersionId": VERSION,
                "outputType": "stdout",
                "log": "\x1b[2J",
            },
        ],
    }


async def test_nothing_newer_is_told_with_the_very_time_that_was_asked_from(server: ApiServer) -> None:
    org = await server.org()
    await server.log_store.append([entry(org, 1, "hello")])
    token = await server.token(org)
    for given in (time(1), "2025-06-15T15:06:40.001", "2025-06-15T17:06:40.001999+02:00"):
        assert await get(server, token, from_=given) == {"maxTimestamp": time(1), "logs": []}


async def test_filters_and_to_narrow_it_down(server: ApiServer) -> None:
    org = await server.org()
    other = VersionId("ver_BBBBBBBBBBBBBBBBBBBBBB")
    await server.log_store.append(
        [
            entry(org, 1, "a"),
            entry(org, 2, "b", instance=InstanceName("user|2")),
            entry(org, 3, "c", machine=MachineName("order"), version=other),
        ]
    )
    server.clock.pass_ms(1_000)
    token = await server.token(org)

    async def texts(**query: str) -> list[str]:
        body = await get(server, token, from_=time(0), **query)
        return [item["log"] for item in body["logs"]]

    assert await texts() == ["a", "b", "c"]
    assert await texts(machine="toggler") == ["a", "b"]
    assert await texts(machine="toggler", instance="user|2") == ["b"]
    assert await texts(instance="i-1") == ["a", "c"]
    assert await texts(version=other) == ["c"]
    assert await texts(to=time(2)) == ["a", "b"]
    assert await texts(machine="nobody") == []
    assert (await get(server, token, from_=time(0), to=time(900)))["maxTimestamp"] == time(900)
    assert (await get(server, token, from_=time(3), to=time(900)))["maxTimestamp"] == time(900)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "from"),
        ({"from": ""}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"from": "-10m"}, "from"),
        ({"from": "99999-01-01T00:00:00Z"}, "from"),
        ({"from": "9999-12-31T23:59:59-23:59"}, "from"),
        ({"from": time(5), "to": "9999-12-31T23:59:59.999999-00:01"}, "to"),
        ({"from": time(5), "to": "soon"}, "to"),
        ({"from": time(5), "to": time(4)}, "to"),
    ],
)
async def test_a_time_that_is_none_is_refused(
    server: ApiServer, query: dict[str, str], parameter: str
) -> None:
    async with server.client(await server.token(await server.org())) as client:
        response = await client.get("/logs", params=query)
        assert response.status_code == 400
        assert response.json()["code"] == "invalid-parameter"
        assert response.json()["parameter"] == parameter


async def test_a_name_that_can_be_none_is_refused(server: ApiServer) -> None:
    async with server.client(await server.token(await server.org())) as client:
        for query in ({"machine": "a b"}, {"instance": ".."}):
            response = await client.get("/logs", params={"from": time(0), **query})
            assert (response.status_code, response.json()["code"]) == (400, "invalid-name")


async def test_an_org_sees_its_own_lines_only(server: ApiServer) -> None:
    ours, theirs = await server.org(), await server.org()
    await server.log_store.append([entry(ours, 1, "ours"), entry(theirs, 1, "theirs")])
    for query in (
        {},
        {"machine": "toggler"},
        {"machine": "toggler", "instance": "i-1"},
        {"version": VERSION},
    ):
        for org, text in ((ours, "ours"), (theirs, "theirs")):
            for token in (await server.token(org, ["logs.read"]), await server.session((org, "read"))):
                body = await get(server, token, from_=time(0), **query)
                assert [item["log"] for item in body["logs"]] == [text]


async def test_the_log_goes_with_its_instance(server: ApiServer) -> None:
    org = await server.org()
    await server.log_store.append([entry(org, 1, "old life"), entry(org, 5, "new life")])
    key = InstanceKey(org, MachineName("toggler"), InstanceName("i-1"))
    server.erasures.log_erasures.append(LogErasure(key, Instant(START + 4)))
    body = await get(server, await server.token(org), from_=time(0))
    assert [item["log"] for item in body["logs"]] == ["new life"]


async def test_logs_that_cannot_be_read_are_unavailable(server: ApiServer) -> None:
    server.log_store.is_down = True
    async with server.client(await server.token(await server.org())) as client:
        response = await client.get("/logs", params={"from": time(0)})
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["retry-after"]
