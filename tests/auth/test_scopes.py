"""Scopes, roles, uses of keys, as the documents have them."""

import pytest

from statebacked.auth.scopes import (
    ANONYMOUS_SCOPES,
    KEY_USES,
    ROLE_SCOPES,
    ROUTES,
    SCOPES,
    in_order,
    parse_scopes,
)


def test_roles_and_uses_are_the_documented_ones() -> None:
    read = (
        "events.read state.read instances.read indexes.read machines.read machine-versions.read "
        "analytics.read org.read logs.read"
    )
    write = "events.write instances.write machines.write machine-versions.write"
    assert ROLE_SCOPES["read"] == set(read.split())
    assert ROLE_SCOPES["write"] == {*read.split(), *write.split()}
    assert ROLE_SCOPES["admin"] == set(SCOPES)
    production = {"events.write", "state.read", "instances.write", "indexes.read"}
    assert KEY_USES["production"] == ANONYMOUS_SCOPES == production
    ci = "machines.read machines.write machine-versions.read machine-versions.write"
    assert KEY_USES["ci"] == set(ci.split())


def test_scopes_are_parsed_by_either_spelling() -> None:
    assert parse_scopes(["org-keys.write", "state.read"]) == {"org.keys.write", "state.read"}
    with pytest.raises(KeyError, match=r"state\.write"):
        parse_scopes(["state.read", "state.write"])


def test_scopes_are_shown_in_one_order() -> None:
    assert in_order({"tokens.admin", "events.read"}) == ("events.read", "tokens.admin")


def test_every_route_asks_for_something_that_exists() -> None:
    assert {row.access for row in ROUTES} <= {*SCOPES, "session", "none"}
    assert len({(row.method, row.path) for row in ROUTES}) == len(ROUTES)
    assert len({row.operation for row in ROUTES}) == len(ROUTES)
