"""One call of a cold route: its request, who makes it, and what handlers need of both."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp

from statebacked.api.bodies import Deadlines, check_length, feed_body, read_body
from statebacked.api.cursors import Cursors
from statebacked.api.paths import decode_segment
from statebacked.api.replies import Reply
from statebacked.auth.principal import Principal, SignedInUser
from statebacked.model.errors import BadRequest, InvalidParameter
from statebacked.model.ids import InstanceKey, MachineName, parse_instance_name, parse_machine_name
from statebacked.model.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, QUERY_PARAMETERS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request on its way to a handler. `route` is the template of its path."""

    request: Request
    route: str
    request_id: str
    deadlines: Deadlines
    cursors: Cursors

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Names in lower case; of repeated headers the last."""
        return dict(self.request.scope["headers"])

    def segment(self, name: str) -> str:
        """A segment of the path, percent-decoded once."""
        return decode_segment(self.request.path_params[name].encode("latin-1"))

    def machine(self) -> MachineName:
        """Raises InvalidName."""
        return parse_machine_name(self.segment("machine"))

    def query(self) -> dict[str, str]:
        """The query's parameters; one without a value is there with an empty one. Raises BadRequest."""
        text = self.request.scope["query_string"].decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_PARAMETERS_MAX))
        except ValueError as exc:
            raise BadRequest(f"a query has at most {QUERY_PARAMETERS_MAX} parameters") from exc

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises TooLarge, InvalidBody."""
        check_length(self.headers, limit_bytes)
        return await read_body(self.request.receive, limit_bytes, self.deadlines)

    async def large_body(self, limit_bytes: int) -> bytes:
        """The whole body, for which the client has as long as for an upload. Raises TooLarge, InvalidBody."""
        check_length(self.headers, limit_bytes)
        chunks: list[bytes] = []
        await feed_body(self.request.receive, limit_bytes, self.deadlines, chunks.append)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgCall(Call):
    """A call in an org, by a principal whose scopes were checked."""

    principal: Principal

    def instance(self) -> InstanceKey:
        """Raises InvalidName."""
        name = parse_instance_name(self.segment("instance"))
        return InstanceKey(self.principal.org, self.machine(), name)

    def page(self, *, query: str = "", limit_max: int = PAGE_ROWS_MAX) -> "Page":
        """Which page of a list is asked for. `query` names all that filters the list. Raises InvalidCursor,
        InvalidParameter."""
        parameters = self.query()
        limit = parameters.get("limit", str(PAGE_ROWS_DEFAULT))
        if not limit.isascii() or not limit.isdigit() or len(limit) > 9 or not 1 <= int(limit) <= limit_max:
            raise InvalidParameter(f"limit must be 1 to {limit_max}", "limit")
        cursor = parameters.get("cursor")
        org, route = self.principal.org, self.route
        after = self.cursors.open(cursor, org=org, route=route, query=query) if cursor else ""
        return Page(after=after, limit=int(limit), query=query, call=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCall(Call):
    """A call by a signed-in user, outside any org."""

    user: SignedInUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list: the first `limit` rows after position `after` ("" for the start)."""

    after: str
    limit: int
    query: str
    call: OrgCall

    @property
    def rows_to_read(self) -> int:
        """One more than the page holds: whether it comes tells whether there is a next page."""
        return self.limit + 1

    def cursor(self, rows: int, last: Callable[[int], str]) -> dict[str, str]:
        """`{cursor}` when a next page exists, given how many rows were read and the position of row n."""
        return {} if rows <= self.limit else self.behind(last(self.limit - 1))

    def behind(self, position: str) -> dict[str, str]:
        """`{cursor}` of the page that begins after that position."""
        org, route = self.call.principal.org, self.call.route
        return {"cursor": self.call.cursors.seal(position, org=org, route=route, query=self.query)}


# A handler answers with a whole reply, or with an ASGI application that answers.
OrgHandler = Callable[[OrgCall], Awaitable[Reply | ASGIApp]]
UserHandler = Callable[[UserCall], Awaitable[Reply]]
OpenHandler = Callable[[Call], Awaitable[Reply]]
