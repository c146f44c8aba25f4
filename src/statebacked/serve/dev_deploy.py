"""One deployment of `statebacked dev`: the code becomes current unless it is, and instances move to it."""

from hashlib import sha256

from statebacked.cli.api import Api, JsonObject, path_of
from statebacked.cli.build import Bundle
from statebacked.cli.errors import ApiError
from statebacked.cli.output import rows_of
from statebacked.cli.versions import upload_version
from statebacked.serve.dev_move import move_instances
from statebacked.serve.dev_plan import Deployment, DevFile, Elsewhere, Moves, Staying

__all__ = ["deploy", "fingerprint"]

# Pages of instances looked at to tell who runs an older version.
INSTANCE_PAGES_MAX = 10


def deploy(api: Api, dev_file: DevFile, bundle: Bundle, *, moves_instances: bool = True) -> Deployment:
    """Makes `bundle` the machine's current version unless it is already. Raises CliError."""
    mark = f"dev {fingerprint(bundle)}"
    machine = dev_file.machine
    current = _current_version(api, machine)
    is_new = current is None or current.get("clientInfo") != mark
    if is_new:
        finalized = upload_version(api, machine, bundle, {"clientInfo": mark, "makeCurrent": True})
        version = str(finalized.get("machineVersionId"))
    else:
        assert current is not None
        version = str(current.get("id"))
    elsewhere, has_more = _instances_elsewhere(api, machine, version)
    if moves_instances:
        moves = move_instances(api, machine, version, elsewhere)
    else:
        moves = Moves(staying=tuple(Staying(instance=one.instance, version=one.version) for one in elsewhere))
    return Deployment(
        machine=machine, file=dev_file.file, version=version, is_new=is_new, moves=moves, has_more=has_more
    )


def fingerprint(bundle: Bundle) -> str:
    """The same for the same code, of the same places in the source, linked with the same xstate."""
    return sha256(bundle.module + b"\0" + (bundle.xstate or "").encode()).hexdigest()[:16]


def _current_version(api: Api, machine: str) -> JsonObject | None:
    """Of a machine that is made if need be."""
    try:
        answer = api.get(path_of("machines", machine))
    except ApiError as exc:
        if exc.status != 404:
            raise
        api.post(path_of("machines"), {"slug": machine})
        return None
    found = answer.get("currentVersion")
    return found if isinstance(found, dict) else None


def _instances_elsewhere(api: Api, machine: str, version: str) -> tuple[list[Elsewhere], bool]:
    """Those that run another version; whether there are instances that were not looked at."""
    found: list[Elsewhere] = []
    cursor: str | None = None
    for _ in range(INSTANCE_PAGES_MAX):
        page = api.get(path_of("machines", machine, "i"), {} if cursor is None else {"cursor": cursor})
        for row in rows_of(page, "instances"):
            its_version = row.get("machineVersion")
            its_id = str(its_version.get("id")) if isinstance(its_version, dict) else str(its_version)
            if its_id != version:
                found.append(Elsewhere(instance=str(row.get("slug")), version=its_id))
        following = page.get("cursor")
        if not isinstance(following, str):
            return found, False
        cursor = following
    return found, True
