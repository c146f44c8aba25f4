"""Which of deno's type errors stop an upload."""

from pathlib import Path

from statebacked.cli.deno_tool import Finished, offline_reason
from statebacked.cli.typecheck import judge

FOLDER = Path("/home/me/app")
OURS = """TS2322 [ERROR]: Type 'string' is not assignable to type 'number'.
const n: number = "x";
      ^
    at file:///home/me/app/src/m.ts:12:7
"""
NO_TYPES = """TS2307 [ERROR]: Import "not-installed" not a dependency
  hint: If you want to use the npm package, try running `deno add npm:not-installed`
    at file:///home/me/app/m.ts:7:26
"""
IMPLICIT = """TS7031 [ERROR]: Binding element 'x' implicitly has an 'any' type.
export const allowWrite = ({ x }) => true;
                             ^
    at file:///home/me/app/m.ts:11:30
"""
OPTION = """TS5101 [ERROR]: Option 'baseUrl' is deprecated and will stop functioning in TypeScript 7.0.
  Visit https://aka.ms/ts6 for migration information.
"""
END = "\nFound 2 errors.\n\nerror: Type checking failed."


def check(*errors: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    verdict = judge(Finished(code=1, out="", err="\n".join(errors) + END), FOLDER)
    return verdict.errors, verdict.warnings


def test_an_error_in_the_machine_is_fatal_with_its_place_and_line() -> None:
    errors, warnings = check(OURS)

    assert warnings == ()
    assert "\n---\n".join(errors) == (
        "src/m.ts:12:7 TS2322: Type 'string' is not assignable to type 'number'.\n"
        'const n: number = "x";\n      ^'
    )


def test_a_package_without_types_is_told_and_excuses_what_follows_from_it() -> None:
    errors, warnings = check(NO_TYPES, IMPLICIT)

    assert errors == ()
    assert warnings == ("no types for not-installed (m.ts:7:26): not checked against it",)


def test_a_package_without_types_excuses_nothing_else() -> None:
    errors, warnings = check(NO_TYPES, OURS)

    assert [error.partition(" ")[0] for error in errors] == ["src/m.ts:12:7"]
    assert len(warnings) == 1


def test_an_implicit_any_of_ones_own_is_fatal() -> None:
    errors, _ = check(IMPLICIT)
    assert [error.partition(" ")[0] for error in errors] == ["m.ts:11:30"]


def test_a_complaint_about_compiler_options_is_none_about_the_machine() -> None:
    assert check(OPTION) == ((), ())


def test_a_checker_that_cannot_work_is_a_warning() -> None:
    verdict = judge(Finished(code=1, out="", err="error: Failed resolving types."), FOLDER)

    assert verdict.errors == ()
    assert verdict.warnings == ("types are not checked: Failed resolving types.",)


def test_no_error_is_no_verdict() -> None:
    verdict = judge(Finished(code=0, out="", err="Check m.ts"), FOLDER)
    assert (verdict.errors, verdict.warnings) == ((), ())


def test_only_an_unreachable_registry_is_called_one() -> None:
    told = 'error: Failed loading http://127.0.0.1:9/xstate for package "xstate"\n  0: error sending request'

    assert "http://127.0.0.1:9/xstate" in (offline_reason(told) or "")
    assert offline_reason('error: Import "x" not a dependency') is None
