"""Which major a bundle is for, and what is said of one that does not load."""

import asyncio
from pathlib import Path

import pytest

from statebacked.model.errors import InvalidMachine
from statebacked.ports.machines import Validated, WorkerGone
from statebacked.runtime.validate import hinted_major, major_of, read_import_map, validate, without_paths
from statebacked.runtime.worker_frames import Loaded, Unloadable

MISSING = Unloadable(message="no such export", missing_export=True)
BROKEN = Unloadable(message="a syntax error", missing_export=False)
LINKED = "linked"


def outcome(hint: str | None, answers: dict[int, object], supported: tuple[int, ...] = (4, 5)) -> object:
    """What validating gives when loading under each major goes as `answers` say."""

    async def try_load(major: int) -> tuple[Loaded | Unloadable, str]:
        answer = answers[major]
        if answer == LINKED:
            answer = Loaded(major=major, inlined=False)  # type: ignore[arg-type]  # 4 or 5
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Loaded | Unloadable)
        return answer, f"{major}.1.2"

    try:
        return asyncio.run(validate(hint, supported, try_load))
    except InvalidMachine as error:
        return error.message


@pytest.mark.parametrize(
    ("hint", "major"),
    [
        ("5.33.3", 5),
        ("4.38.3", 4),
        ("^5", 5),
        ("~4.38", 4),
        (">=4.38 <5", 4),
        ("v5.0.0-alpha.1", 5),
        ("5", 5),
        ("5.x", 5),
        (" 5.33.3 ", 5),
        ("6.0.0", 6),
        ("latest", None),
        ("workspace:*", None),
        ("*", None),
        ("", None),
        ("5" * 300, None),
        (None, None),
    ],
)
def test_a_hint_names_a_major_or_nothing(hint: str | None, major: int | None) -> None:
    assert hinted_major(hint) == major


def test_a_hint_decides_the_major() -> None:
    assert outcome("5.33.3", {5: LINKED}) == Validated("5.1.2")
    assert outcome("^4", {4: LINKED}) == Validated("4.1.2")
    assert outcome("4.38.3", {4: MISSING}) == "no such export"


def test_a_major_that_is_not_supported_is_refused() -> None:
    assert outcome("6.0.0", {}) == "XState 6 is not supported: this server runs XState 4 and 5"
    assert outcome("4.38.3", {}, (5,)) == "XState 4 is not supported: this server runs XState 5"


def test_without_a_hint_4_comes_first_and_5_where_an_export_is_missing() -> None:
    assert outcome(None, {4: LINKED}) == Validated("4.1.2")
    assert outcome("latest", {4: MISSING, 5: LINKED}) == Validated("5.1.2")
    assert outcome(None, {4: MISSING, 5: MISSING}) == "no such export"
    assert outcome(None, {4: MISSING, 5: BROKEN}) == "a syntax error"
    assert outcome(None, {4: BROKEN, 5: BROKEN}) == "a syntax error"
    assert outcome(None, {4: BROKEN, 5: MISSING}) == "a syntax error"
    assert outcome(None, {5: LINKED}, (5,)) == Validated("5.1.2")


def test_a_bundle_with_its_own_copy_runs_under_the_major_of_that_copy() -> None:
    own4, own5 = Loaded(major=4, inlined=True), Loaded(major=5, inlined=True)
    assert outcome(None, {4: own4}) == Validated("inlined-4")
    assert outcome(None, {4: own5, 5: own5}) == Validated("inlined-5")
    assert outcome("5.33.3", {5: own4, 4: own4}) == Validated("inlined-4")
    assert outcome(None, {4: own5, 5: BROKEN}) == "a syntax error"
    assert outcome(None, {5: own4}, (5,)) == "the bundle carries XState 4, which this server does not support"


def test_a_sandbox_that_dies_tells_why() -> None:
    assert outcome(None, {4: WorkerGone("ran out of memory")}) == (
        "the module was loaded, and its sandbox ran out of memory"
    )


@pytest.mark.parametrize(("xstate", "major"), [("5.33.3", 5), ("4.38.3", 4), ("inlined-4", 4)])
def test_a_stored_version_runs_under_its_major(xstate: str, major: int) -> None:
    assert major_of(xstate) == major


def test_a_refused_import_is_told_without_the_paths_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "import-map.json").write_text('{"imports": {"node:fs": "./gone/fs.js"}}')
    specifiers = read_import_map(tmp_path / "import-map.json")
    url = (tmp_path / "gone" / "fs.js").as_uri()
    message = f'Module not found "{url}" in {tmp_path}/boot.js at blob:null/1234-abcd:1:15 and file:///etc/x.'
    told = without_paths(message, tmp_path, specifiers)
    assert told == 'Module not found "node:fs" in /boot.js and a module that is not available'
