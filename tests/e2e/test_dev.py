"""`statebacked dev` as a process: what it prints works when pasted, changes are deployed, the page works."""

import json
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.servers import BIN, E2E, ROOT

WAIT_S = 60
TOGGLER = ROOT / "examples" / "toggler"


@dataclass(slots=True)
class Dev:
    """A running `statebacked dev` and what it has said."""

    process: subprocess.Popen[bytes]
    said: str = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Waits for words that match; only what comes after them is looked at the next time."""
        assert self.process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while (found := re.search(pattern, self.said, re.MULTILINE)) is None:
                assert selector.select(WAIT_S), f"never said {pattern!r}:\n{self.said}"
                data = os.read(self.process.stderr.fileno(), 65536)
                assert data, f"ended without saying {pattern!r}:\n{self.said}"
                self.said += data.decode()
        self.said = self.said[found.end() :]
        return found


@contextmanager
def dev(data: Path, *arguments: str) -> Iterator[Dev]:
    process = subprocess.Popen(
        [BIN / "statebacked", "dev", "--port", "0", "--page-port", "0", "--data", data, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield Dev(process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        process.stderr.close()


def paste(commands: str, home: Path) -> str:
    """In a terminal that knows nothing yet."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-euc", commands],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A copy of the toggler that may be changed."""
    file = tmp_path / "app" / "toggler.ts"
    file.parent.mkdir()
    file.write_bytes((TOGGLER / "toggler.ts").read_bytes())
    return file


def test_what_dev_prints_works_when_pasted(tmp_path: Path) -> None:
    with dev(tmp_path / "data", f"example-machine={TOGGLER / 'toggler.ts'}") as running:
        running.until(r"^example-machine: deployed")
        pasted = running.until(r"In another terminal:\n\n((?:.+\n)+)")[1]
        shown = paste(pasted, tmp_path / "home")

    assert '"toggleCount": 1' in shown
    assert pasted.startswith("export ")


SESSION = ["--machine", "toggler", "--instance", "session-123"]
AUTH = ["--auth-context", '{"sid": "session-123"}']


def edit(machine: Path, before: str, after: str) -> None:
    text = machine.read_text()
    assert before in text
    machine.write_text(text.replace(before, after))


def send_toggle(data: Path) -> tuple[int, str]:
    return smply(data, "instances", "send-event", *SESSION, *AUTH, "--event", "toggle")


def test_changed_code_is_deployed_and_instances_go_on_in_it_with_their_context(
    tmp_path: Path, machine: Path
) -> None:
    data = tmp_path / "data"
    with dev(data, str(machine)) as running:
        running.until(r"^toggler: deployed")
        pasted = running.until(r"In another terminal:\n\n((?:.+\n)+)")[1]
        paste(pasted, tmp_path / "home")  # creates session-123 and toggles it: on, 1
        running.until(r"getOrCreate")

        edit(machine, "toggleCount + 1", "toggleCount + 10")
        running.until(r"^toggler: deployed")
        running.until(r"^  1 instance goes on in the new code with its next event: session-123\.$")
        code, shown = send_toggle(data)
        assert (code, json.loads(shown)["publicContext"]) == (0, {"toggleCount": 11})

        machine.write_text(machine.read_text() + "const wrong: number = '';\n")
        running.until(r"^toggler: not deployed: .*type errors")
        running.until(r"^toggler.ts:\d+:7 TS2322")
        assert json.loads(send_toggle(data)[1])["publicContext"] == {"toggleCount": 21}  # on
        edit(machine, "const wrong: number = '';\n", "")

        # The state in which the instance is, exists no more.
        edit(machine, 'on: { on: { toggle: { target: "off"', 'lit: { on: { toggle: { target: "off"')
        edit(machine, 'target: "on"', 'target: "lit"')
        running.until(r"^toggler: deployed")
        running.until(r"1 instance stays on the version that created it:\n +session-123 \(ver_[\w-]+\): .*on")
        assert json.loads(send_toggle(data)[1])["publicContext"] == {
            "toggleCount": 31
        }  # off, in its own code

        edit(machine, "toggleCount + 10", "toggleCount + 100")
        running.until(r"^  1 instance goes on in the new code with its next event: session-123\.$")
        assert json.loads(send_toggle(data)[1])["state"] == "lit"

    with dev(data, f"toggler={machine}") as running:
        running.until(r"^toggler: unchanged")
    with dev(data, "--reset", f"toggler={machine}") as running:
        running.until(r"^toggler: deployed")
        running.until(r"getOrCreate")
        assert "instance stays" not in running.said


def test_instances_stay_where_they_are_when_that_is_asked_for(tmp_path: Path, machine: Path) -> None:
    data = tmp_path / "data"
    with dev(data, "--no-migrate", str(machine)) as running:
        running.until(r"getOrCreate")
        smply(data, "instances", "create", *SESSION, *AUTH)
        edit(machine, "toggleCount + 1", "toggleCount + 10")
        running.until(r"^  1 instance stays on the version that created it: session-123 \(ver_[\w-]+\)\.$")
        assert json.loads(send_toggle(data)[1])["publicContext"] == {"toggleCount": 1}


def test_an_error_of_machine_code_names_its_place_in_the_source(tmp_path: Path, machine: Path) -> None:
    data = tmp_path / "data"
    edit(
        machine,
        "count: assign(({ context }) => ({",
        "count: assign(({ context }) => (\n  (undefined as unknown as { lost: 1 }).lost, {",
    )
    line = machine.read_text().split("\n").index("  (undefined as unknown as { lost: 1 }).lost, {") + 1
    with dev(data, str(machine)) as running:
        running.until(r"getOrCreate")
        smply(data, "instances", "create", *SESSION, *AUTH)
        code, told = send_toggle(data)
        assert code == 1
        assert f"Cannot read properties of undefined (reading 'lost') (toggler.ts:{line}:41)" in told
        running.until(rf"^toggler/session-123 ! +at .*toggler\.ts:{line}:41")
    stored = (data / "statebacked.sqlite3").read_bytes()
    assert str(tmp_path).encode() not in stored  # nothing of where the project lies


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.ts"], "there is no file .*nowhere.ts"),
        (["."], "is a folder: name the machine's file"),
        (["good.ts.txt"], "good.ts.txt is neither TypeScript nor JavaScript"),
        (["a.ts", "other/a.ts"], "two files are named a: name them apart with NAME=FILE"),
    ],
)
def test_what_cannot_be_developed_is_told_before_a_server_starts(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "other").mkdir()
    for name in ("good.ts.txt", "a.ts", "other/a.ts"):
        (tmp_path / name).write_text("")
    done = subprocess.run(
        [BIN / "statebacked", "dev", "--port", "0", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 1
    assert re.search(rf"^statebacked dev: .*{told}", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".statebacked" / "admin.json").exists()


def test_a_port_of_the_page_that_is_none_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "statebacked", "dev", "--page-port", "99999", "x.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 2
    assert "--page-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_to_be_pasted_before_there_is_a_machine(tmp_path: Path) -> None:
    file = tmp_path / "loud.js"
    file.write_text('import { createMachine } from "xstate";\nexport const allowRead = () => true;\n')
    with dev(tmp_path / "data", str(file)) as running:
        running.until(r"^loud: not deployed: loud.js does not export default and allowWrite")
        running.until(r"^egress ")
        file.write_text(LOUD)
        deployed = running.until(r"^loud: deployed")
        assert "In another terminal" not in deployed.string[: deployed.start()]
        running.until(r"In another terminal")


LOUD = """
import { createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = ({ authContext }) => authContext.fails ? authContext.fails.toFixed() : true;
const shout = ({ event }) => { console.log(event.text); console.error("twice", { n: 2 }); };
const fail = (when) => () => { throw new Error(`${when} the commit`); };
export default createMachine({
  on: { shout: { actions: [shout, fail("after")] }, ask: { guard: fail("before"), actions: shout } },
});
"""


def test_what_machine_code_writes_is_shown_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "loud.js"
    file.write_text(LOUD)
    data = tmp_path / "data"
    with dev(data, str(file)) as running:
        running.until(r"getOrCreate")

        def send(event: dict[str, str], auth: str = "{}") -> tuple[int, str]:
            sent = ["--instance", "one", "--auth-context", auth, "--event", json.dumps(event)]
            return smply(data, "instances", "send-event", "--machine", "loud", *sent)

        smply(data, "instances", "create", "--machine", "loud", "--instance", "one", "--auth-context", "{}")
        assert send({"type": "shout", "text": "hello \x1b[31mred"})[0] == 0
        running.until(r"^loud/one \| hello \\x1b\[31mred$")
        running.until(r"^loud/one ! twice \{ n: 2 \}$")
        running.until(r"^loud/one ! .*after the commit")
        assert "before the commit" in send({"type": "ask"})[1]
        assert send({"type": "shout"}, '{"fails": true}')[0] == 1
        running.until(r"^loud/one ! allowWrite .*toFixed is not a function")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0


def smply(data: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what it prints."""
    done = subprocess.run(
        [BIN / "smply", *arguments],
        env={**os.environ, "STATEBACKED_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_example_page_works_in_a_browser(tmp_path: Path) -> None:
    counter = f"counter={E2E / 'machines' / 'counter.ts'}"
    with dev(tmp_path / "data", f"example-machine={TOGGLER / 'toggler.ts'}", counter) as running:
        page = running.until(r"^page +(http\S+)$")[1]
        done = subprocess.run(
            ["node", "--test", "page.test.mjs"],
            cwd=E2E,
            env={**os.environ, "PAGE_URL": page, "MACHINE": "counter"},
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.returncode == 0, done.stdout + done.stderr
