"""Every row of docs/guide/xstate.md is shown by tests that exist."""

import re
from pathlib import Path

from tests.test_promises import PLACE, named_in

PAGE = Path(__file__).parent.parent / "docs" / "guide" / "xstate.md"


def test_every_row_names_tests_that_exist() -> None:
    text = PAGE.read_text().partition("## The same as in plain XState")[2]
    rows = [row for row in re.findall(r"^\| .+ \|$", text, re.MULTILINE) if not row.endswith("shown by |")]
    assert len(rows) > 20
    for row in rows:
        places = PLACE.findall(row)
        assert places, row
        for file, name in places:
            assert name in named_in(file), f"{file}::{name}"
