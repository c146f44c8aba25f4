"""Requests made up from the contract, with and without sense: none is our fault, all answers are allowed."""

import asyncio
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.server import ApiServer


async def world() -> tuple[ApiServer, str]:
    server = ApiServer()
    org = await server.org()
    await server.machine(org)
    return server, await server.session((org, "admin"))


SERVER, TOKEN = asyncio.run(world())
SCHEMA = schemathesis.openapi.from_asgi("/openapi.yaml", SERVER.app, headers={"host": "localhost"})


@SCHEMA.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_is_a_fault_of_ours(case: Any) -> None:
    case.headers = {**(case.headers or {}), "host": "localhost", "authorization": f"Bearer {TOKEN}"}
    case.headers.pop("x-statebacked-org-id", None)
    if case.path == "/logs/stream":  # another one would not end
        case.query = {**(case.query or {}), "to": "2001-01-01T00:00:00.000Z"}
    case.call_and_validate(
        checks=[
            not_a_server_error,
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        ]
    )
