"""fetch through the real server: services of both majors, what a deadline ends, and the page that tells."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.asking import Asker
from tests.e2e.fences import blocks_of
from tests.e2e.servers import BIN, ROOT, RealServer, real_server

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs" / "guide" / "environment.md"
MAJORS = pytest.mark.parametrize("xstate", ["4.38.3", "5.33.3"])


class Shop(ThreadingHTTPServer):
    """Answers /price.json; /silent is not answered until the client goes, which `lost` tells."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lost = threading.Event()
        self.asked = threading.Event()
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def shop(self) -> Shop:
        assert isinstance(self.server, Shop)
        return self.server

    def do_GET(self) -> None:
        self.shop.paths.append(self.path)
        self.shop.asked.set()
        if self.path == "/silent":
            self.rfile.read(1)  # comes back when the client goes
            self.shop.lost.set()
            self.close_connection = True
            return
        body = json.dumps({"price": 12}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.shop.paths.append(f"{self.path} {body.decode()}")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def shop() -> Iterator[Shop]:
    with Shop() as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


MACHINE = """import { createMachine, assign@PROMISE } from "xstate";
const service = async (input) => {
  const response = await fetch(input.url, { method: input.body ? "POST" : "GET", body: input.body });
  return response.text();
};
const output = (e) => e.output ?? e.data;
const problem = (e) => e.error ?? e.data;
const told = (one, two) => ({ public: { got: output(two?.event ?? two ?? one.event) } });
const why = (one, two) => ({ public: { why: `${problem(two?.event ?? two ?? one.event).message}` } });
export const allowRead = () => true;
export const allowWrite = async ({ type, authContext }) =>
  authContext.ask === undefined || type === "initialization" || (await fetch(authContext.ask)).ok;
export default createMachine({ id: "m", initial: "idle", predictableActionArguments: true, context: @CONTEXT,
  states: {
    idle: { on: { go: "busy", act: { actions: @ACTION } } },
    busy: { invoke: { id: "svc", src: @SRC,
      onDone: { target: "idle", actions: assign(told) },
      onError: { target: "idle", actions: assign(why) } } } } });"""


def machine(xstate: str) -> bytes:
    five = xstate.startswith("5")
    parts = {
        "PROMISE": ", fromPromise" if five else "",
        "CONTEXT": "({ input }) => ({ ...input, public: {} })" if five else "{ public: {} }",
        "ACTION": "({ context }) => { service(context) }" if five else "(context) => { service(context) }",
        "SRC": "fromPromise(({ input }) => service(input)), input: ({ context }) => context"
        if five
        else "(context) => service(context)",
    }
    code = MACHINE
    for name, part in parts.items():
        code = code.replace(f"@{name}", part)
    return code.encode()


@contextmanager
def asking(
    folder: Path, xstate: str, *arguments: str, act: dict[str, str] | None = None
) -> Iterator[tuple[Asker, Shop]]:
    """A server on which the machine `m` is deployed, and what it fetches from."""
    with shop() as served, real_server(folder, arguments) as server:
        Asker(server).deploy("m", machine(xstate).decode(), xstate=xstate)
        yield Asker(server, act=act or {}), served


def public(asker: Asker, event: str) -> dict[str, str]:
    """What the machine shows after the event."""
    answer = asker.send("m", "i", event)
    assert answer.status_code == 200, answer.text
    shown: dict[str, str] = answer.json()["publicContext"]
    return shown


@MAJORS
def test_a_promise_service_fetches_and_its_result_is_the_event_that_the_reply_shows(
    tmp_path: Path, xstate: str
) -> None:
    with asking(tmp_path, xstate, "--allow-egress") as (asker, served):
        asker.create("m", "i", {"url": f"{served.url}/price.json"})
        assert json.loads(public(asker, "go")["got"]) == {"price": 12}
        asker.create("m", "j", {"url": f"{served.url}/echo", "body": "grüezi"})
        assert asker.send("m", "j", "go").json()["publicContext"] == {"got": "grüezi"}
        assert served.paths == ["/price.json", "/echo grüezi"]


@MAJORS
def test_nothing_private_is_fetched_unless_it_is_opened(tmp_path: Path, xstate: str) -> None:
    with asking(tmp_path, xstate) as (asker, served):
        for name, url in [
            ("i", served.url),
            ("j", served.url.replace("127.0.0.1", "localhost")),
            ("k", "http://169.254.169.254/latest/meta-data/"),
        ]:
            asker.create("m", name, {"url": url})
            why = asker.send("m", name, "go").json()["publicContext"]["why"]
            assert why.startswith("fetch failed: ")
            assert "is not allowed: requests go to public addresses only" in why
        assert served.paths == []


@MAJORS
def test_a_request_ends_with_the_time_to_settle(tmp_path: Path, xstate: str) -> None:
    with asking(tmp_path, xstate, "--allow-egress", "--settle-ms", "1000") as (asker, served):
        asker.create("m", "i", {"url": f"{served.url}/silent"})
        assert asker.send("m", "i", "go").json()["state"] == "busy"
        assert served.lost.wait(10)  # the service is stopped
        served.lost.clear()
        served.asked.clear()
        why = public(asker, "act")["why"]  # the service's error event comes before the action
        assert why == "the service ran past the deadline and was stopped"
        assert served.asked.wait(10)
        assert served.lost.wait(10)  # nothing waits for an action, and its time ends too


@MAJORS
def test_an_authorizer_asks_elsewhere(tmp_path: Path, xstate: str) -> None:
    with asking(tmp_path, xstate, "--allow-egress", "--step-ms", "1000") as (asker, served):
        asker.create("m", "i", {"url": f"{served.url}/price.json"})
        friend = Asker(asker.server, act={"ask": f"{served.url}/price.json"})
        assert friend.send("m", "i", "go").status_code == 200
        for path in ("silent", "%zz"):
            stranger = Asker(asker.server, act={"ask": f"{served.url.replace('http:', 'ftp:')}/{path}"})
            answer = stranger.send("m", "i", "go")
            assert (answer.status_code, answer.json()["code"]) == (403, "rejected-by-machine-authorizer")
        slow = Asker(asker.server, act={"ask": f"{served.url}/silent"})
        answer = slow.send("m", "i", "go")
        assert (answer.status_code, answer.json()["code"]) == (403, "rejected-by-machine-authorizer")
        assert served.lost.wait(10)


def test_the_page_is_true_as_pasted(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert [block.title for block in blocks if block.title] == ["price.ts", "price.json"]
    with shop() as served, real_server(tmp_path / "data", ["--allow-egress"]) as server:
        folder = tmp_path / "app"
        folder.mkdir()
        printed = ""
        for block in blocks:
            if block.title is not None:
                (folder / block.title).write_text(block.text)
            elif block.is_run:
                printed = paste(server, folder, block.text.replace("http://127.0.0.1:8123", served.url))
            elif block.is_output:
                assert json.loads(block.text).items() <= json.loads(printed).items()
        assert served.paths == ["/price.json"]


def paste(server: RealServer, folder: Path, commands: str) -> str:
    """What the last command prints; fails the test when one fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**server.environment(), "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
