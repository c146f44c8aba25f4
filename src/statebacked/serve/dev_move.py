"""Moves instances to new code under development, as far as their state still exists there.

An instance is migrated as any other: by a migration between the two versions, and its desired version. Where
nobody has written a migration, one is made that leaves states and context as they are. A dry run tells
beforehand which instances the new version does not take.
"""

from collections.abc import Sequence

from statebacked.cli.api import Api, path_of
from statebacked.cli.build import Bundle
from statebacked.cli.errors import ApiError
from statebacked.cli.output import rows_of
from statebacked.cli.versions import reserve_and_upload
from statebacked.serve.dev_plan import Elsewhere, Moves, Staying

__all__ = ["move_instances"]

# Pages of a dry run that are looked at.
DRY_RUN_PAGES_MAX = 10
UNCHANGED = Bundle(code=b"export const upgradeState = (state) => state;\n")


def move_instances(api: Api, machine: str, version: str, elsewhere: Sequence[Elsewhere]) -> Moves:
    """Has those of `elsewhere` that `version` can take go on in it with their next event."""
    moving: list[str] = []
    staying: list[Staying] = []
    for source in dict.fromkeys(one.version for one in elsewhere):
        names = [one.instance for one in elsewhere if one.version == source]
        try:
            reasons = _dry_run(api, machine, source, version)
        except ApiError as exc:
            staying += [Staying(instance=name, version=source, reason=str(exc)) for name in names]
            continue
        for name in names:
            reason = reasons.get(name) or _wish(api, machine, name, version)
            if reason:
                staying.append(Staying(instance=name, version=source, reason=reason))
            else:
                moving.append(name)
    return Moves(moving=tuple(moving), staying=tuple(staying))


def _dry_run(api: Api, machine: str, source: str, target: str) -> dict[str, str]:
    """Why instances of a version could not be migrated, by instance. Makes a migration where there is none.
    Raises ApiError."""
    path = path_of("machines", machine, "migrations", "dry-run")
    body = {"fromMachineVersionId": source, "toMachineVersionId": target}
    reasons: dict[str, str] = {}
    cursor: str | None = None
    for _ in range(DRY_RUN_PAGES_MAX):
        params = {} if cursor is None else {"cursor": cursor}
        try:
            page = api.post(path, body, params=params)
        except ApiError as exc:
            if exc.code != "no-migration-path":
                raise
            _create_migration(api, machine, source, target)
            page = api.post(path, body, params=params)
        reasons |= {str(row.get("slug")): str(row.get("error")) for row in rows_of(page, "failures")}
        following = page.get("cursor")
        if not isinstance(following, str):
            break
        cursor = following
    return reasons


def _create_migration(api: Api, machine: str, source: str, target: str) -> None:
    path = path_of("machines", machine, "migrations")
    body = {"fromMachineVersionId": source, "toMachineVersionId": target}
    signed = reserve_and_upload(
        api, path, UNCHANGED, body, id_key="machineVersionMigrationId", file_name=f"{machine}.js"
    )
    api.put(f"{path}/{signed}")


def _wish(api: Api, machine: str, instance: str, version: str) -> str:
    """Why the instance cannot be asked to; empty when it was."""
    try:
        api.put(path_of("machines", machine, "i", instance, "v"), {"targetMachineVersionId": version})
    except ApiError as exc:
        return str(exc)
    return ""
