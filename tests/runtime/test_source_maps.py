"""Where machine code threw, by the file, line and column of its source: in answers, logs and refusals."""

import base64
import json
import re
from pathlib import Path

import pytest

from statebacked.api.source_maps import with_clean_source_map
from statebacked.cli.build import MIGRATION, Kind, build, read_js
from tests.cli.npm_folders import deno_environment
from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal
from tests.runtime.test_worker_sandbox import MACHINE

pytestmark = pytest.mark.worker

LIB = """
export interface Failing { readonly fails?: boolean }
debugger;
/*! @license kept */
export const lost = (): never => (undefined as unknown as { a: { b: never } }).a.b;
"""
# Each `lost()` is the only one of its line.
FAILING = """import { assign, createMachine, PROMISE } from "xstate";
import { lost } from "./lib/guards.ts";
type Asked = { authContext?: { fails?: boolean } };
export const allowRead = ({ authContext }: Asked) => authContext?.fails ?
  lost() : true;
export const allowWrite = ({ authContext }: Asked) => !authContext?.fails ||
  lost();
const config: any = {
  initial: "a", context: {}, predictableActionArguments: true,
  states: {
    a: { on: {
      assign: { actions: assign(() =>
        lost()) },
      guard: { target: "a", GUARD: () =>
        lost() },
      action: { actions: () =>
        lost() },
      caught: { actions: () => { try {
        lost() } catch (thrown) { console.log("caught", thrown); } } },
      serve: "served",
    } },
    served: { invoke: { src: SERVICE(async () =>
      lost()) } },
  },
};
export default createMachine(config);
"""
WORDS = {
    4: {"PROMISE": "send", "GUARD": "cond", "SERVICE": ""},
    5: {"PROMISE": "fromPromise", "GUARD": "guard", "SERVICE": "fromPromise"},
}
LOST_AT = "lib/guards.ts:5:80"


def failing(folder: Path, major: int, text: str = FAILING) -> Path:
    for word, meant in WORDS[major].items():
        text = text.replace(word, meant)
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib" / "guards.ts").write_text(LIB)
    file = folder / f"machine{major}.ts"
    file.write_text(text)
    return file


def stored(file: Path, *, kind: Kind | None = None, has_source_map: bool = True) -> str:
    """What a server hands to a worker of what `smply` and `dev` upload."""
    made = {} if kind is None else {"kind": kind}
    bundle = build(file, env=deno_environment(), skips_validation=True, has_source_map=has_source_map, **made)
    return with_clean_source_map(bundle.module).decode()


def line_of(major: int, before: str) -> int:
    """The line after the one in which this text stands."""
    text = FAILING.replace("GUARD", WORDS[major]["GUARD"])
    return text[: text.index(before)].count("\n") + 2


@pytest.mark.parametrize("major", [4, 5])
def test_errors_of_machine_code_name_file_line_and_column_of_the_source(tmp_path: Path, major: int) -> None:
    with WorkerProcess(major) as worker:
        assert worker.load(stored(failing(tmp_path, major)))["t"] == "loaded"
        instance = Instance(worker)
        instance.create({})
        for event, before in (("assign", "assign: {"), ("guard", "guard: {")):
            refused = instance.send(event)
            assert isinstance(refused, Refusal)
            assert refused.message.endswith(f"(reading 'a') ({LOST_AT})"), refused.message
            trace = "\n".join(worker.log_lines(1))
            assert f"({LOST_AT})" in trace
            assert f"machine{major}.ts:{line_of(major, before)}:" in trace
        instance.send("caught")
        shown = "\n".join(worker.log_lines(1))
        assert re.search(rf"caught TypeError: .*\n +at lost \({re.escape(LOST_AT)}\)", shown)
        instance.send("action")
        shown = "\n".join(worker.log_lines(1))
        assert f"machine{major}.ts:{line_of(major, 'action: {')}:" in shown
        instance.send("serve")
        instance.settle()
        told = worker.log_lines(1)
        assert any(line.startswith("no state handles ") and line.endswith(f"({LOST_AT})") for line in told)
        assert instance.may_read({"fails": True}) == [False]
        assert f"allowRead threw: Cannot read properties of undefined (reading 'a') ({LOST_AT})" in (
            worker.log_lines(1)
        )
        assert "statebacked-source:" not in "\n".join(worker.log_lines(1))
        assert str(tmp_path) not in "\n".join(worker.log_lines(1))


def test_an_authorizer_that_throws_is_told_with_its_place(tmp_path: Path, worker5: WorkerProcess) -> None:
    worker5.load(stored(failing(tmp_path, 5)))
    item = {"k": "init", "source": "client", "auth": True, "context": False}
    worker5.compute(1, 0, [item], ['{"fails": true}'])
    assert worker5.log_lines(1)[0].endswith(
        f"allowWrite threw: Cannot read properties of undefined (reading 'a') ({LOST_AT})"
    )


def test_code_that_throws_while_it_loads_is_refused_with_its_place(
    tmp_path: Path, worker5: WorkerProcess
) -> None:
    file = failing(tmp_path, 5, FAILING + "\n  lost();\n")
    answer = worker5.load(stored(file))
    assert answer["t"] == "unloadable"
    assert answer["message"].endswith(f"(reading 'a') ({LOST_AT})")


def test_a_migration_that_throws_is_told_with_its_place(tmp_path: Path, worker5: WorkerProcess) -> None:
    file = failing(
        tmp_path, 5, 'import { lost } from "./lib/guards.ts";\nexport const upgradeState = lost;\n'
    )
    worker5.send({"t": "load", "migration": True}, [stored(file, kind=MIGRATION)])
    worker5.receive("loaded")
    outline = {"value": "a", "states": [["a"]], "history": [], "timers": [], "children": []}
    worker5.send({"t": "migrate", "n": 2}, [json.dumps(outline), "{}"])
    message = worker5.receive("stuck")[0]["message"]
    assert message.endswith(f"threw: Cannot read properties of undefined (reading 'a') ({LOST_AT})")


def test_without_a_source_map_places_are_those_of_the_bundle(tmp_path: Path, worker5: WorkerProcess) -> None:
    code = stored(failing(tmp_path, 5), has_source_map=False)
    assert "sourceMappingURL" not in code
    worker5.load(code)
    instance = Instance(worker5)
    instance.create({})
    refused = instance.send("assign")
    assert isinstance(refused, Refusal)
    assert refused.message == "Cannot read properties of undefined (reading 'a')"
    assert re.search(r"at lost \(bundle:\d+:\d+\)", "\n".join(worker5.log_lines(1)))
    instance.send("caught")
    assert "blob:" not in "\n".join(worker5.log_lines(1))


def test_debugger_statements_and_legal_comments_do_no_harm(tmp_path: Path, worker5: WorkerProcess) -> None:
    code = stored(failing(tmp_path, 5))
    assert "debugger" in code
    assert "@license kept" in code
    assert worker5.load(code)["t"] == "loaded"
    assert isinstance(Instance(worker5).create({}), object)


FOREIGN = '\nconst lost = (e) => e.b.c;\ntry { lost({}); } catch (e) { console.log("SEEN " + e.stack); }\n'
MAP = {"version": 3, "sources": ["read-from-a-file:///a.ts"], "names": [], "mappings": "AAAA;" * 20}


def test_no_file_is_read_because_code_names_it_as_its_source_map(
    tmp_path: Path, worker5: WorkerProcess
) -> None:
    file = tmp_path / "outside.map"
    file.write_text(json.dumps(MAP))
    comment = f"//# sourceMappingURL={file.as_uri()}"
    worker5.load(f"{MACHINE}{FOREIGN}{comment}\n{comment}")
    seen = "\n".join(worker5.log_lines())
    assert "SEEN" in seen
    assert "read-from-a-file" not in seen
    assert re.search(r"at lost \(bundle:\d+:\d+\)", seen)


@pytest.mark.parametrize(
    "mappings",
    [
        "g" * 900_000,
        ";" * 900_000,
        "AAAA," * 180_000,
        "C," * 450_000,
        "CAAC,DAAC," * 90_000,
        "ADDD" * 1_000,
        "+" * 900_000,
        "//////////A" * 80_000,
        "A//////////////////A,",
    ],
)
def test_a_hostile_map_costs_its_own_worker_little_and_ends_nothing(
    worker5: WorkerProcess, mappings: str
) -> None:
    hostile = json.dumps({"version": 3, "sources": ["a.ts"], "names": [], "mappings": mappings}).encode()
    comment = b"\n//# sourceMappingURL=data:application/json;base64," + base64.b64encode(hostile)
    code = with_clean_source_map((MACHINE + FOREIGN).encode() + comment)
    assert b"base64," in code
    answer = worker5.load(code.decode())
    assert answer["t"] == "loaded"
    assert any(line.startswith("SEEN ") for line in worker5.log_lines())


def test_the_map_beside_a_bundle_of_ones_own_comes_along(tmp_path: Path, worker5: WorkerProcess) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "package.json").write_text("{}")
    file = tmp_path / "dist" / "machine.js"
    file.write_text(f"{MACHINE}{FOREIGN}//# sourceMappingURL=machine.js.map\n")
    linked = {**MAP, "sources": ["../src/machine.ts"], "sourcesContent": ["secret"]}
    (tmp_path / "dist" / "machine.js.map").write_text(json.dumps(linked))

    worker5.load(with_clean_source_map(read_js(file).module).decode())
    assert "at lost (src/machine.ts:1:1)" in "\n".join(worker5.log_lines())
    bare = read_js(file, has_source_map=False).module
    assert b"sourceMappingURL" not in bare
