"""The contract and the routes say the same."""

import pytest
import yaml

from statebacked.auth.scopes import ROUTES
from tests.api.contract import Draft202012Validator, named, spec
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio


def test_the_contract_lists_exactly_the_routes_of_the_access_table() -> None:
    listed = {
        (method.upper(), path, operation["operationId"])
        for path, item in spec()["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    assert listed == {(row.method, row.path, row.operation) for row in ROUTES}


def test_the_contract_says_the_scope_of_every_route() -> None:
    for row in ROUTES:
        operation = spec()["paths"][row.path][row.method.lower()]
        if row.access == "none":
            assert operation["security"] == []
        elif row.access == "session":
            assert "session" in operation["description"]
        else:
            assert f"Scope: {row.access}" in operation["description"]


def test_every_schema_is_one() -> None:
    for name in spec()["components"]["schemas"]:
        Draft202012Validator.check_schema(spec()["components"]["schemas"][name])
        named(name)


async def test_the_contract_is_served(server: ApiServer) -> None:
    async with server.client() as client:
        response = await client.get("/openapi.yaml")
        assert response.headers["content-type"] == "application/yaml"
        assert yaml.safe_load(response.text) == spec()
