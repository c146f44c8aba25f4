"""Carries out an upgrade for an activation: finds the way, has the state migrated, says what came of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from statebacked.core import phases
from statebacked.engine.codes import Codes
from statebacked.model.errors import NoMigrationPath, NotFound, Unavailable
from statebacked.model.ids import InstanceKey, VersionId
from statebacked.model.values import Json
from statebacked.ports.machines import Code, MigrationFailed, Migrator, Route, Saved
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

EVENT_TYPE: Final = "statebacked.upgrade"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the activation is told. `target`: the code that it then runs."""

    signal: phases.Upgraded | phases.UpgradeFailed
    target: Code | None = None


async def upgrade(
    command: phases.Upgrade,
    key: InstanceKey,
    version: VersionId,
    load: Callable[[], Awaitable[Saved]],
    *,
    codes: Codes,
    migrator: Migrator,
) -> Answer:
    """The answer to the command, of an instance that runs `version`. `load` gives its durable state."""
    try:
        route = await codes.route(key, version, command.version)
        saved = await load()
        if saved.seq != command.seq:
            raise Unavailable("the stored state is another one")
        arrival = await migrator.migrate(route, key, saved, command.timers)
    except MigrationFailed as failure:
        return _failed(command, "migration-failed", failure.reason)
    except (NoMigrationPath, NotFound, Unavailable) as refusal:
        return _failed(command, refusal.code, refusal.message)
    except StoreFailed as failure:
        logger.error("a migration cannot be read", error=str(failure))
        return _failed(command, "unavailable", "the migration cannot be read; try again")
    except Exception:  # the root of a task: who waits must hear something
        logger.exception("an upgrade fails", machine=key.machine)
        return _failed(command, "unavailable", "the upgrade failed; try again")
    return Answer(phases.Upgraded(command.number, event_of(route), arrival), route.target)


def _failed(command: phases.Upgrade, code: str, message: str) -> Answer:
    return Answer(phases.UpgradeFailed(command.number, code, message))


def event_of(route: Route) -> Json:
    """What the history says of an upgrade."""
    event = {
        "type": EVENT_TYPE,
        "migrationPath": [code.migration for code in route.migrations],
        "fromMachineVersionId": route.source.version,
        "toMachineVersionId": route.target.version,
    }
    return Json(msgspec.json.encode(event))
