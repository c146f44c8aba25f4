"""How `smply` fails: one line that says what to do, exit code 1."""

import httpx
import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import FakeServer

from statebacked.cli.output import printable, write_table


def raise_(error: Exception) -> httpx.Response:
    raise error


def test_a_server_that_does_not_answer_is_named(smply: Smply, server: FakeServer) -> None:
    server.answers["GET /orgs"] = lambda _request: raise_(httpx.ConnectError("refused"))
    outcome = smply("orgs", "list")

    assert outcome.code == 1
    assert "nothing answers at http://127.0.0.1:7070" in outcome.err
    assert "statebacked dev" in outcome.err


def test_a_slow_server_is_named(smply: Smply, server: FakeServer) -> None:
    server.answers["GET /orgs"] = lambda _request: raise_(httpx.ReadTimeout("slow"))

    assert "no answer" in smply("orgs", "list").err


@pytest.mark.parametrize(
    "response",
    [httpx.Response(200, text="<html>"), httpx.Response(200, json=[]), httpx.Response(200, json={})],
)
def test_another_kind_of_server_is_recognised(
    smply: Smply, server: FakeServer, response: httpx.Response
) -> None:
    server.answers["GET /orgs"] = lambda _request: response
    outcome = smply("orgs", "list")

    assert outcome.code == 1
    assert "is this a statebacked server?" in outcome.err


def test_a_refusal_without_json_still_has_its_status(smply: Smply, server: FakeServer) -> None:
    server.answers["GET /orgs"] = lambda _request: httpx.Response(
        502, text="<html>", headers={"x-request-id": "req_3"}
    )
    assert smply("orgs", "list").err == "error: Bad Gateway (502, request req_3)\n"


def test_a_refusal_names_the_wrong_parameter(smply: Smply, server: FakeServer) -> None:
    server.refuse("GET /orgs", 400, {"code": "invalid-parameter", "error": "no", "parameter": "cursor"})

    assert smply("orgs", "list").err == "error: no [parameter cursor] (400, invalid-parameter)\n"


def test_an_org_that_is_none_of_yours_is_named_with_the_way_out(smply: Smply, server: FakeServer) -> None:
    server.refuse("GET /orgs", 403, {"code": "missing-org", "error": "not your org"})
    outcome = smply("--org", "org_old", "orgs", "list")

    assert "org_old" in outcome.err
    assert "smply orgs default set" in outcome.err


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1", "http://a b/"])
def test_a_url_that_is_none_is_told(stranger: Smply, url: str) -> None:
    outcome = stranger("--api-url", url, "--access-token", "t", "orgs", "list")

    assert outcome.code == 1
    assert url in outcome.err


def test_a_servers_words_cannot_steer_the_terminal(smply: Smply, server: FakeServer) -> None:
    server.refuse("GET /orgs", 400, {"code": "x", "error": "\x1b[2Jgone\r\u202eexe"})
    outcome = smply("orgs", "list")

    assert "\x1b" not in outcome.err
    assert "\\u001b[2Jgone\\u000d\\u202eexe" in outcome.err


def test_json_keeps_its_value_and_holds_no_control_character(smply: Smply, server: FakeServer) -> None:
    orgs = [{"id": "org_1", "name": "\x1b]0;title\x07 \x9b \u2028 ü 🙂"}]
    server.give("GET /orgs", {"orgs": orgs})
    outcome = smply("orgs", "list")

    assert outcome.json == orgs
    assert outcome.out.replace("\n", "").isprintable()


def test_a_table_holds_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    write_table([{"name": "a\x1b[31m\nb", "list": ["x\x9b"]}], ["name", "list"])

    shown = capsys.readouterr().out
    assert "\x1b" not in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "a\\u001b[31m\\u000ab" in shown


@pytest.mark.parametrize("text", ["plain", "Zoë 🙂 – ok", "a|b.c@d:e+f~g"])
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_an_unknown_command_is_not_a_failure_of_the_server(smply: Smply, server: FakeServer) -> None:
    assert smply("machine", "list").code == 2
    assert smply("instances", "get", "-m", "a").code == 2
    assert server.requests == []


def test_keys_are_made_for_a_use_or_with_scopes(smply: Smply, server: FakeServer) -> None:
    outcome = smply("keys", "create", "--name", "mine")
    smply("keys", "create", "-n", "ci", "--use", "ci")
    smply("keys", "create", "-n", "some", "--scopes", "events.read,state.read", "-s", "instances.read")

    assert outcome.json == {"id": "sbk_1", "key": "sbsec_1"}
    assert "never shown again" in outcome.err
    assert server.bodies("POST /keys") == [
        {"name": "mine", "use": "production"},
        {"name": "ci", "use": "ci"},
        {"name": "some", "scopes": ["events.read", "state.read", "instances.read"]},
    ]


@pytest.mark.parametrize("options", [("--use", "ci", "--scopes", "state.read"), ("--use", "all")])
def test_a_key_of_no_known_kind_is_not_asked_for(
    smply: Smply, server: FakeServer, options: tuple[str, ...]
) -> None:
    assert smply("keys", "create", "-n", "x", *options).code == 1
    assert server.requests == []


def test_keys_are_listed_and_deleted(smply: Smply, server: FakeServer) -> None:
    server.give("GET /keys", {"keys": [{"id": "sbk_1", "name": "a", "scopes": []}]})

    assert smply("keys", "list").json == [{"id": "sbk_1", "name": "a", "scopes": []}]
    assert smply("keys", "delete", "--key", "sbk_1").code == 0
    assert server.requests[-1].url.path == "/keys/sbk_1"


def test_an_org_is_created(smply: Smply, server: FakeServer) -> None:
    server.give("POST /orgs", {"id": "org_2"})

    assert smply("orgs", "create", "--name", "second").json == {"orgId": "org_2"}
    assert server.bodies("POST /orgs") == [{"name": "second"}]
