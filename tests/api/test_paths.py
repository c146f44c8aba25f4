"""Paths: slashes forgiven, names decoded once."""

import pytest

from statebacked.api.paths import HotPath, HotPaths, prefix_of, split_path
from statebacked.model.ids import InstanceName, MachineName

PATHS = HotPaths(())


def hot(what: str, machine: str, instance: str) -> tuple[object, ...]:
    return (what, machine, instance, None)


@pytest.mark.parametrize(
    "path",
    [
        b"/machines/m/i/n",
        b"//machines/m/i/n",
        b"/machines/m/i/n/",
        b"/machines//m/i///n//",
        b"/mach%69nes/m/i/n",
    ],
)
def test_slashes_too_many_are_forgiven(path: bytes) -> None:
    expected = None if b"%69" in path else hot("state", "m", "n")
    assert PATHS.find(path) == expected


def test_names_are_decoded_once_and_a_raw_bar_is_one() -> None:
    assert PATHS.find(b"/machines/m/i/auth0%7Cx/events") == hot("events", "m", "auth0|x")
    assert PATHS.find(b"/machines/m/i/auth0|x/events") == hot("events", "m", "auth0|x")
    twice = PATHS.find(b"/machines/m/i/auth0%257Cx")
    assert twice is not None
    assert twice.bad_name is not None


@pytest.mark.parametrize("name", [b"a%2Fb", b"%2E%2E", b"..", b"%FF", b"%", b"a%20b", b"x" * 129, b"%00"])
def test_a_bad_name_is_kept_for_later(name: bytes) -> None:
    found = PATHS.find(b"/machines/m/i/" + name)
    assert found is not None
    assert found.bad_name is not None
    assert PATHS.find(b"/machines/m/i/" + name) == found


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"",
        b"/machines",
        b"/machines/m/i",
        b"/machines/m/v/n",
        b"/machines/m/i/n/admin",
        b"/x/m/i/n",
        b"x",
    ],
)
def test_other_paths_are_not_hot(path: bytes) -> None:
    assert PATHS.find(path) is None


def test_a_path_too_long_to_remember_is_parsed_all_the_same() -> None:
    assert PATHS.find(b"/" * 2_000 + b"machines/m/i/n") == HotPath(
        "state", MachineName("m"), InstanceName("n"), None
    )


def test_the_public_urls_own_path_is_taken_off() -> None:
    prefix = prefix_of("https://example.com/state/backed/")
    assert prefix == (b"state", b"backed")
    assert split_path(b"/state/backed/machines", prefix) == [b"machines"]
    assert split_path(b"/machines", prefix) == [b"machines"]
    assert prefix_of(None) == prefix_of("https://example.com/") == ()
