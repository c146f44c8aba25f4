"""Deno's type errors: which of them stop an upload.

An error in the machine's own code does, with its file and line. That a package brings no types, or is not
installed here, does not: it is told as a warning, and what follows from it is not told.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.deno_tool import Finished

__all__ = ["Verdict", "judge"]

_ERROR = re.compile(r"^(?:error: )?TS(\d+) \[ERROR\]: ", re.MULTILINE)
_PLACE = re.compile(r"^\s+at (file://\S+):(\d+):(\d+)\s*$", re.MULTILINE)
_NO_SUCH_PACKAGE = re.compile(r'(?:Import |resolve |module |file for module )["\']([^"\'.][^"\']*)["\']')

_NO_TYPES = frozenset({2307, 2688, 2792, 7016})
# "implicitly has an 'any' type": true of any callback whose signature stood in a package that was not found.
_IMPLICIT_ANY = frozenset({7005, 7006, 7019, 7031, 7034, 7053})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TypeError:
    code: int
    text: str
    place: str | None


def judge(finished: Finished, folder: Path) -> Verdict:
    """Sorts what `deno check`, run in `folder`, has said."""
    if finished.code == 0:
        return Verdict(errors=(), warnings=())
    found = _parse(finished.err, folder)
    if not found:
        return Verdict(errors=(), warnings=(f"types are not checked: {_first_line(finished.err)}",))
    untyped = [error for error in found if error.code in _NO_TYPES]
    excused = _NO_TYPES | _IMPLICIT_ANY if untyped else _NO_TYPES
    # An error without a place is about the compiler's options, not about the machine.
    errors = [error for error in found if error.code not in excused and error.place is not None]
    warnings = [
        f"no types for {_package(error.text)} ({error.place}): not checked against it" for error in untyped
    ]
    return Verdict(
        errors=tuple(f"{error.place} TS{error.code}: {error.text}" for error in errors),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _parse(text: str, folder: Path) -> list[_TypeError]:
    heads = [*_ERROR.finditer(text)]
    ends = [*(head.start() for head in heads), len(text)][1:]
    return [_error(head, text[head.end() : end], folder) for head, end in zip(heads, ends, strict=False)]


def _error(head: re.Match[str], rest: str, folder: Path) -> _TypeError:
    place = _PLACE.search(rest)
    body = rest[: place.start()] if place is not None else rest
    where = None
    if place is not None:
        path = place[1].removeprefix(folder.as_uri() + "/").removeprefix("file://")
        where = f"{path}:{place[2]}:{place[3]}"
    return _TypeError(code=int(head[1]), text=body.strip("\n"), place=where)


def _package(text: str) -> str:
    found = _NO_SUCH_PACKAGE.search(text)
    return found[1] if found is not None else _first_line(text)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].removeprefix("error: ")
