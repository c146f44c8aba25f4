"""What becomes of a source map at the end of uploaded code, whatever it holds."""

import base64
import json
import sys

import pytest

from statebacked.api.source_maps import SOURCE_SCHEME, with_clean_source_map
from statebacked.model.limits import SOURCE_MAP_BYTES_MAX, SOURCE_MAP_FILE_CHARACTERS_MAX

CODE = b"export default 1;"
COMMENT = b"\n//# sourceMappingURL="
PLAIN: dict[str, object] = {"version": 3, "sources": ["a.ts"], "names": [], "mappings": "AAAA"}


def ended(value: object, prefix: bytes = b"data:application/json;base64,") -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return CODE + COMMENT + prefix + base64.b64encode(text)


def kept(code: bytes) -> dict[str, object] | None:
    """The map that is stored; None when the code has none any more."""
    clean = with_clean_source_map(code)
    assert clean.startswith(CODE)
    _, _, data = clean.partition(b"base64,")
    if not data:
        assert clean == CODE + b"\n"
        return None
    stored = json.loads(base64.b64decode(data))
    assert isinstance(stored, dict)
    return stored


def source_of(name: str | None, **more: object) -> str:
    stored = kept(ended({**PLAIN, "sources": [name], **more}))
    assert stored is not None
    sources = stored["sources"]
    assert isinstance(sources, list)
    assert len(sources) == 1
    return str(sources[0]).removeprefix(SOURCE_SCHEME)


@pytest.mark.parametrize(
    "code",
    [
        b"",
        CODE,
        CODE + COMMENT + b"machine.js.map",
        CODE + COMMENT + b"data:application/json;base64,${map}`;",
        CODE + COMMENT + b"data:application/json;base64,AAAA\nmore();",
    ],
)
def test_code_without_an_inline_map_at_its_end_stays_as_it_is(code: bytes) -> None:
    assert with_clean_source_map(code) == code


def test_a_map_keeps_its_mappings_and_loses_the_text_of_the_sources() -> None:
    given = {**PLAIN, "names": ["secret"], "sourcesContent": ["const key = 'secret'"], "x_more": "secret"}
    stored = kept(ended(given))
    assert stored == {
        "version": 3,
        "sources": ["statebacked-source:///a.ts"],
        "names": [""],
        "mappings": "AAAA",
    }


def test_what_is_stored_is_stored_the_same_when_it_is_uploaded_again() -> None:
    once = with_clean_source_map(ended({**PLAIN, "sources": ["src/ü b.ts", "../../x.ts"]}))
    assert with_clean_source_map(once) == once


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("src/machine.ts", "src/machine.ts"),
        ("./src/../lib/guards.ts", "lib/guards.ts"),
        ("webpack://app/./src/machine.ts", "app/src/machine.ts"),
        ("src\\windows.ts", "src/windows.ts"),
        ("/home/jo/app/src/machine.ts", "machine.ts"),
        ("file:///home/jo/app/src/machine.ts", "machine.ts"),
        ("C:\\Users\\jo\\machine.ts", "machine.ts"),
        ("C:/Users/jo/machine.ts", "machine.ts"),
        ("../../home/jo/app/machine.ts", "machine.ts"),
        ("a/../../home/jo/machine.ts", "machine.ts"),
        ("%2e%2e/%2e%2e/home/jo/machine.ts", "machine.ts"),
        ("/home/jo/app/node_modules/lodash/index.js", "node_modules/lodash/index.js"),
        ("ü b(1):2.ts", "%C3%BC%20b%281%29%3A2.ts"),
        ("a\n    at evil (b.ts:1:1)", "a_%20%20%20%20at%20evil%20%28b.ts%3A1%3A1%29"),
        ("", "unknown"),
        ("..", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_source_is_named_within_its_project_and_nothing_of_the_host_is_kept(
    name: str | None, path: str
) -> None:
    assert source_of(name) == path


def test_a_source_root_counts_as_part_of_the_name() -> None:
    assert source_of("machine.ts", sourceRoot="src/") == "src/machine.ts"
    assert source_of("machine.ts", sourceRoot="/home/jo/app") == "machine.ts"
    assert len(source_of("x" * 1_000)) == SOURCE_MAP_FILE_CHARACTERS_MAX


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no json",
        b"[" * 100_000,
        b"\xff\xfe",
        [],
        {"version": 3, "sections": [{"offset": {"line": 0, "column": 0}, "map": PLAIN}]},
        {**PLAIN, "version": 2},
        {**PLAIN, "sources": "a.ts"},
        {**PLAIN, "sources": [1]},
        {**PLAIN, "mappings": "AAAA;\u00e9"},
        {**PLAIN, "mappings": None},
    ],
)
def test_what_is_no_map_is_left_out(bad: object) -> None:
    assert kept(ended(bad)) is None


def test_a_map_is_stored_up_to_its_limit() -> None:
    empty = kept(ended({**PLAIN, "mappings": ""}))
    room = SOURCE_MAP_BYTES_MAX - len(json.dumps(empty, separators=(",", ":")))
    assert kept(ended({**PLAIN, "mappings": "A" * room})) is not None
    assert kept(ended({**PLAIN, "mappings": "A" * (room + 1)})) is None


def lines_executed(code: bytes) -> int:
    """Lines of Python that cleaning takes."""
    count = 0

    def trace(_frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]  # a trace function may take any frame
    try:
        with_clean_source_map(code)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "worst",
    [
        lambda n: ended({**PLAIN, "mappings": "g" * (400 * n)}),
        lambda n: ended({**PLAIN, "mappings": ";" * (400 * n)}),
        lambda n: ended({**PLAIN, "names": ["x"] * (100 * n)}),
        lambda n: ended({**PLAIN, "sources": ["a/../" * (80 * n)]}),
        lambda n: ended({**PLAIN, "sources": ["../" * (130 * n)]}),
        lambda n: ended({**PLAIN, "sources": ["node_modules/" * (30 * n)]}),
        lambda n: ended({**PLAIN, "sourceRoot": "/" * (400 * n)}),
        lambda n: ended({**PLAIN, "sourceRoot": "a/" * (20 * n), "sources": ["x"] * (2 * n)}),
        lambda n: COMMENT * (20 * n),
        lambda n: ended({**PLAIN, "sources": ["x"] * (2 * n)}),
    ],
)
def test_the_worst_maps_known_take_linear_work(worst: object) -> None:
    small, large = (lines_executed(worst(n)) for n in (100, 1_000))  # type: ignore[operator]  # a lambda
    assert large <= 10 * small + 1_000


def test_more_sources_than_fit_are_not_looked_at() -> None:
    many = ended({**PLAIN, "sources": [""] * 1_000_000})
    assert lines_executed(many) < 100
    assert kept(many) is None
