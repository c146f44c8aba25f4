"""What `smply instances` asks the server, and what it shows."""

import json

import httpx
import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import STATE, FakeServer

ACT = '{"sid": "session-123"}'
CREATE = ("instances", "create", "--machine", "toggler", "--instance", "session-123")
SEND = ("instances", "send-event", "--machine", "toggler", "--instance", "session-123")


def instance(name: str) -> dict[str, object]:
    return {"slug": name, "createdAt": "t", "status": "running", "machineVersion": {"id": "ver_1"}}


def test_create_acts_as_the_user_of_the_auth_context(smply: Smply, server: FakeServer) -> None:
    outcome = smply(*CREATE, "--auth-context", ACT)

    assert (outcome.code, outcome.json) == (0, STATE)
    request = server.requests[-1]
    assert (request.method, request.url.path) == ("POST", "/machines/toggler")
    assert request.headers["authorization"] == "Bearer sbs_admin"
    assert request.headers["x-statebacked-org-id"] == "org_1"
    assert json.loads(request.headers["x-statebacked-act"]) == {"sid": "session-123"}
    assert json.loads(request.content) == {"slug": "session-123"}


def test_create_sends_context_and_version(smply: Smply, server: FakeServer) -> None:
    smply(*CREATE, "-a", ACT, "--context", '{"public": {}}', "--version", "ver_2")

    assert server.bodies("POST /machines/toggler") == [
        {"slug": "session-123", "context": {"public": {}}, "machineVersionId": "ver_2"}
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("toggle", "toggle"),
        ('{"type": "toggle", "by": 2}', {"type": "toggle", "by": 2}),
        (' {"type": "t"}', {"type": "t"}),
        ('"quoted"', '"quoted"'),
        ("12", "12"),
    ],
)
def test_an_event_is_a_name_or_an_object(smply: Smply, server: FakeServer, given: str, sent: object) -> None:
    assert smply(*SEND, "--auth-context", ACT, "--event", given).json == STATE
    assert server.bodies("POST /machines/toggler/i/session-123/events") == [{"event": sent}]


@pytest.mark.parametrize("event", ["tooggle", '{"type": "tooggle"}'])
def test_an_event_that_changes_nothing_is_told(smply: Smply, server: FakeServer, event: str) -> None:
    unchanged = httpx.Response(200, json=STATE, headers={"x-statebacked-event": "unchanged"})
    server.answers["POST /machines/toggler/i/session-123/events"] = lambda _: unchanged
    outcome = smply(*SEND, "--auth-context", ACT, "--event", event)

    assert (outcome.code, outcome.json) == (0, STATE)
    assert "no state handles `tooggle` now" in outcome.err
    assert smply(*CREATE, "--auth-context", ACT).err == ""


@pytest.mark.parametrize("event", ['{"type": "toggle"', "{}", '{"type": 3}', "", '{"type": ""}'])
def test_an_event_object_that_is_none_is_not_sent_as_a_name(
    smply: Smply, server: FakeServer, event: str
) -> None:
    outcome = smply(*SEND, "--auth-context", ACT, "--event", event)

    assert outcome.code == 1
    assert "--event" in outcome.err
    assert server.requests == []


def test_claims_beyond_ascii_arrive_whole(smply: Smply, server: FakeServer) -> None:
    smply(*SEND, "--auth-context", '{"sub": "Zoë 🙂"}', "--event", "toggle")

    assert json.loads(server.requests[-1].headers["x-statebacked-act"]) == {"sub": "Zoë 🙂"}


def test_a_token_of_the_user_stands_in_for_the_admin(smply: Smply, server: FakeServer) -> None:
    smply(*SEND, "--token", "eyJ.theirs", "--event", "toggle")

    assert server.requests[-1].headers["authorization"] == "Bearer eyJ.theirs"
    assert "x-statebacked-act" not in server.requests[-1].headers


@pytest.mark.parametrize("who", [(), ("--auth-context", ACT, "--token", "t"), ("--auth-context", "[]")])
def test_one_way_to_say_who_acts_is_needed(smply: Smply, server: FakeServer, who: tuple[str, ...]) -> None:
    outcome = smply(*SEND, *who, "--event", "toggle")

    assert outcome.code == 1
    assert "--auth-context" in outcome.err
    assert server.requests == []


def test_names_are_encoded_once(smply: Smply, server: FakeServer) -> None:
    smply("instances", "get", "-m", "toggler", "-i", "auth0|7%41/..")

    assert server.requests[-1].url.raw_path == b"/machines/toggler/i/auth0%7C7%2541%2F../admin"


def test_get_shows_what_the_admin_sees(smply: Smply, server: FakeServer) -> None:
    server.give("GET /machines/toggler/i/a/admin", {"state": "on", "status": "running"})

    assert smply("instances", "get", "-m", "toggler", "-i", "a").json == {"state": "on", "status": "running"}


def test_a_refusal_shows_code_message_and_request_id(smply: Smply, server: FakeServer) -> None:
    server.refuse(
        "POST /machines/toggler/i/session-123/events",
        403,
        {"code": "rejected-by-machine-authorizer", "error": "the machine said no", "requestId": "req_7"},
    )
    outcome = smply(*SEND, "--auth-context", ACT, "--event", "toggle")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "error: the machine said no (403, rejected-by-machine-authorizer, request req_7)\n"
    )


def test_lists_are_one_array_a_page_in_a_pipe(smply: Smply, server: FakeServer) -> None:
    server.give(
        "GET /machines/toggler/i",
        {"instances": [instance("a"), instance("b")], "cursor": "next one"},
        {"instances": [instance("c")]},
    )
    outcome = smply("instances", "list", "-m", "toggler")

    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(outcome.out)
    second, _ = decoder.raw_decode(outcome.out[end:].lstrip())
    assert [[row["name"] for row in page] for page in (first, second)] == [["a", "b"], ["c"]]
    assert first[0] == {"name": "a", "createdAt": "t", "machineVersion": {"id": "ver_1"}, "status": "running"}
    assert [request.url.params.get("cursor") for request in server.requests] == [None, "next one"]


def test_a_query_asks_for_what_its_options_say(smply: Smply, server: FakeServer) -> None:
    found = [{"slug": "a", "indexValue": "/x y"}, {"slug": "b", "indexValue": "/z"}]
    server.give("GET /machines/docs/indexes/by-folder/query", {"instances": found})
    rows = [{"name": "a", "indexValue": "/x y"}, {"name": "b", "indexValue": "/z"}]
    query = ("instances", "query", "--machine", "docs", "--index", "by-folder")

    assert smply(*query).json == rows
    assert dict(server.requests[-1].url.params) == {"dir": "asc"}
    assert smply(*query, "--op", "gte", "--value", "/x y", "--sort", "desc").json == rows
    assert dict(server.requests[-1].url.params) == {"op": "gte", "value": "/x y", "dir": "desc"}
    smply("instances", "query", "-m", "docs", "-i", "by-folder", "-o", "eq", "-v", "", "-s", "asc")
    assert dict(server.requests[-1].url.params) == {"op": "eq", "value": "", "dir": "asc"}


@pytest.mark.parametrize(
    "options", [("--op", "eq"), ("--value", "x"), ("--op", "like", "--value", "x"), ("--sort", "up")]
)
def test_a_query_that_makes_no_sense_is_not_asked(
    smply: Smply, server: FakeServer, options: tuple[str, ...]
) -> None:
    outcome = smply("instances", "query", "-m", "docs", "-i", "by-folder", *options)

    assert outcome.code != 0
    assert server.requests == []


def test_pages_of_a_query_go_on_behind_the_last(smply: Smply, server: FakeServer) -> None:
    page: dict[str, object] = {"instances": [{"slug": "a", "indexValue": "x"}], "cursor": "more"}
    server.give("GET /machines/docs/indexes/i/query", page, {"instances": []})
    outcome = smply("instances", "query", "-m", "docs", "-i", "i", "-o", "eq", "-v", "x")

    assert outcome.code == 0
    assert [dict(request.url.params) for request in server.requests] == [
        {"op": "eq", "value": "x", "dir": "asc"},
        {"op": "eq", "value": "x", "dir": "asc", "cursor": "more"},
    ]


def test_transitions_are_listed_as_they_are(smply: Smply, server: FakeServer) -> None:
    transitions = [
        {"createdAt": "2024-01-01T00:00:00.000Z", "state": "off", "event": {"type": "xstate.init"}}
    ]
    server.give("GET /machines/toggler/i/a/events", {"transitions": transitions})

    assert smply("instances", "list-transitions", "-m", "toggler", "-i", "a").json == transitions


def test_an_endless_list_ends(smply: Smply, server: FakeServer) -> None:
    server.give("GET /machines/toggler/i", {"instances": [], "cursor": "same"})

    outcome = smply("instances", "list", "-m", "toggler")
    assert outcome.code == 1
    assert "twice" in outcome.err
