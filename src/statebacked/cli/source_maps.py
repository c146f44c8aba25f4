"""The source map of a bundle, as it is uploaded: at the end of the code, with paths within the project.

The text of the sources is left out, and so is where on this machine the project lies.
"""

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote, unquote

__all__ = ["SOURCE_MAP_BYTES_MAX", "comment_of", "source_map_of", "split"]

# What a server keeps (docs/reference/limits.md).
SOURCE_MAP_BYTES_MAX = 1_000_000

_COMMENT = b"\n//# sourceMappingURL="
_PROJECT_FILES = ("package.json", "deno.json", "deno.jsonc")


def source_map_of(written: Path, file: Path) -> bytes | None:
    """The map in the file `written`, which a bundler wrote for the bundle of `file`; None when there is none
    that can be used."""
    try:
        found = json.loads(written.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    sources, mappings, names = (found.get(key) for key in ("sources", "mappings", "names"))
    if not isinstance(sources, list) or not isinstance(mappings, str) or not isinstance(names, list):
        return None
    project = _project_folder(file)
    clean = {
        "version": 3,
        "sources": [_source(str(name), written.parent, project) for name in sources],
        "names": [""] * len(names),
        "mappings": mappings,
    }
    return json.dumps(clean, separators=(",", ":")).encode()


def split(code: bytes) -> tuple[bytes, str | None]:
    """A module without the comment at its end that says where its source map is, and what that says."""
    start = code.rfind(_COMMENT)
    said = code[start + len(_COMMENT) :].strip()
    if start < 0 or not said or len(said.split()) > 1 or any(quote in said for quote in (b"'", b'"', b"`")):
        return code, None
    return code[: start + 1], said.decode("utf-8", errors="replace")


def comment_of(source_map: bytes) -> bytes:
    """The line that ends the code."""
    return _COMMENT + b"data:application/json;base64," + base64.b64encode(source_map) + b"\n"


def _project_folder(file: Path) -> Path:
    """The nearest folder that says that it is a project, else the file's own."""
    for parent in file.parents:
        if any((parent / name).is_file() for name in _PROJECT_FILES):
            return parent
    return file.parent


def _source(name: str, written_in: Path, project: Path) -> str:
    """A path within the project; of a package that lies elsewhere the part within `node_modules`, else the
    name alone."""
    path = Path(os.path.normpath(written_in / unquote(name.removeprefix("file://"))))
    if path.is_relative_to(project):
        return quote(path.relative_to(project).as_posix())
    parts = path.parts
    start = len(parts) - 1
    for mark in ("node_modules", "npm"):
        if mark in parts:
            start = len(parts) - 1 - parts[::-1].index(mark)
            break
    return quote("/".join(parts[start:]))
