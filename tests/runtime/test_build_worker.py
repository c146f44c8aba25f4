"""The build of the worker: what it makes, and what it says when it cannot."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.runtime.driver import DIST

TOOL = Path(__file__).parents[2] / "tools" / "build_worker.py"


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_worker", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("major", [4, 5])
def test_every_name_that_may_be_imported_leads_to_a_file_that_boot_imports(major: int) -> None:
    folder = DIST / str(major)
    imports = json.loads((folder / "import-map.json").read_text())["imports"]
    given = {path for path in imports.values() if not path.startswith(("./not-available/", "./other-major/"))}
    boot = (folder / "boot.js").read_text()
    assert given
    for path in given:
        assert (folder / path).is_file()
        assert f'import "{path}";' in boot
    assert not (folder / "not-available").exists()
    assert not (folder / "other-major").exists()
    assert imports["xstate"] == imports["npm:xstate"] == imports[f"npm:xstate@{major}"]


def test_without_a_registry_the_build_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENO_DIR", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    build_worker = tool()
    with pytest.raises(build_worker.BuildFailed, match="npm registry cannot be reached") as failure:
        build_worker.build()
    assert "npmrc" in str(failure.value)
