"""The source map at the end of uploaded code, made fit to be stored: bounded, and without what it tells of
the developer's machine.

The worker's Deno reads the map when an error's stack is first looked at. Here nothing of its mappings is
decoded; the names of its files become paths within the project, and the text of the sources is left out.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from statebacked.model.limits import SOURCE_MAP_BYTES_MAX, SOURCE_MAP_FILE_CHARACTERS_MAX

__all__ = ["SOURCE_SCHEME", "with_clean_source_map"]

# Deno takes the name of a source for a URL; the worker's log shortens it (runtime/js/places.ts).
SOURCE_SCHEME: Final = "statebacked-source:///"

_COMMENT: Final = b"\n//# sourceMappingURL="
_DATA: Final = re.compile(
    rb"data:application/json;(?:charset=[A-Za-z0-9-]{1,20};)?base64,([A-Za-z0-9+/]*={0,2})\s*"
)
_MAPPINGS: Final = re.compile(r"[A-Za-z0-9+/,;]*")
_ORIGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):/{0,3}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAFE_IN_PATH: Final = "/-._~@+,;=&$!*[]"


class _SourceMap(msgspec.Struct):
    """Of the format's fields those that places need; `names` counts, as mappings point into it."""

    version: int
    sources: list[str | None]
    mappings: str
    names: list[str] = []
    sourceRoot: str | None = None  # the format's spelling


def with_clean_source_map(code: bytes) -> bytes:
    """The code with its inline source map made clean, or without it when it is none, or over
    SOURCE_MAP_BYTES_MAX. Code without one is given back as it is. Linear in the size of the code."""
    start = code.rfind(_COMMENT)
    if start < 0:
        return code
    data = _DATA.fullmatch(code, start + len(_COMMENT))
    if data is None:
        return code
    clean = _clean(data[1])
    if clean is None:
        return code[: start + 1]
    return b"".join(
        (code[:start], _COMMENT, b"data:application/json;base64,", base64.b64encode(clean), b"\n")
    )


def _clean(encoded: bytes) -> bytes | None:
    """The map as it is stored; None when it is none or too large."""
    try:
        found = msgspec.json.decode(base64.b64decode(encoded), type=_SourceMap)
    except (ValueError, RecursionError):
        return None
    # Before anything is done for each of them: so many would not fit.
    is_too_long = len(SOURCE_SCHEME) * len(found.sources) + 2 * len(found.names) > SOURCE_MAP_BYTES_MAX
    if found.version != 3 or is_too_long or not _MAPPINGS.fullmatch(found.mappings):
        return None
    root = unquote(found.sourceRoot or "").replace("\\", "/")
    if len(root) > SOURCE_MAP_FILE_CHARACTERS_MAX:
        return None
    root = root.rstrip("/") + "/" if root else ""
    clean = {
        "version": 3,
        "sources": [
            SOURCE_SCHEME + quote(_project_path(root, name), safe=_SAFE_IN_PATH) for name in found.sources
        ],
        "names": [""] * len(found.names),
        "mappings": found.mappings,
    }
    encoded_map = msgspec.json.encode(clean)
    return encoded_map if len(encoded_map) <= SOURCE_MAP_BYTES_MAX else None


def _project_path(root: str, source: str | None) -> str:
    """A path within the project, whatever the map says; of a file elsewhere its package or its name alone."""
    if not source:
        return "unknown"
    name = unquote(source).replace("\\", "/")
    if not name.startswith("/") and _ORIGIN.match(name) is None:
        name = root + name
    origin = _ORIGIN.match(name)
    is_elsewhere = name.startswith("/") or (origin is not None and _is_of_a_host(origin[1]))
    steps: list[str] = []
    for step in name[0 if origin is None else origin.end() :].split("/"):
        if step == ".." and steps:
            steps.pop()
        elif step == "..":
            is_elsewhere = True
        elif step not in {"", "."}:
            steps.append(step)
    if is_elsewhere:
        steps = steps[_start_of_package(steps) :]
    path = _CONTROL.sub("_", "/".join(steps))
    return path[-SOURCE_MAP_FILE_CHARACTERS_MAX:] or "unknown"


def _is_of_a_host(origin: str) -> bool:
    """A file of the machine on which the map was made: `file:`, or a drive of Windows."""
    return origin.lower() == "file" or len(origin) == 1


def _start_of_package(steps: Sequence[str]) -> int:
    if "node_modules" not in steps:
        return max(0, len(steps) - 1)
    return len(steps) - 1 - steps[::-1].index("node_modules")
