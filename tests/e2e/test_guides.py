"""Pages of docs/guide, pasted block by block in a folder that has the packages."""

from pathlib import Path

import pytest

from tests.e2e.fences import blocks_of
from tests.e2e.servers import E2E, ROOT, real_server
from tests.e2e.test_quick_start import Reader

GUIDE = ROOT / "docs" / "guide"


@pytest.mark.parametrize(
    ("page", "runs", "outputs"),
    [
        ("children.md", 6, 3),
        ("indexes.md", 5, 3),
        ("migrations.md", 12, 7),
        ("operating.md", 9, 4),
        ("restarts.md", 4, 1),
    ],
)
def test_a_guide_is_true_as_pasted(tmp_path: Path, page: str, runs: int, outputs: int) -> None:
    folder = tmp_path / "my-app"
    folder.mkdir()
    (folder / "node_modules").symlink_to(E2E / "node_modules")
    (folder / "examples").symlink_to(ROOT / "examples")
    # As operating.md says, so that nobody waits for what fails five times.
    arguments = ["--retry-ms", "100"]
    with real_server(tmp_path / "data", arguments) as server:
        reader = Reader(server, folder, "5")
        for block in blocks_of(GUIDE / page):
            reader.read(block)
    assert (reader.runs, reader.outputs) == (runs, outputs)
