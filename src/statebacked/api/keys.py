"""Keys: create (the secret is shown then and never again), list, delete."""

from collections.abc import Mapping

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.api.wire import CreateKey, iso, parse_body
from statebacked.auth.authenticator import Authenticator
from statebacked.auth.keys import create_key
from statebacked.auth.scopes import KEY_USES, SCOPES, parse_scopes
from statebacked.auth.secrets import Keyring, RandomBytes
from statebacked.model.errors import InvalidParameter, MissingScope, NotFound
from statebacked.model.ids import KeyId
from statebacked.model.limits import JSON_BODY_BYTES_MAX, PRINTABLE_NAME_CHARACTERS_MAX
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock, Ids


class KeyRoutes:
    """Handlers of /keys."""

    def __init__(
        self,
        catalogue: Catalogue,
        authenticator: Authenticator,
        clock: Clock,
        *,
        ids: Ids,
        keyring: Keyring,
        random_bytes: RandomBytes,
    ) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._clock = clock
        self._ids = ids
        self._keyring = keyring
        self._random_bytes = random_bytes

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {"createKey": self.create, "listKeys": self.list, "deleteKey": self.delete}

    async def create(self, call: OrgCall) -> Reply:
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), CreateKey)
        check_printable_name(body.name)
        scopes = _wanted_scopes(body)
        if not scopes <= call.principal.scopes:
            lacking = ", ".join(sorted(scopes - call.principal.scopes))
            raise MissingScope(f"a key cannot have scopes that you do not have: {lacking}")
        key, secret = create_key(
            self._keyring,
            self._random_bytes,
            key_id=KeyId(self._ids.new("sbk")),
            org=call.principal.org,
            name=body.name,
            scopes=scopes,
            now=self._clock.now().wall,
        )
        await self._catalogue.add_key(key)
        self._authenticator.changed()
        return json_reply({"id": key.id, "key": secret})

    async def list(self, call: OrgCall) -> Reply:
        page = call.page()
        keys = await self._catalogue.list_keys(call.principal.org, after=page.after, limit=page.rows_to_read)
        items = [
            {"id": key.id, "name": key.name, "scopes": key.scopes, "createdAt": iso(key.created_at)}
            for key in keys[: page.limit]
        ]
        return json_reply({"keys": items, **page.cursor(len(keys), lambda n: keys[n].id)})

    async def delete(self, call: OrgCall) -> Reply:
        key_id = KeyId(call.segment("key"))
        if not await self._catalogue.delete_key(call.principal.org, key_id):
            raise NotFound("there is no such key in this org: `smply keys list` shows those that are")
        self._authenticator.revoke(lambda principal: principal.key == key_id)
        return Reply(204)


def check_printable_name(name: str) -> None:
    """A name that people read: of a key, of an org. Raises InvalidParameter."""
    if not 1 <= len(name) <= PRINTABLE_NAME_CHARACTERS_MAX or not name.isprintable():
        message = f"name must be 1 to {PRINTABLE_NAME_CHARACTERS_MAX} printable characters"
        raise InvalidParameter(message, "name")


def _wanted_scopes(body: CreateKey) -> frozenset[str]:
    """`scopes` wins over `use`: the published command line sends both. Neither means production."""
    if body.scopes is not None and not body.scopes:
        raise InvalidParameter("name at least one scope, or leave scopes out", "scopes")
    if body.scopes is not None:
        try:
            return parse_scopes(body.scopes)
        except KeyError as exc:
            message = f"{exc.args[0]} is not a scope; the scopes are {', '.join(SCOPES)}"
            raise InvalidParameter(message, "scopes") from exc
    for use, scopes in KEY_USES.items():
        if (body.use or "production") == use:
            return scopes
    raise InvalidParameter("use is production or ci; or pass scopes", "use")
