"""An upgrade, part by part: the version that a state leaves tells it as an outline, each migration maps it,
and the version in which it arrives makes it a state again. Each part is asked in a worker of its own code."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

from statebacked.model.ids import InstanceKey
from statebacked.model.rows import PendingTimer
from statebacked.model.step import Arrival
from statebacked.model.values import Json
from statebacked.ports.machines import Code, Route, Saved
from statebacked.runtime import protocol, receipt
from statebacked.runtime.reads import Part
from statebacked.runtime.worker import Worker

Ask = Callable[[Worker], "asyncio.Future[object]"]
Run = Callable[[Code, Ask], Awaitable[object]]


async def upgrade(
    route: Route,
    key: InstanceKey,
    saved: Saved,
    timers: Sequence[PendingTimer],
    run: Run,
    expires_ms: int,
) -> Arrival:
    """`run` asks a worker of that code. Raises what it raises, and MigrationFailed."""

    def ask(write: Callable[[int], list[bytes]], parse: receipt.ParsePart) -> Ask:
        return lambda worker: worker.ask(Part(key.name, parse, worker.expiry(expires_ms)), write)

    rows = [(timer.key, timer.send_id) for timer in timers]
    left = ask(lambda n: protocol.leave(n, saved.snapshot, rows), receipt.outline)
    (outline,) = cast("tuple[Json]", await run(route.source, left))
    state = (outline, saved.context)
    for migration in route.migrations:
        mapped = ask(partial(_migrate, state), receipt.outline_and_context)
        state = cast("tuple[Json, Json]", await run(migration, mapped))
    arrived = ask(
        lambda n: protocol.arrive(n, *state), receipt.arrival_among(frozenset(key for key, _ in rows))
    )
    return cast("Arrival", await run(route.target, arrived))


def _migrate(state: tuple[Json, Json], n: int) -> list[bytes]:
    return protocol.migrate(n, *state)
