"""Orgs: those that the signed-in user is in, and new ones."""

from collections.abc import Mapping
from typing import Final

from statebacked.api.calls import UserCall, UserHandler
from statebacked.api.keys import check_printable_name
from statebacked.api.replies import Reply, json_reply
from statebacked.api.wire import CreateOrg, iso, parse_body
from statebacked.auth.authenticator import Authenticator
from statebacked.model.ids import OrgId
from statebacked.model.limits import JSON_BODY_BYTES_MAX
from statebacked.model.machine import Org
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids

# The published client wants numbers; this is JavaScript's largest safe integer.
_UNLIMITED: Final = 9_007_199_254_740_991


class OrgRoutes:
    """Handlers of /orgs."""

    def __init__(self, catalogue: Catalogue, authenticator: Authenticator, clock: Clock, ids: Ids) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._clock = clock
        self._ids = ids

    def handlers(self) -> Mapping[str, UserHandler]:
        """By operation."""
        return {"listOrgs": self.list, "createOrg": self.create}

    async def list(self, call: UserCall) -> Reply:
        items = [
            {
                "id": membership.org.id,
                "name": membership.org.name,
                "role": membership.role,
                "createdAt": iso(membership.org.created_at),
                "limits": {"monthlyEventsLimit": _UNLIMITED, "monthlyReadsLimit": _UNLIMITED},
            }
            for membership in call.user.memberships
        ]
        return json_reply({"orgs": items})

    async def create(self, call: UserCall) -> Reply:
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), CreateOrg)
        check_printable_name(body.name)
        org = Org(
            id=OrgId(self._ids.new("org")),
            name=body.name,
            created_at=self._clock.now().wall,
            allow_anonymous=body.allow_anonymous_access,
            auth_revision=1,
        )
        await self._catalogue.create_org(org, call.user.user)
        self._authenticator.changed()
        return json_reply({"id": org.id})
