"""How `smply` fails: one line that says what to do, exit code 1."""

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cli.conftest import ADMIN, Smply
from tests.cli.fake_server import STATE, URL, FakeServer

from statebacked.cli.output import printable, write_table


def raise_(error: Exception) -> httpx.Response:
    raise error


def not_connected(cause: Exception) -> Callable[[httpx.Request], httpx.Response]:
    """As httpx raises it: its own error from that of its transport from that of the system."""

    def answer(_request: httpx.Request) -> httpx.Response:
        try:
            raise httpx.ConnectError(str(cause)) from cause
        except httpx.ConnectError as exc:
            raise httpx.ConnectError(str(exc)) from exc

    return answer


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name 127.0.0.1 does not resolve"),
        (ConnectionRefusedError(111, "refused"), "nothing listens at http://127.0.0.1:7070: is the server"),
        (TimeoutError("timed out"), "no connection to http://127.0.0.1:7070 in 5 seconds"),
        (ssl.SSLError(1, "[SSL] record layer failure"), "does not speak TLS"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (Exception("other"), "cannot connect to http://127.0.0.1:7070"),
    ],
)
def test_each_way_not_to_reach_a_server_has_its_words(
    smply: Smply, server: FakeServer, cause: Exception, said: str
) -> None:
    server.answers["GET /orgs"] = not_connected(cause)
    outcome = smply("orgs", "list")

    assert outcome.code == 1
    assert said in outcome.err
    assert "admin.json" in outcome.err


@contextmanager
def listening(answer: bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A real port whose every connection is answered with these bytes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                talk = self.request if tls is None else tls.wrap_socket(self.request, server_side=True)
                talk.recv(10_000)
                talk.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
    file = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def over_the_network(stranger: Smply, url: str) -> str:
    stranger.server.has_network = True
    outcome = stranger("--api-url", url, "--access-token", "t", "orgs", "list")
    assert (outcome.code, outcome.out) == (1, "")
    return outcome.err


def test_a_name_that_does_not_resolve_is_told(stranger: Smply) -> None:
    assert "the name sb.invalid does not resolve" in over_the_network(stranger, "https://sb.invalid")


def test_a_closed_port_is_told(stranger: Smply) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        assert f"nothing listens at {url}" in over_the_network(stranger, url)


def test_a_certificate_that_is_not_trusted_is_told(stranger: Smply, tmp_path: Path) -> None:
    with listening(b"", tls=certificate(tmp_path)) as port:
        told = over_the_network(stranger, f"https://localhost:{port}")
    assert f"the certificate of https://localhost:{port} is not trusted (self-signed certificate)" in told


def test_http_and_https_taken_for_each_other_are_told(stranger: Smply, tmp_path: Path) -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as port:
        assert "is it http:// there?" in over_the_network(stranger, f"https://127.0.0.1:{port}")
    with listening(b"", tls=certificate(tmp_path)) as port:
        assert "is it https:// there?" in over_the_network(stranger, f"http://127.0.0.1:{port}")


def test_another_protocol_is_told(stranger: Smply) -> None:
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert "without a whole answer in HTTP" in over_the_network(stranger, f"http://127.0.0.1:{port}")


def test_a_redirect_names_the_address_to_use(smply: Smply, server: FakeServer) -> None:
    server.answers["GET /orgs"] = lambda _request: httpx.Response(
        301, headers={"location": "https://sb.test/orgs"}
    )
    assert "the server is at https://sb.test/orgs" in smply("orgs", "list").err


PUBLIC = "https://sb.test/api"


def public_server(smply: Smply, server: FakeServer) -> None:
    """One whose public address cannot be reached from here."""
    admin = {**ADMIN, "url": PUBLIC, "localUrl": URL}
    (smply.folder / ".statebacked" / "admin.json").write_text(json.dumps(admin))
    server.unreachable_hosts = {"sb.test"}


def test_the_address_on_this_machine_is_used_where_the_public_one_cannot_be_reached(
    smply: Smply, server: FakeServer
) -> None:
    public_server(smply, server)
    outcome = smply("instances", "create", "-m", "m", "-i", "i", "-a", "{}")

    assert (outcome.code, outcome.json) == (0, STATE)
    assert "using http://127.0.0.1:7070, the server's address on this machine" in outcome.err
    assert len(server.bodies("POST /machines/m")) == 1


def test_an_upload_goes_to_the_address_that_is_reached(smply: Smply, server: FakeServer) -> None:
    public_server(smply, server)
    server.give(
        "POST /machines/m/v",
        {"machineVersionId": "s", "codeUploadUrl": f"{PUBLIC}/uploads/1", "codeUploadFields": {}},
    )
    (smply.folder / "m.js").write_text("export { x as default, allowRead, allowWrite }")
    outcome = smply("machine-versions", "create", "-m", "m", "-r", "1", "--js", "m.js")

    assert outcome.code == 0
    assert outcome.err.count("the server's address on this machine") == 1
    assert len(server.uploads) == 1


def test_a_public_address_that_answers_is_the_one_that_is_used(smply: Smply, server: FakeServer) -> None:
    public_server(smply, server)
    server.unreachable_hosts = set()
    outcome = smply("keys", "delete", "-k", "sbk_1")

    assert (outcome.code, server.requests[-1].url.host) == (0, "sb.test")


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


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1", "http://a b"])
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
