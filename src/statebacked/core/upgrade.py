"""From one version of a machine to another: the way through its migrations."""

from collections.abc import Sequence

from statebacked.model.ids import VersionId
from statebacked.model.machine import Migration


def find_path(
    migrations: Sequence[Migration], start: VersionId, goal: VersionId
) -> tuple[Migration, ...] | None:
    """A shortest path; None when there is no path, empty when start is the goal.

    `migrations` are all of a machine's in order of creation. Between two versions the newest one counts: so a
    migration that turned out to be wrong is put right by another.
    """
    onward: dict[VersionId, dict[VersionId, Migration]] = {}
    for migration in migrations:
        onward.setdefault(migration.from_version, {})[migration.to_version] = migration
    came_by: dict[VersionId, Migration | None] = {start: None}
    frontier = [start]
    while frontier and goal not in came_by:
        reached = []
        for source in frontier:
            for target, migration in onward.get(source, {}).items():
                if target not in came_by:
                    came_by[target] = migration
                    reached.append(target)
        frontier = reached
    return _walk_back(came_by, goal) if goal in came_by else None


def _walk_back(came_by: dict[VersionId, Migration | None], goal: VersionId) -> tuple[Migration, ...]:
    path: list[Migration] = []
    at = goal
    while (migration := came_by[at]) is not None:
        path.append(migration)
        at = migration.from_version
    return tuple(reversed(path))
