"""Folders that carry the number of the server that made them: a later one removes what a killed one left."""

import os
from contextlib import suppress
from pathlib import Path


def own_prefix() -> str:
    """How the names of this server's folders begin."""
    return f"statebacked-{os.getpid()}-"


def remove_leftovers(root: Path) -> None:
    """Those in `root` whose server is gone, if they hold nothing."""
    for left in root.glob("statebacked-*-*"):
        owner = left.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with suppress(OSError):
                left.rmdir()
