"""The orgs that the caller belongs to, asked before one of them is stored."""

from dataclasses import replace

from statebacked.cli.api import Api, JsonObject, path_of
from statebacked.cli.credentials import Credentials
from statebacked.cli.errors import CliError
from statebacked.cli.output import rows_of
from statebacked.cli.surroundings import Globals

__all__ = ["orgs_of", "require_membership"]

ORGS_NAMED_MAX = 10


def orgs_of(options: Globals, credentials: Credentials) -> list[JsonObject]:
    """All of them. Raises CliError."""
    # Without an org: the one that was stored before may be of no use any more.
    orgs: list[JsonObject] = []
    with Api(replace(credentials, org=None), transport=options.surroundings.transport) as api:
        query: dict[str, str] = {}
        while True:
            page = api.get(path_of("orgs"), query)
            orgs += rows_of(page, "orgs")
            following = page.get("cursor")
            if not isinstance(following, str) or not following or following == query.get("cursor"):
                return orgs
            query = {"cursor": following}


def require_membership(options: Globals, credentials: Credentials, org: str) -> None:
    """Raises CliError when the caller is not in `org`."""
    orgs = orgs_of(options, credentials)
    if any(row.get("id") == org for row in orgs):
        return
    named = [f"{row.get('id')} ({row.get('name')})" for row in orgs[:ORGS_NAMED_MAX]]
    more = ", …" if len(orgs) > ORGS_NAMED_MAX else ""
    yours = f"your orgs there: {', '.join(named)}{more}" if named else "you are in no org there"
    raise CliError(f"you are not in an org {org} at {credentials.url}; {yours}")
