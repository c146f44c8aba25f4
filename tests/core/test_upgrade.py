"""The way from one version to another: found exactly when there is one, and never longer than need be."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.store.builders import migration

from statebacked.core.upgrade import find_path
from statebacked.model.ids import VersionId
from statebacked.model.machine import Migration

VERSIONS = [VersionId(f"ver_{n}") for n in range(5)]


def chain(*paths: str) -> list[Migration]:
    return [migration(f"mig_{n}", path) for n, path in enumerate(paths)]


def ids(path: Sequence[Migration] | None) -> list[str] | None:
    return None if path is None else [one.id for one in path]


def test_staying_takes_no_migration() -> None:
    assert find_path([], VERSIONS[0], VERSIONS[0]) == ()


def test_versions_without_a_way_between_them_have_none() -> None:
    assert find_path(chain("ver_1>ver_0", "ver_0>ver_2"), VERSIONS[0], VERSIONS[1]) is None


def test_the_shortest_way_is_taken() -> None:
    migrations = chain("ver_0>ver_1", "ver_1>ver_2", "ver_2>ver_3", "ver_0>ver_4", "ver_4>ver_3")
    assert ids(find_path(migrations, VERSIONS[0], VERSIONS[3])) == ["mig_3", "mig_4"]


def test_between_two_versions_the_newest_migration_counts() -> None:
    migrations = chain("ver_0>ver_1", "ver_1>ver_2", "ver_0>ver_1")
    assert ids(find_path(migrations, VERSIONS[0], VERSIONS[2])) == ["mig_2", "mig_1"]


EDGES = st.lists(st.tuples(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS)), max_size=12)


@given(EDGES, st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_a_path_is_found_when_the_goal_is_reachable_and_is_as_short_as_the_distance(
    edges: list[tuple[VersionId, VersionId]], start: VersionId, goal: VersionId
) -> None:
    migrations = chain(*(f"{source}>{target}" for source, target in edges))
    path = find_path(migrations, start, goal)
    assert (None if path is None else len(path)) == distance(edges, start, goal)
    at = start
    for one in path or ():
        assert one.from_version == at
        assert one in migrations
        at = one.to_version
    assert path is None or at == goal


def distance(edges: list[tuple[VersionId, VersionId]], start: VersionId, goal: VersionId) -> int | None:
    """By relaxing every edge as often as there are versions."""
    far = {start: 0}
    for _ in VERSIONS:
        for source, target in edges:
            if source in far:
                far[target] = min(far.get(target, 99), far[source] + 1)
    return far.get(goal)
