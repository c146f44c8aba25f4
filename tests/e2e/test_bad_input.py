"""Bad code, bad uploads, bad names, bad bodies: each is refused in words and changes nothing."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.asking import Asker, Json, answered, refused, subscriber
from tests.e2e.servers import E2E, RealServer, real_server

GOOD = (E2E / "machines" / "faulty.js").read_text()
AUTHORIZERS = "export const allowRead = () => true;\nexport const allowWrite = () => true;\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A second is all the time that code has to answer."""
    with real_server(tmp_path_factory.mktemp("server"), ["--step-ms", "1000"]) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    """Of a machine `good` with an instance `one`."""
    asker = Asker(server)
    asker.deploy("good", GOOD)
    answered(asker.create("good", "one"))
    return asker


@pytest.fixture
def machine(admin: Asker) -> Callable[[], Json]:
    """What the admin sees of the machine `good`: must be the same before and after."""

    def look() -> Json:
        return {
            **answered(admin.http.get("/machines/good")),
            **answered(admin.http.get("/machines/good/v")),
            **admin.look("good", "one"),
        }

    return look


@pytest.fixture(scope="module")
def zipped(admin: Asker) -> Json:
    """A version that is begun and said to be uploaded with gzip."""
    return admin.begin_version("good", gzipped=True)


@pytest.fixture(scope="module")
def plain(admin: Asker) -> Json:
    """A version that is begun and said to be uploaded as it is."""
    return admin.begin_version("good")


# --- code ----------------------------------------------------------------------------------------

BAD_CODE = [
    ("export default createMachine({", "SyntaxError: Unexpected"),
    ("throw new Error('the module is not ready');" + GOOD, "the module is not ready"),
    ("export default nowhere;" + AUTHORIZERS, "nowhere"),
    (AUTHORIZERS, "default"),
    ("export default { states: {} };" + AUTHORIZERS, "machine"),
    (GOOD.replace("export const allowRead", "const allowRead"), "allowRead"),
    (GOOD.replace("export const allowWrite", "const allowWrite"), "allowWrite"),
    (GOOD.replace("export const allowWrite =", "export const allowWrite = 1; const other ="), "allowWrite"),
    ("import fs from 'node:fs';" + GOOD, "node:fs"),
    ("import _ from 'https://example.com/lodash.js';" + GOOD, "bundle all dependencies"),
    ("import _ from 'lodash';" + GOOD, "lodash"),
    ("import { nothing } from 'xstate';" + GOOD, "nothing"),
    ("for (;;);" + GOOD, "loop"),
    ("const kept = []; for (;;) kept.push(new Uint8Array(8_000_000).fill(1));" + GOOD, "ran out of memory"),
]


@pytest.mark.parametrize(("code", "reason"), BAD_CODE)
def test_code_that_is_no_machine_is_refused_with_the_reason(
    admin: Asker, machine: Callable[[], Json], code: str, reason: str
) -> None:
    before = machine()
    message = refused(admin.add_version("good", code), 400, "invalid-machine")
    assert reason in message
    assert "TypeError: SyntaxError" not in message
    assert machine() == before


def test_a_user_sees_the_reason_and_what_to_do_next(server: RealServer, tmp_path: Path) -> None:
    file = tmp_path / "broken.js"
    file.write_text(GOOD.replace("export default createMachine(", "export default somebody.createMachine("))
    said = server.failing_smply("machines", "create", "--machine", "broken", "--js", str(file))
    assert "somebody is not defined" in said
    assert "smply machine-versions create -m broken" in said
    assert "Traceback" not in said

    file.write_text(GOOD.replace("export const allowRead", "const allowRead"))
    said = server.failing_smply("machines", "create", "--machine", "no-reader", "--node", str(file))
    assert "broken.js does not export allowRead" in said
    assert server.failing_smply("machines", "get", "--machine", "no-reader").startswith("error: ")


def test_an_xstate_that_this_server_does_not_run_is_refused(admin: Asker) -> None:
    assert "XState 3" in refused(admin.add_version("good", GOOD, xstate="3.3.3"), 400, "invalid-machine")
    answer = admin.http.post("/machines/good/v", json={"xstate": "newest"})
    assert answer.json()["parameter"] == "xstate"
    refused(answer, 400, "invalid-parameter")


# --- uploads -------------------------------------------------------------------------------------


def noise(size: int) -> str:
    """A comment that gzip makes no smaller than about three quarters."""
    state, digits = 1, []
    for _ in range(size // 16):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        digits.append(f"{state:016x}")
    return "//" + "".join(digits) + "\n"


def test_a_bundle_up_to_the_limits_is_taken(admin: Asker) -> None:
    admin.deploy("large", "/*" + "x" * (9_990_000 - len(GOOD)) + "*/" + GOOD)
    assert answered(admin.create("large", "one"))["state"] == "idle"


def test_a_bundle_over_the_limits_is_refused(
    admin: Asker, machine: Callable[[], Json], plain: Json, zipped: Json
) -> None:
    before = machine()
    refused(admin.upload(plain, b"//" + b"x" * 10_000_000), 413, "bundle-too-large")
    large = gzip.compress(noise(2_200_000).encode(), compresslevel=1)
    assert 1_000_000 < len(large) < 2_000_000
    refused(admin.upload(zipped, large, says_gzip=True), 413, "bundle-too-large")
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=1)
    assert len(bomb) < 1_000_000
    refused(admin.upload(zipped, bomb, says_gzip=True), 413, "bundle-too-large")
    for begun in (plain, zipped):
        refused(admin.finalize("good", begun), 409, "invalid-state")
    assert machine() == before


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"this is no gzip", "gzip"),
        (gzip.compress(GOOD.encode())[:-20], "cut off"),
        (gzip.compress(GOOD.encode()) + b"more", "after its end"),
        (gzip.compress(GOOD.encode()) * 2, "after its end"),
        (gzip.compress(b"\xff\xfe not UTF-8"), "UTF-8"),
    ],
)
def test_a_wrong_gzip_is_refused(
    admin: Asker, machine: Callable[[], Json], zipped: Json, damaged: bytes, reason: str
) -> None:
    before = machine()
    assert reason in refused(admin.upload(zipped, damaged, says_gzip=True), 400, "invalid-body")
    refused(admin.finalize("good", zipped), 409, "invalid-state")
    assert machine() == before


def test_gzip_that_does_not_say_so_is_refused(admin: Asker, plain: Json) -> None:
    assert "gzip" in refused(admin.upload(plain, gzip.compress(GOOD.encode())), 400, "invalid-body")


def test_an_upload_that_is_no_form_is_refused(admin: Asker, plain: Json) -> None:
    url = plain["codeUploadUrl"]
    refused(httpx.post(url, content=GOOD), 400, "invalid-body")
    refused(httpx.post(url, data={"file": "x" * 20}), 400, "invalid-body")
    refused(httpx.post(url, data={"a": "b"}, files={"other": b"x"}), 400, "invalid-body")
    refused(httpx.post(url, data={"a": "b" * 20_000}, files={"file": b"x"}), 413, "body-too-large")
    form = {"content-type": "multipart/form-data; boundary=b"}
    refused(httpx.post(url, headers=form, content=b"--b\r\nno form"), 400, "invalid-body")


def test_an_upload_is_for_one_version_and_once(admin: Asker, machine: Callable[[], Json]) -> None:
    begun = admin.begin_version("good")
    assert admin.upload(begun, GOOD.encode()).status_code == 204
    answered(admin.finalize("good", begun))
    before = machine()
    refused(admin.upload(begun, b"export default 1"), 409, "already-finalized")
    refused(admin.finalize("good", begun), 409, "already-finalized")
    forged = {**begun, "codeUploadUrl": begun["codeUploadUrl"][:-3] + "abc"}
    refused(admin.upload(forged, GOOD.encode()), 404, "not-found")
    swapped = {**begun, "machineVersionId": begun["codeUploadUrl"].rsplit("/", 1)[1]}
    refused(admin.finalize("good", swapped), 404, "not-found")
    assert machine() == before


# --- names ---------------------------------------------------------------------------------------


def test_what_does_not_exist_is_not_found(admin: Asker) -> None:
    get, post = admin.http.get, admin.http.post
    for path in ("/machines/none", "/machines/none/i", "/machines/none/v", "/machines/good/i/none/events"):
        refused(get(path), 404, "not-found")
    refused(get("/machines/none/i/one"), 404, "not-found")
    refused(get("/machines/good/i/none"), 404, "not-found")
    refused(get("/machines/good/i/none/admin"), 404, "not-found")
    refused(admin.send("none", "one", "count"), 404, "not-found")
    refused(admin.send("good", "none", "count"), 404, "not-found")
    refused(admin.create("none", "one"), 404, "not-found")
    refused(post("/machines/none/v"), 404, "not-found")
    unknown = {"slug": "new", "machineVersionId": "ver_AAAAAAAAAAAAAAAAAAAAAA"}
    refused(post("/machines/good", json=unknown), 404, "not-found")
    refused(post("/machines/good", json={**unknown, "machineVersionId": "latest"}), 404, "not-found")
    refused(admin.get("good", "new"), 404, "not-found")
    assert "openapi" in refused(get("/nowhere"), 404, "not-found")
    refused(admin.http.patch("/machines/good"), 405, "method-not-allowed")
    with subscriber(admin) as listener:
        listener.subscribe("good", "none")
        error = listener.until(lambda m: m["type"] == "error")
    assert (error["status"], error["code"], error["requestId"]) == (404, "not-found", "r1")


def test_a_machine_without_a_version_has_no_instances(admin: Asker) -> None:
    assert admin.http.post("/machines", json={"slug": "empty"}).status_code == 201
    message = refused(admin.create("empty", "one"), 400, "no-current-version")
    assert "version" in message


def test_a_taken_name_is_a_conflict(admin: Asker, machine: Callable[[], Json]) -> None:
    before = machine()
    assert "exists" in refused(admin.create("good", "one", {"filler": "new"}), 409, "conflict")
    assert "exists" in refused(admin.http.post("/machines", json={"slug": "good"}), 409, "conflict")
    assert machine() == before


def test_a_taken_name_is_told_to_a_user_with_what_to_do(server: RealServer, admin: Asker) -> None:
    file = str(E2E / "machines" / "faulty.js")
    said = server.failing_smply("machines", "create", "--machine", "good", "--js", file)
    assert "smply machine-versions create -m good" in said


BAD_MACHINE_NAMES = ["", "a b", "a.b", "a/b", "é", "x" * 129]
BAD_INSTANCE_NAMES = ["", "a b", "a/b", "é", "..", ".", "a\x00", "a%b", "x" * 129]


def test_a_bad_name_is_refused_wherever_it_stands(admin: Asker) -> None:
    for name in BAD_MACHINE_NAMES:
        refused(admin.http.post("/machines", json={"slug": name}), 400, "invalid-name")
    for name in BAD_INSTANCE_NAMES:
        refused(admin.create("good", name), 400, "invalid-name")
    for path in ("/machines/a.b/i/one", "/machines/good/i/a%2Fb", "/machines/good/i/%FF"):
        refused(admin.http.get(path), 400, "invalid-name")
        refused(admin.http.get(path + "/admin"), 400, "invalid-name")
        refused(admin.http.post(path + "/events", json={"event": "x"}), 400, "invalid-name")
    refused(admin.http.get("/machines/a%20b"), 400, "invalid-name")
    assert "1 to 128" in refused(admin.create("good", "x" * 129), 400, "invalid-name")
    listed = answered(admin.http.get("/machines/good/i"))["instances"]
    assert [instance["slug"] for instance in listed] == ["one"]


# --- bodies --------------------------------------------------------------------------------------

BAD_EVENTS: list[bytes] = [
    b"",
    b"{",
    b"count",
    b"null",
    b"[]",
    b'{"event":}',
    b'{"event":"count"} and more',
    b'{"evnt":"count"}',
    b'{"event":null}',
    b'{"event":1}',
    b'{"event":["count"]}',
    b'{"event":{}}',
    b'{"event":{"kind":"count"}}',
    b'{"event":{"type":1}}',
    b'{"event":""}',
    b'{"event":{"type":""}}',
    b'{"event":{"type":"count","by":NaN}}',
    b'{"event":"\xff"}',
    b'{"event":"\\ud83"}',
    b'\xef\xbb\xbf{"event":',
    b'{"event":{"type":"count","deep":' + b"[" * 70 + b"]" * 70 + b"}}",
    b"[" * 300_000,
    b'{"event":{"type":"count","deep":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
]


@pytest.mark.parametrize("body", BAD_EVENTS, ids=lambda body: repr(body[:40]))
def test_a_body_that_is_no_event_is_refused(admin: Asker, body: bytes, machine: Callable[[], Json]) -> None:
    before = machine()
    answer = admin.http.post("/machines/good/i/one/events", content=body)
    refused(answer, 400, "invalid-body")
    assert machine() == before


def test_a_body_over_the_limit_is_refused(admin: Asker, machine: Callable[[], Json]) -> None:
    before = machine()
    event = {"type": "count", "filler": "x" * 1_000_000}
    refused(admin.send("good", "one", event), 413, "body-too-large")
    chunks = iter([b'{"event":"', *[b"x" * 100_000] * 11, b'"}'])
    refused(admin.http.post("/machines/good/i/one/events", content=chunks), 413, "body-too-large")
    refused(admin.create("good", "two", {"filler": "x" * 1_000_000}), 413, "body-too-large")
    assert machine() == before


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"slug":1}', b'{"slug":"two","context":[]}', b'{"slug":"two","context":"x"}'],
)
def test_a_body_that_creates_nothing_is_refused(admin: Asker, body: bytes) -> None:
    refused(admin.http.post("/machines/good", content=body), 400, "invalid-body")
    refused(admin.get("good", "two"), 404, "not-found")


def test_a_bad_event_is_told_to_a_user(server: RealServer, admin: Asker) -> None:
    named = ["instances", "send-event", "--machine", "good", "--instance", "one", "--auth-context", "{}"]
    assert '"type"' in server.failing_smply(*named, "--event", '{"kind": "count"}')
    assert "the guard says no" in server.failing_smply(*named, "--event", "guard-throws")
    assert "reserved" in server.failing_smply(*named, "--event", "xstate.init")
    named[5] = "nobody"
    assert "no machine or instance" in server.failing_smply(*named, "--event", "count")


def test_a_damaged_cursor_and_a_bad_limit_are_refused(admin: Asker) -> None:
    get = admin.http.get
    refused(get("/machines", params={"cursor": "damaged"}), 400, "invalid-cursor")
    for name in ("b1", "b2"):
        admin.http.post("/machines", json={"slug": name})
    cursor = answered(get("/machines", params={"limit": "1"}))["cursor"]
    refused(get("/machines/good/i", params={"cursor": cursor}), 400, "invalid-cursor")
    for limit in ("0", "1001", "-1", "x", "1e3", "9" * 5_000):
        answer = get("/machines", params={"limit": limit})
        refused(answer, 400, "invalid-parameter")
        assert answer.json()["parameter"] == "limit"
