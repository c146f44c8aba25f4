"""Queries of indexes: which instances have a value, in order of value and name."""

from collections.abc import Mapping
from typing import Final, NamedTuple, get_args

import msgspec

from statebacked.api.calls import OrgCall, OrgHandler, Page
from statebacked.api.machines import find_machine
from statebacked.api.replies import Reply, json_reply
from statebacked.api.use_cases import Engine
from statebacked.core.indexes import parse_position, position, ranges
from statebacked.model.errors import InvalidCursor, InvalidParameter, NotFound
from statebacked.model.indexes import IndexKey, IndexRow, Op, Order, Place, Range
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.store import Indexes

_OPS: Final[Mapping[str, Op]] = {op: op for op in get_args(Op)}
_ORDERS: Final[Mapping[str, Order]] = {order: order for order in get_args(Order)}


class Query(NamedTuple):
    """What is asked of an index; `op` None: all rows."""

    op: Op | None
    value: str
    order: Order


class IndexRoutes:
    """Handler of /machines/{machine}/indexes/{index}/query."""

    def __init__(self, engine: Engine, indexes: Indexes, catalogue: Catalogue) -> None:
        self._engine = engine
        self._indexes = indexes
        self._catalogue = catalogue

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {"queryIndex": self.query}

    async def query(self, call: OrgCall) -> Reply:
        query = parse_query(call.query())
        machine = await find_machine(self._catalogue, call.principal.org, call.machine())
        name = call.segment("index")
        if name not in machine.indexes:
            raise NotFound(f"machine {machine.name} has no index of that name")
        index = IndexKey(machine.org, machine.name, name)
        page = call.page(query=msgspec.json.encode([machine.name, name, query]).decode())
        asked = ranges(query.op, query.value, query.order, _parse_place(page.after))
        if call.principal.kind == "anonymous":
            return await self._readable(call, index, asked, query.order, page)
        rows = await self._indexes.find_indexed(index, asked, order=query.order, limit=page.rows_to_read)
        cursor = page.cursor(len(rows), lambda n: position(rows[n]))
        return _reply(rows[: page.limit], cursor)

    async def _readable(
        self, call: OrgCall, index: IndexKey, asked: tuple[Range, ...], order: Order, page: Page
    ) -> Reply:
        """An anonymous caller may be anybody: the names of instances are kept from it like their states."""
        found = await self._engine.find_readable(
            index, asked, order=order, limit=page.limit, auth=call.principal.auth
        )
        return _reply(found.rows, {} if found.last is None else page.behind(position(found.last)))


def parse_query(parameters: Mapping[str, str]) -> Query:
    """`op` and `value` come together, or neither. Raises InvalidParameter."""
    value, op = parameters.get("value"), parameters.get("op")
    order = _ORDERS.get(parameters.get("dir", "asc"))
    if order is None:
        raise InvalidParameter("dir is asc or desc", "dir")
    if op is None:
        if value is not None:
            raise InvalidParameter("give op with value", "op")
        return Query(None, "", order)
    if op not in _OPS:
        raise InvalidParameter(f"op is one of {', '.join(_OPS)}", "op")
    if value is None:
        raise InvalidParameter("give value with op", "value")
    return Query(_OPS[op], value, order)


def _parse_place(text: str) -> Place | None:
    try:
        return parse_position(text) if text else None
    except ValueError as exc:
        raise InvalidCursor("the cursor is not of this list") from exc


def _reply(rows: list[IndexRow], cursor: dict[str, str]) -> Reply:
    items = [{"slug": row.name, "indexValue": row.value} for row in rows]
    return json_reply({"instances": items, **cursor})
