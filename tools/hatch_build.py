"""Builds the worker's JavaScript into the wheel, so that a user needs Python and nothing else."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WorkerBuild(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's config type is not exported
    """Runs tools/build_worker.py for a wheel; an editable install builds through the Makefile."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # Any: hatchling's own signature
        if version == "editable":
            return
        path = Path(self.root) / "tools" / "build_worker.py"
        spec = importlib.util.spec_from_file_location("build_worker", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.build()
