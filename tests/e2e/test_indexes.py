"""What instances are found by, on a real server with real workers of both majors."""

import gzip
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest

from statebacked.api.lifecycle import proof_of
from tests.e2e.asking import Asker, Json, answered, key_token, refused, sign_token
from tests.e2e.servers import E2E, RealServer, start_server

CODES = {"5": ("findable.js", "5.33.3"), "4": ("findable4.js", "4.38.3")}
SELECTORS = {
    "by-owner": "$.owner",
    "by-tag": "$.tags",
    "by-person": "$.people[*].id",
    "since": "$.meta.since",
}
NUMBERS = count()


@pytest.fixture(params=["5", "4"])
def machine(admin: Asker, request: pytest.FixtureRequest) -> str:
    """A new machine of that major, with indexes."""
    name = f"m{next(NUMBERS)}-{request.param}"
    make_machine(admin, name, request.param)
    return name


def make_machine(admin: Asker, name: str, major: str) -> None:
    body = {"slug": name, "indexes": [*SELECTORS, "unused"]}
    assert admin.http.post("/machines", json=body).status_code == 201
    answered(add_version(admin, name, major, SELECTORS))


def add_version(
    admin: Asker, machine: str, major: str, selectors: Mapping[str, str | None]
) -> httpx.Response:
    file, xstate = CODES[major]
    begun = admin.begin_version(machine, gzipped=True, xstate=xstate)
    code = gzip.compress((E2E / "machines" / file).read_bytes())
    assert admin.upload(begun, code, says_gzip=True).is_success
    body = {"makeCurrent": True, "indexSelectors": selectors}
    return admin.http.put(f"/machines/{machine}/v/{begun['machineVersionId']}", json=body)


def find(asker: Asker, machine: str, index: str, **parameters: str) -> list[str]:
    """All rows as "value name", page by page."""
    path = f"/machines/{machine}/indexes/{index}/query"
    page = answered(asker.http.get(path, params=parameters))
    rows = [f"{one['indexValue']} {one['slug']}" for one in page["instances"]]
    while "cursor" in page:
        page = answered(asker.http.get(path, params={**parameters, "cursor": page["cursor"]}))
        rows += [f"{one['indexValue']} {one['slug']}" for one in page["instances"]]
    return rows


def anonymous(server: RealServer, session: str) -> Asker:
    """Somebody who has only a session id, as the published client signs in."""
    org = server.admin["orgId"]
    provider = f"https://{org}.anonymous.auth.statebacked.dev"
    claims = {"aud": provider, "iss": provider, "sid": session, "did": session, "act": None}
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": f"https://tokens.statebacked.dev/{org}/anonymous-statebacked-dev",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": sign_token("", org, **claims),
    }
    answer = answered(httpx.post(f"{server.url}/tokens", data=form))
    return Asker(server, token=answer["access_token"])


def test_rows_follow_the_context_from_birth_to_deletion(admin: Asker, machine: str) -> None:
    answered(admin.create(machine, "a", {"owner": "ann", "tags": ["x", "y", "x", 5]}))
    answered(admin.create(machine, "b", {"owner": "ann"}))
    assert find(admin, machine, "by-owner") == ["ann a", "ann b"]
    assert find(admin, machine, "by-tag") == ["x a", "y a"]
    assert find(admin, machine, "by-person", op="eq", value="p2") == ["p2 a", "p2 b"]
    assert find(admin, machine, "since") == [f"1970-01-01T00:00:00.000Z {name}" for name in "ab"]
    assert find(admin, machine, "unused") == []

    answered(admin.send(machine, "a", {"type": "own", "owner": "bob"}))
    answered(admin.send(machine, "b", {"type": "tag", "tags": ["y", "é", "😀"]}))
    answered(admin.send(machine, "b", "nothing"))
    assert find(admin, machine, "by-owner", dir="desc") == ["bob a", "ann b"]
    assert find(admin, machine, "by-tag", op="ne", value="x") == ["y a", "y b", "é b", "😀 b"]
    assert find(admin, machine, "by-tag", op="gt", value="y", limit="1") == ["é b", "😀 b"]
    answered(admin.send(machine, "a", {"type": "own", "owner": 7}))
    assert find(admin, machine, "by-owner") == ["ann b"]

    proofs = {
        "dangerDataWillBeDeletedForever": True,
        "hmacSha256OfMachineInstanceNameWithMachineNameKey": proof_of(machine, "b"),
    }
    assert admin.http.request("DELETE", f"/machines/{machine}/i/b", json=proofs).status_code == 204
    assert find(admin, machine, "by-tag") == ["x a", "y a"]
    answered(admin.create(machine, "b", {"tags": ["new"]}))
    assert find(admin, machine, "by-tag", op="gt", value="") == ["new b", "x a", "y a"]


COMPARISONS = {
    "eq": "b",
    "ne": "ac",
    "gt": "c",
    "gte": "bc",
    "lt": "a",
    "lte": "ab",
}


def test_every_comparison_finds_its_rows_in_both_directions(admin: Asker, machine: str) -> None:
    for owner in "abc":
        answered(admin.create(machine, f"of-{owner}", {"owner": owner}))
    for op, owners in COMPARISONS.items():
        rows = [f"{owner} of-{owner}" for owner in owners]
        for limit in ("1", "100"):
            asked = {"op": op, "value": "b", "limit": limit}
            assert find(admin, machine, "by-owner", dir="asc", **asked) == rows
            assert find(admin, machine, "by-owner", dir="desc", **asked) == rows[::-1]


def test_each_page_is_of_one_moment(admin: Asker, machine: str) -> None:
    """An instance moves all its values at once, and no page shows it half moved."""

    def tags(n: int) -> list[str]:
        return [f"{letter}{n:03}" for letter in "abc"]

    answered(admin.create(machine, "moves", {"tags": tags(0)}))
    mover, path = Asker(admin.server), f"/machines/{machine}/indexes/by-tag/query"

    def move() -> None:
        for n in range(1, 101):
            answered(mover.send(machine, "moves", {"type": "tag", "tags": tags(n)}))

    moments = set()
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        while not moving.done():
            values = [row["indexValue"] for row in answered(admin.http.get(path))["instances"]]
            assert values == tags(int(values[0][1:]))
            moments.add(values[0])
        moving.result()
    assert len(moments) > 1


def test_more_values_than_an_instance_may_have_are_refused_and_change_nothing(
    admin: Asker, machine: str
) -> None:
    answered(admin.create(machine, "a", {"tags": ["x"]}))
    before = admin.look(machine, "a")
    refused(admin.send(machine, "a", {"type": "fill", "count": 998}), 400, "machine-error")
    refused(admin.send(machine, "a", {"type": "tag", "tags": ["é" * 513]}), 400, "machine-error")
    assert admin.look(machine, "a") == before
    assert find(admin, machine, "by-tag") == ["x a"]
    answered(admin.send(machine, "a", {"type": "fill", "count": 997}))  # p1, p2 and the date beside them
    assert len(find(admin, machine, "by-tag", limit="1000")) == 997
    answered(admin.send(machine, "a", {"type": "tag", "tags": ["é" * 512]}))
    assert find(admin, machine, "by-tag") == ["é" * 512 + " a"]


def test_an_instance_is_found_by_the_selectors_of_its_own_version(admin: Asker, machine: str) -> None:
    major = machine[-1]
    answered(admin.create(machine, "old", {"owner": "ann", "tags": ["x"]}))
    refused(add_version(admin, machine, major, {"by-none": "$.a"}), 400, "invalid-parameter")
    refused(add_version(admin, machine, major, {"by-tag": "$..tags"}), 400, "invalid-parameter")
    answered(add_version(admin, machine, major, {"by-tag": "$.owner", "by-person": None}))
    answered(admin.create(machine, "new", {"owner": "bob", "tags": ["y"]}))
    assert find(admin, machine, "by-owner") == ["ann old", "bob new"]
    assert find(admin, machine, "by-tag") == ["bob new", "x old"]
    assert find(admin, machine, "by-person") == ["p1 old", "p2 old"]


def test_anonymous_callers_see_rows_of_instances_that_they_may_read(
    server: RealServer, admin: Asker, machine: str
) -> None:
    for n in range(7):
        answered(admin.create(machine, f"secret-{n}", {"owner": f"s{n % 3}", "tags": ["x", "y"]}))
    stranger = anonymous(server, "s1")
    assert find(stranger, machine, "by-owner") == ["s1 secret-1", "s1 secret-4"]
    expected = ["x secret-1", "x secret-4", "y secret-1", "y secret-4"]
    for limit in ("1", "3", "100"):
        assert find(stranger, machine, "by-tag", limit=limit) == expected
    assert find(stranger, machine, "by-owner", op="eq", value="s0") == []
    assert find(anonymous(server, "nobody"), machine, "by-tag") == []
    logs = answered(admin.http.get("/logs", params={"machine": machine, "from": "2020-01-01T00:00:00.000Z"}))
    assert {f"secret-{n}" for n in range(7)} <= {one["instanceName"] for one in logs["logs"]}

    for asker in (
        Asker(server, token=key_token(server, act={"sid": "s1"})),
        Asker(server, act={"sid": "s1"}),
    ):
        assert len(find(asker, machine, "by-owner")) == 7
    narrow = answered(admin.http.post("/keys", json={"name": "narrow", "scopes": ["state.read"]}))
    token = sign_token(narrow["id"], narrow["key"])
    path = f"/machines/{machine}/indexes/by-owner/query"
    refused(Asker(server, token=token).http.get(path), 403, "missing-scope")


def test_rows_are_those_of_the_contexts_when_the_server_is_killed(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data")
    admin = Asker(server)
    make_machine(admin, "m-5", "5")
    names = [f"i{n}" for n in range(8)]
    for name in names:
        answered(admin.create("m-5", name))
    sent, many_sent = count(), threading.Event()

    def send_on(name: str) -> None:
        try:
            for _ in range(10_000):
                n = next(sent)
                if n == 300:
                    many_sent.set()
                event = {"type": "tag", "tags": [f"t{n % 5}", f"u{n}", name]}
                answered(Asker(server).send("m-5", name, event))
        except (httpx.HTTPError, AssertionError):
            return  # killed

    with ThreadPoolExecutor(len(names)) as pool:
        running = [pool.submit(send_on, name) for name in names]
        came_so_far = many_sent.wait(60)
        server.process.send_signal(signal.SIGKILL)
        for one in running:
            one.result()
    server.process.wait()
    assert came_so_far
    again = start_server(tmp_path / "data")
    try:
        asker = Asker(again)
        expected = sorted(f"{tag} {name}" for name in names for tag in tags_of(asker, name))
        assert sorted(find(asker, "m-5", "by-tag")) == expected
        assert len(expected) == 3 * len(names)
        answered(asker.send("m-5", "i0", {"type": "tag", "tags": ["after"]}))
        assert find(asker, "m-5", "by-tag", op="eq", value="after") == ["after i0"]
        assert find(asker, "m-5", "by-tag", op="eq", value="i0") == []
    finally:
        again.stop()


def tags_of(asker: Asker, name: str) -> list[str]:
    state: Json = asker.admin_state("m-5", name)
    tags: list[str] = state["context"]["tags"]
    return tags
