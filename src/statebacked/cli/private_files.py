"""Files that hold credentials: JSON objects that nobody else may read."""

import json
import os
from pathlib import Path

from statebacked.cli.errors import CliError

__all__ = ["read_object", "write_private"]


def read_object(path: Path) -> dict[str, object]:
    """The JSON object of a file. Raises CliError."""
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CliError(f"{path} does not exist any more: sign in again with `smply login`") from None
    except (OSError, ValueError, RecursionError) as exc:
        raise CliError(f"cannot read {path}: {exc}") from exc
    if not isinstance(value, dict):
        raise CliError(f"{path} does not hold a JSON object")
    return value


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by nobody else (0600), whatever mode an older file had. Raises
    CliError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except (OSError, ValueError) as exc:
        raise CliError(f"cannot write {path}: {exc}") from exc
