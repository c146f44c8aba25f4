"""The reference says what the code says: settings, limits, error codes, links."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from statebacked.model import errors, limits
from statebacked.settings import Settings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def rows(page: str) -> list[list[str]]:
    """The cells of a page's tables, heads and rules left out."""
    lines = [line for line in (REFERENCE / page).read_text().splitlines() if line.startswith("| ")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in {"flag", "limit", "status"}]


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0]: (row[1], row[2], row[3]) for row in rows("settings.md")}
    assert documented == {
        f"`--{f.name.replace('_', '-')}`": (
            f"`STATEBACKED_{f.name.upper()}`",
            "" if f.default is None else f"`{f.default}`",
            f.metadata["help"],
        )
        for f in fields(Settings)
    }


def test_every_limit_is_documented_with_its_value() -> None:
    documented = {row[0].strip("`"): int(row[1].replace(",", "")) for row in rows("limits.md")}
    assert documented == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_every_limit_is_used() -> None:
    source = "".join(
        file.read_text()
        for file in (ROOT / "src").rglob("*.py")
        if file.name != "limits.py" and "/dist/" not in str(file)
    )
    unused = [name for name in vars(limits) if name.isupper() and name not in source]
    assert unused == []


def codes_of(cls: type[errors.StateBackedError]) -> set[tuple[int, str]]:
    own = {(cls.status, cls.code)} if "code" in vars(cls) else set()
    return own.union(*(codes_of(sub) for sub in cls.__subclasses__()))


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = {(int(row[0]), row[1].strip("`")) for row in rows("errors.md")}
    raised = codes_of(errors.StateBackedError) | {(s, c) for c, s in errors.REFUSAL_STATUS.items()}
    assert documented == raised | {(500, "internal")}


def test_every_script_of_the_machines_compared_with_plain_xstate_is_listed() -> None:
    text = (REFERENCE / "statecharts.md").read_text()
    listed = dict(re.findall(r"^\| (\w+) \| (\d+) \| [^|]+ \|$", text, re.MULTILINE))
    scripts = json.loads((ROOT / "tests" / "fidelity_machines" / "scripts.json").read_text())
    assert listed == {name: str(len(script["steps"])) for name, script in scripts.items()}

    settling = dict(re.findall(r"^\| ([a-z ]+) \| (\d+) \|$", text, re.MULTILINE))
    scripts = json.loads((ROOT / "tests" / "e2e" / "settling" / "scripts.json").read_text())
    assert settling == {name: str(len(steps)) for name, steps in scripts.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
