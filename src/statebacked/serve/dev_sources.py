"""The files that a machine's code comes from, as they are at a moment.

Two sightings differ when anything was saved between them that the code may depend on: a file with the suffix
of code in one of the folders (also one that appears, goes, or is replaced by another of its name, as editors
save), a folder in one of them, or a file that says how packages are found and types are checked.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from statebacked.cli.build import SOURCE_SUFFIXES

__all__ = ["Sighting", "Sources", "look_at"]

WATCHED_SUFFIXES = SOURCE_SUFFIXES | {".json"}
PROJECT_FILES = (
    "package.json",
    "package-lock.json",
    "deno.json",
    "deno.jsonc",
    "deno.lock",
    "tsconfig.json",
    ".npmrc",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """`folders` are watched; of `files` the content counts, too: a clock's tick may hold two saves."""

    folders: frozenset[Path]
    files: frozenset[Path]

    @classmethod
    def of(cls, files: Iterable[Path]) -> "Sources":
        """The sources of code that comes from these files; some may be missing."""
        named = frozenset(files)
        return cls(frozenset(file.parent for file in named), named)

    def with_files(self, files: Iterable[Path]) -> "Sources":
        """These, and those of more files."""
        more = Sources.of(files)
        return Sources(self.folders | more.folders, self.files | more.files)


# Larger ones are told apart by their times alone: this is read several times a second.
CONTENT_BYTES_MAX = 256_000

# What is known of a file or a folder: kind, inode, size, times of its content and of itself, content.
Seen = tuple[str, int, int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was there."""

    seen: dict[Path, Seen]

    def is_as(self, other: "Sighting") -> bool:
        """Whether nothing was saved in between. Content counts where both know it."""
        if self.seen.keys() != other.seen.keys():
            return False
        return all(_is_as(mine, other.seen[path]) for path, mine in self.seen.items())


def _is_as(one: Seen, other: Seen) -> bool:
    return one[:-1] == other[:-1] and (not one[-1] or not other[-1] or one[-1] == other[-1])


def look_at(sources: Sources) -> Sighting:
    """What is there now. What cannot be read counts as missing."""
    seen: dict[Path, Seen] = {}
    for folder in sources.folders:
        _look_at_folder(folder, sources.files, seen)
    for parent in {parent for folder in sources.folders for parent in (folder, *folder.parents)}:
        for name in PROJECT_FILES:
            _look_at_file(parent / name, seen, has_content=False)
    for file in sources.files:
        _look_at_file(file, seen, has_content=True)
    return Sighting(seen)


def _look_at_folder(folder: Path, files: frozenset[Path], seen: dict[Path, Seen]) -> None:
    try:
        entries = [*os.scandir(folder)]
    except OSError:
        return
    seen[folder] = ("folder", 0, 0, 0, 0, b"")
    for entry in entries:
        path = folder / entry.name
        if path in files:
            continue
        if path.suffix in WATCHED_SUFFIXES:
            _look_at_file(path, seen, has_content=False)
        elif not entry.name.startswith(".") and _is_folder(entry):
            seen[path] = ("folder", 0, 0, 0, 0, b"")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _look_at_file(path: Path, seen: dict[Path, Seen], *, has_content: bool) -> None:
    try:
        found = path.stat()
        is_small = has_content and found.st_size <= CONTENT_BYTES_MAX
        content = sha256(path.read_bytes()).digest() if is_small else b""
    except OSError:
        return
    seen[path] = ("file", found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, content)
