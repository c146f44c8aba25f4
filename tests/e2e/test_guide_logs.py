"""docs/guide/logs.md, pasted block by block."""

from pathlib import Path

from tests.e2e.fences import blocks_of
from tests.e2e.servers import ROOT, RealServer
from tests.e2e.test_quick_start import Reader

DOCUMENT = ROOT / "docs" / "guide" / "logs.md"


def test_the_guide_to_logs_is_true_as_pasted(server: RealServer, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "package.json").write_text('{"dependencies": {"xstate": "5.33.3"}}')
    reader = Reader(server, folder, "5")
    for block in blocks_of(DOCUMENT):
        reader.read(block)
    assert (reader.runs, reader.outputs) == (3, 1)
    assert reader._printed.splitlines() == ["who is it? ada", "who is it? ada", "hello"]
