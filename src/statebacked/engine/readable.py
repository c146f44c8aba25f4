"""Pages of an index for those to whom an instance's name is its credential: rows that allowRead admits."""

from collections import defaultdict
from collections.abc import Sequence

from statebacked.engine.codes import Codes
from statebacked.model.ids import InstanceKey, InstanceName, VersionId
from statebacked.model.indexes import IndexedState, IndexKey, Order, Range, ReadablePage
from statebacked.model.limits import INDEX_ROWS_EXAMINED_MAX, INDEX_STATES_BYTES_MAX
from statebacked.model.values import Json
from statebacked.ports.machines import Machines, Saved
from statebacked.ports.store import Indexes


class ReadableRows:
    """Asks allowRead about the very states of which the rows are, all of one version in one frame."""

    def __init__(self, indexes: Indexes, machines: Machines, codes: Codes) -> None:
        self._indexes = indexes
        self._machines = machines
        self._codes = codes

    async def find(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, auth: Json
    ) -> ReadablePage:
        """At most `limit` rows, and no more than INDEX_ROWS_EXAMINED_MAX are looked at. Raises WorkerGone,
        StoreFailed."""
        limit = min(limit, INDEX_ROWS_EXAMINED_MAX)
        states = await self._indexes.find_indexed_states(
            index, ranges, order=order, limit=limit + 1, bytes_max=INDEX_STATES_BYTES_MAX
        )
        size = sum(len(state.snapshot) + len(state.context) for state in states)
        has_more = len(states) > limit or size >= INDEX_STATES_BYTES_MAX
        examined = states[:limit]
        readable = await self._readable(index, examined, auth)
        rows = [state.row for state in examined if state.row.name in readable]
        return ReadablePage(rows, examined[-1].row if has_more else None)

    async def _readable(self, index: IndexKey, states: list[IndexedState], auth: Json) -> set[InstanceName]:
        """Each instance is asked about once, however many of its values are on the page."""
        by_version: defaultdict[VersionId, dict[InstanceName, Saved]] = defaultdict(dict)
        for state in states:
            saved = Saved(state.seq, state.snapshot, state.context)
            by_version[state.version][state.row.name] = saved
        readable: set[InstanceName] = set()
        for version, instances in by_version.items():
            readable.update(await self._ask(index, version, list(instances.items()), auth))
        return readable

    async def _ask(
        self, index: IndexKey, version: VersionId, states: list[tuple[InstanceName, Saved]], auth: Json
    ) -> list[InstanceName]:
        first, _ = states[0]
        code = await self._codes.of(InstanceKey(index.org, index.machine, first), version)
        allowed = await self._machines.may_read_each(code, states, auth)
        return [name for (name, _), ok in zip(states, allowed, strict=True) if ok]
