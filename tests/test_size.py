"""The hard caps of CONTRIBUTING.md: what grows past them is split."""

import ast
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
LINES_MAX = 600
FUNCTION_LINES_MAX = 60


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(file.parents[2])))
def test_modules_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name
