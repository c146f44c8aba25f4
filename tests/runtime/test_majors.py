"""Which major of XState runs a bundle that says nothing of it, and what is refused: guards would be lost."""

import os
from pathlib import Path

import pytest

from statebacked.cli.build import build
from tests.e2e.fences import blocks_of
from tests.runtime.judging import judge, major_of_judged

pytestmark = pytest.mark.worker

ROOT = Path(__file__).parents[2]
OPEN = "export const allowRead = () => true, allowWrite = () => true;\n"


def machine(config: str, imports: str = "createMachine", rest: str = "") -> str:
    return f'import {{ {imports} }} from "xstate";\n{OPEN}export default createMachine({config}){rest};'


GUARDED = """{ initial: "a", states: {
  a: { on: { GO: { guard: () => false, target: "b" } } }, b: {} } }"""


def test_a_machine_with_a_guard_of_xstate_5_runs_under_5_without_a_hint() -> None:
    assert major_of_judged(machine(GUARDED)) == 5
    assert major_of_judged(machine(GUARDED.replace("guard:", "cond:"))) == 4


@pytest.mark.parametrize(
    "config",
    [
        "{ context: { n: 0 }, on: { GO: { actions: assign({ n: ({ context }) => context.n + 1 }) } } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign(({ context: c }) => ({ n: c.n + 1 })) } } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign((x) => ({ n: x.context.n + 1 })) } } }",
        "{ context: ({ input }) => ({ n: input.n }) }",
        "{ context: { n: 0 }, entry: function (_a) { var event = _a.event; console.log(event); } }",
        "{ on: { GO: { actions: { type: 'say', params: { word: 'hi' } } } } }",
        "{ on: { GO: { target: '.a', reenter: true } }, initial: 'a', states: { a: {} } }",
        "{ types: {}, initial: 'a', states: { a: {} } }",
        "{ on: { 'mouse.*': {} } }",
        "{ initial: 'a', states: { a: { type: 'final' } }, output: () => 1 }",
        "{ invoke: { src: 'x', input: { a: 1 } } }",
        "{ invoke: { src: 'x' } }, { actors: { x: createMachine({}) } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign({ n: ({ context }, by) => context.n + by }) } } }",
    ],
)
def test_signs_of_xstate_5_in_a_configuration(config: str) -> None:
    assert major_of_judged(machine(config, "assign, createMachine")) == 5


@pytest.mark.parametrize(
    "config",
    [
        "{ context: { n: 0 }, on: { GO: { actions: assign({ n: (context) => context.n + 1 }) } } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign({ n: ({ n }) => n + 1 }) } } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign({ n: (_, event) => event.n }) } } }",
        "{ context: { n: 0 }, on: { GO: { actions: assign((_, { n }) => ({ n })) } } }",
        "{ predictableActionArguments: true, initial: 'a', states: { a: {} } }",
        "{ schema: {}, initial: 'a', states: { a: {} } }",
        "{ initial: 'a', states: { a: { activities: ['beep'] } } }",
        "{ initial: 'a', states: { a: { type: 'final', data: { n: 1 } } } }",
        "{ invoke: { src: 'x', autoForward: true } }",
        "{ invoke: { src: (context, event) => Promise.resolve(1) } }",
        "{ invoke: { src: 'x' } }, { services: { x: () => Promise.resolve(1) } }",
        "{ initial: 'a', on: { GO: { target: '.a', internal: false } }, states: { a: {} } }",
        "{ on: { GO: { target: '.a', in: '#x' } }, initial: 'a', states: { a: { id: 'x' } } }",
        "{ initial: 'a', states: { a: { on: { '': 'b' } }, b: {} } }",
    ],
)
def test_signs_of_xstate_4_in_a_configuration(config: str) -> None:
    assert major_of_judged(machine(config, "assign, createMachine")) == 4


def test_a_machine_without_a_sign_runs_under_4_and_its_author_is_told() -> None:
    judged = judge(machine("{ initial: 'a', states: { a: { on: { GO: 'b' } }, b: {} } }"))
    assert not isinstance(judged, str)
    assert judged.xstate == "4.38.3"
    assert judged.warnings[0].startswith("nothing in this machine tells XState 4 from 5: it runs as 4.38.3")


def test_a_contradiction_is_refused_and_says_what_to_send() -> None:
    both = """{ initial: "a", states: { a: { on: { GO: { guard: () => false, target: "b" } } },
      b: { on: { GO: { cond: () => false, target: "a" } } } } }"""
    judged = judge(machine(both))
    assert isinstance(judged, str)
    for part in ("`cond` at b.on.GO", "`guard` at a.on.GO", '{"xstate": "5.33.3"}', "--node", "package.json"):
        assert part in judged


@pytest.mark.parametrize(("hint", "key"), [("4.38.3", "guard"), ("5.33.3", "cond"), ("5.33.3", "in")])
def test_guards_that_the_major_passes_over_are_refused_also_with_a_hint(hint: str, key: str) -> None:
    value = "'#b'" if key == "in" else "() => false"
    config = (
        f"{{ initial: 'a', states: {{ a: {{ on: {{ GO: {{ {key}: {value}, target: 'b' }} }} }}, b: {{}} }} }}"
    )
    judged = judge(machine(config), hint)
    assert isinstance(judged, str)
    assert f"passes over `{key}` at a.on.GO" in judged


def test_a_guard_of_an_invoked_machine_counts() -> None:
    kid = f"const kid = createMachine({GUARDED});\n"
    config = "{ initial: 'a', states: { a: { invoke: { id: 'kid', src: kid } } } }"
    assert major_of_judged(machine(config).replace("export default", kid + "export default")) == 5


def test_what_only_one_major_can_load_is_for_that_one() -> None:
    plain = "{ initial: 'a', states: { a: {} } }"
    assert major_of_judged(machine(plain, "createMachine, setup")) == 5
    assert major_of_judged(machine(plain, "createMachine, send")) == 4
    assert major_of_judged(machine(plain, rest=".provide({})")) == 5
    assert major_of_judged(machine(plain, rest=".withConfig({})")) == 4
    judged = judge(machine(GUARDED, "createMachine, send"))
    assert isinstance(judged, str)
    assert "runs as XState 4, which passes over `guard` at a.on.GO" in judged


@pytest.mark.parametrize(
    ("specifier", "major"),
    [
        ("npm:xstate@4.33.0", 4),
        ("npm:xstate@4", 4),
        ("npm:xstate@^4.30.1", 4),
        ("npm:/xstate@4.0.0", 4),
        ("npm:xstate@5.19.0", 5),
        ("npm:xstate@~5.9", 5),
        ("npm:xstate@5.x", 5),
    ],
)
def test_any_version_of_both_majors_can_be_named_by_an_import(specifier: str, major: int) -> None:
    plain = machine("{ initial: 'a', states: { a: {} } }").replace('"xstate"', f'"{specifier}"')
    assert major_of_judged(plain) == major


def test_a_version_that_is_named_with_a_module_of_its_own() -> None:
    code = machine("{ on: { GO: { guard: not('x'), target: undefined } } }")
    assert major_of_judged('import { not } from "npm:xstate@5.18.2/guards";\n' + code) == 5


@pytest.mark.parametrize("hint", ["4.38.3", "5.33.3"])
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("{ initial: 'nowhere', states: { a: {} } }", "nowhere"),
        ("{ initial: 'a', states: { a: {}, b: { initial: 'nowhere', states: { c: {} } } } }", "nowhere"),
        ("{ initial: 'a', states: { a: {}, h: { type: 'history', target: 'lost' } } }", "lost"),
        ("{ initial: 'a', states: { a: {}, h: { type: 'history', target: '#lost' } } }", "lost"),
        ("{ initial: 'a', states: { a: { on: { GO: 'gone' } } } }", "gone"),
    ],
)
def test_a_state_that_is_named_and_not_there_is_refused(hint: str, config: str, told: str) -> None:
    judged = judge(machine(config), hint)
    assert isinstance(judged, str)
    assert told in judged


@pytest.mark.parametrize("hint", ["4.38.3", "5.33.3"])
def test_an_invoked_machine_without_an_end_is_warned_of(hint: str) -> None:
    kid = "const kid = createMachine({ initial: 'a', states: { a: {}, b: { %s } } });\n"
    config = "{ initial: 'a', states: { a: { invoke: { src: kid } } } }"

    def warnings(end: str) -> tuple[str, ...]:
        judged = judge(machine(config).replace("export default", kid % end + "export default"), hint)
        assert not isinstance(judged, str)
        return judged.warnings

    assert warnings("type: 'final'") == ()
    (warning,) = warnings("")
    assert "a.invoke invokes a machine that has no final state" in warning


CORPUS = sorted(
    path
    for pattern in (
        "examples/*/*.[jt]s",
        "tests/fidelity_machines/[45]/*.ts",
        "tests/e2e/machines/*.[jt]s",
        "tests/e2e/settling/stage*.js",
        "tests/e2e/attacks/*.js",
    )
    for path in ROOT.glob(pattern)
    if "export default" in path.read_text()
)


def told_by(path: Path) -> int:
    """The corpus says in its names which are machines of XState 4."""
    return 4 if path.stem.endswith("4") or path.parent.name == "4" or "xstate4" in path.parent.name else 5


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_machine_of_the_corpus_gets_its_major_without_a_hint(path: Path) -> None:
    code = build(path, env=os.environ, skips_validation=True).code.decode()
    assert major_of_judged(code if "allowWrite" in code else f"{code}\n{OPEN}") == told_by(path)


def test_the_machines_of_the_guides_get_their_major_without_a_hint(tmp_path: Path) -> None:
    judged = []
    for document in sorted((ROOT / "docs").glob("**/*.md")):
        for block in blocks_of(document):
            if block.language not in ("ts", "js") or "export default" not in block.text:
                continue
            if "allowWrite" not in block.text:
                continue
            (tmp_path / "machine.ts").write_text(block.text)
            code = build(tmp_path / "machine.ts", env=os.environ, skips_validation=True).code.decode()
            assert major_of_judged(code) == int(block.xstate or 5), block.text
            judged.append(document.name)
    assert "quick-start.md" in judged
