"""The cold routes as a value: each row of the access table with its handler, behind its check.

Hot routes stand in the same table and are served by hand (hot.py, socket.py); here they only have to be
named, so that no row is without a handler and no handler without a row.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from statebacked.api.bodies import Deadlines
from statebacked.api.calls import Call, OpenHandler, OrgCall, OrgHandler, UserCall, UserHandler
from statebacked.api.cursors import Cursors
from statebacked.api.hot import check_scope
from statebacked.api.replies import MachineTexts, Reply
from statebacked.auth.authenticator import Authenticator
from statebacked.auth.scopes import Row
from statebacked.model.errors import BadRequest, MachineRefusal, RejectedByAuthorizer

HOT_OPERATIONS: Final = frozenset({"sendEvent", "getState", "realtime"})
REQUEST_ID_KEY: Final = "statebacked.request_id"

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Every cold handler by operation, in three kinds: in an org, by a user, by anyone."""

    org: Mapping[str, OrgHandler]
    user: Mapping[str, UserHandler]
    open: Mapping[str, OpenHandler]


class Guards:
    """Wraps handlers in the check that their row of the table asks for."""

    def __init__(
        self,
        authenticator: Authenticator,
        cursors: Cursors,
        deadlines: Deadlines,
        texts: MachineTexts,
    ) -> None:
        self._authenticator = authenticator
        self._cursors = cursors
        self._deadlines = deadlines
        self._texts = texts

    def bind(self, rows: Iterable[Row], handlers: Handlers) -> list[Route]:
        """Starlette's routes, in the table's order. Asserts that rows and handlers match one to one."""
        rows = tuple(rows)
        named = {row.operation for row in rows}
        bound = {*handlers.org, *handlers.user, *handlers.open, *HOT_OPERATIONS}
        assert named == bound, f"rows without a handler, or handlers without a row: {named ^ bound}"
        return [Route(row.path, self._endpoint(row, handlers), methods=[row.method]) for row in rows]

    def _endpoint(self, row: Row, handlers: Handlers) -> Endpoint:
        if row.operation in HOT_OPERATIONS:
            return _served_by_hand
        if row.access == "none":
            return self._open(row, handlers.open[row.operation])
        if row.access == "session":
            return self._for_user(row, handlers.user[row.operation])
        return self._in_org(row, handlers.org[row.operation])

    def _open(self, row: Row, handler: OpenHandler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            call = Call(
                request=request,
                route=row.path,
                request_id=request.scope[REQUEST_ID_KEY],
                deadlines=self._deadlines,
                cursors=self._cursors,
            )
            return _response(await handler(call))

        return endpoint

    def _for_user(self, row: Row, handler: UserHandler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            call = UserCall(
                request=request,
                route=row.path,
                request_id=request.scope[REQUEST_ID_KEY],
                deadlines=self._deadlines,
                cursors=self._cursors,
                user=await self._authenticator.authenticate_user(dict(request.scope["headers"])),
            )
            return _response(await handler(call))

        return endpoint

    def _in_org(self, row: Row, handler: OrgHandler) -> Endpoint:
        async def endpoint(request: Request) -> ASGIApp:
            headers = dict(request.scope["headers"])
            principal = self._authenticator.cached(headers)
            if principal is None:
                principal = await self._authenticator.authenticate(headers)
            check_scope(principal, row.access)
            call = OrgCall(
                request=request,
                route=row.path,
                request_id=request.scope[REQUEST_ID_KEY],
                deadlines=self._deadlines,
                cursors=self._cursors,
                principal=principal,
            )
            try:
                answer = await handler(call)
                return _response(answer) if isinstance(answer, Reply) else answer
            except (MachineRefusal, RejectedByAuthorizer) as refusal:
                raise self._texts.fit(refusal, principal, call.request_id) from refusal

        return endpoint


async def _served_by_hand(request: Request) -> Response:
    """Hot routes stand here so that other methods on their paths are refused as on any path."""
    assert request.url.path == "/rt", request.url.path
    raise BadRequest("/rt speaks WebSocket: open one there")


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    response.raw_headers[:0] = reply.headers
    return response
