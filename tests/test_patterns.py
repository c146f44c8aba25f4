"""Every regular expression of the server is linear in what it reads, whatever that is.

Each is found in the source, with the way in which it is used, and runs against repetitions of its own
characters and of pairs of them: twice the text may cost twice the steps, no more.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import statebacked
from tests.matching import Matcher, TooManySteps

ROOT = Path(statebacked.__file__).parent
# They read what the user of the command line has on the own machine: project files, output of own tools.
OF_THE_USER = {"cli", "serve"}
SCANS = {"search", "sub", "finditer", "findall", "split"}
# Read nothing from outside: statements and files of this package.
OWN_TEXT = {"statebacked.store.sqlite.queries", "statebacked.store.schema"}


def uses() -> Iterator[tuple[str, str, bool]]:
    """Module, name of the pattern, whether it is looked for anywhere in a text."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        module = ".".join(("statebacked", *parts))
        if parts[0] in OF_THE_USER or module in OWN_TEXT:
            continue
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name, method = node.value.id, node.attr
                if method not in SCANS | {"match", "fullmatch"}:
                    continue
                if name == "re" or isinstance(
                    getattr(importlib.import_module(module), name, None), re.Pattern
                ):
                    yield module, name, method in SCANS


USES = sorted(set(uses()))


def growth(pattern: "re.Pattern[str]", unit: str, *, scans: bool) -> float:
    """Steps for a long text by steps for one of half its length."""

    def steps(count: int) -> int:
        matcher = Matcher(pattern)
        for text in (unit * count, unit * count + "\x00"):
            if scans:
                matcher.scan(text)
            else:
                matcher.fullmatch(text)
        return matcher.steps

    return steps(60) / steps(30)


def is_linear(pattern: "re.Pattern[str]", *, scans: bool) -> bool:
    letters = sorted(Matcher(pattern).letters())[:9]
    units = [*letters, *(first + second for first, second in product(letters, repeat=2) if first != second)]
    try:
        return all(growth(pattern, unit, scans=scans) < 2.5 for unit in units)
    except TooManySteps:
        return False


@pytest.mark.parametrize("pattern", ['"(?:[^"\\\\]|\\\\.)*"', r"\s*x", r"(a|aa)*!", r"a*a*!"])
def test_the_count_of_steps_finds_what_is_not_linear(pattern: str) -> None:
    assert not is_linear(re.compile(pattern), scans=True)


@pytest.mark.parametrize(("module", "name", "scans"), USES)
def test_a_regular_expression_is_linear_in_what_it_reads(module: str, name: str, scans: bool) -> None:
    assert name != "re", "compile it, so that this test finds it"
    pattern = getattr(importlib.import_module(module), name)
    assert is_linear(pattern, scans=scans)


def test_every_pattern_that_is_compiled_is_looked_at() -> None:
    compiled = sum(
        source.count("re.compile(")
        for file in ROOT.rglob("*.py")
        if (parts := file.relative_to(ROOT).with_suffix("").parts)[0] not in OF_THE_USER
        and ".".join(("statebacked", *parts)) not in OWN_TEXT
        and (source := file.read_text())
    )
    assert len({(module, name) for module, name, _ in USES}) == compiled
