"""Every promise of docs/reference/promises.md is shown by tests that exist and that ask a real server."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "promises.md"
NUMBERS = [*range(35, 86), *range(116, 126), *range(132, 136)]
ROW = re.compile(r"^\| (F\d{3}) \| (.+?) \| (.+) \|$", re.MULTILINE)
PLACE = re.compile(r"`([^`]+)::([^`]+)`")


def shown_by() -> dict[str, list[tuple[str, str]]]:
    """Of each promise the files and names of its tests."""
    return {number: PLACE.findall(places) for number, _, places in ROW.findall(PAGE.read_text())}


@cache
def named_in(file: str) -> frozenset[str]:
    text = (TESTS / file).read_text()
    if file.endswith(".mjs"):
        return frozenset(re.findall(r'^test\("([^"]+)", ', text, re.MULTILINE))
    functions = [
        n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def test_every_promise_has_a_row_in_its_order() -> None:
    assert [number for number, _, _ in ROW.findall(PAGE.read_text())] == [f"F{n:03}" for n in NUMBERS]


@pytest.mark.parametrize(("number", "places"), shown_by().items())
def test_a_promise_is_shown_by_tests_of_a_real_server(number: str, places: list[tuple[str, str]]) -> None:
    assert any(file.startswith("e2e/") for file, _ in places), number
    for file, name in places:
        assert name in named_in(file), f"{number}: {file}::{name}"


def test_every_script_with_tests_is_run_by_a_python_test() -> None:
    python = "".join(file.read_text() for file in (TESTS / "e2e").glob("test_*.py"))
    scripts = {file for places in shown_by().values() for file, _ in places if file.endswith(".mjs")}
    assert {file for file in scripts if f'"{file.removeprefix("e2e/")}"' not in python} == set()
