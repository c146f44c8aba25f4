"""What import-linter cannot say of the layers; its own contracts run in `make check`."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "statebacked"
# The one module that writes and reads JSON there: short texts of the core's own, never a user's.
OWN_TEXTS = SOURCE / "core" / "wording.py"
# Shows a worker's text to readers: for the API and the stores, never for a decision.
SHOWN_TEXTS = SOURCE / "model" / "tagged.py"
BOTH = {*(SOURCE / "core").glob("*.py"), *(SOURCE / "model").glob("*.py")}
PURE = sorted(BOTH - {OWN_TEXTS, SHOWN_TEXTS})


@pytest.mark.parametrize("file", PURE, ids=lambda file: file.name)
def test_core_and_model_take_structs_from_msgspec_and_read_no_json(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msgspec"):
            assert (node.module, {a.name for a in node.names}) in (
                ("msgspec", {"Struct"}),
                ("msgspec.structs", {"replace"}),
            )
        if isinstance(node, ast.ImportFrom):
            assert node.module != "statebacked.model.tagged"
        if isinstance(node, ast.Import):
            assert all(not a.name.startswith("msgspec") for a in node.names)


def test_only_the_driver_commits_to_the_store() -> None:
    """The store's `commit` is handed to a driver, and called by nobody else."""
    for file in sorted(SOURCE.rglob("*.py")):
        if file.is_relative_to(SOURCE / "store"):
            continue
        tree = ast.parse(file.read_text())
        handed_over = {
            keyword.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Driver"
            for keyword in node.keywords
            if keyword.arg == "commit"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "commit" and node not in handed_over:
                owner = ast.unparse(node.value)
                assert owner in {"decision", "draft"}, f"{file}:{node.lineno}: {owner}.commit"
