"""Cursors: where the next page of a list begins, sealed so that no other list takes it.

base64url of the position under AES-SIV (RFC 5297): encrypted, because a position may name what its reader
may not see (a row that allowRead keeps back), and authenticated together with the org, the route and the
filter, so that those need not stand in the cursor. The same position is the same cursor.
"""

import base64
import binascii
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from statebacked.auth.secrets import Keyring
from statebacked.model.errors import InvalidCursor
from statebacked.model.limits import CURSOR_CHARACTERS_MAX

_VERSION: Final = b"\x02"
_KEY_BYTES: Final = 64


class Cursors:
    """Makes and reads cursors of this server."""

    def __init__(self, keyring: Keyring) -> None:
        self._cipher = AESSIV(keyring.derive("cursors", length=_KEY_BYTES))

    def seal(self, position: str, *, org: str, route: str, query: str) -> str:
        """The cursor of the page that begins after `position`. `query` is all that filters the list."""
        sealed = self._cipher.encrypt(_VERSION + position.encode(), [_bound_to(org, route, query)])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, cursor: str, *, org: str, route: str, query: str) -> str:
        """The position again. Raises InvalidCursor for a damaged cursor and for another list's."""
        try:
            if len(cursor) > CURSOR_CHARACTERS_MAX:
                raise ValueError
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            plain = self._cipher.decrypt(sealed, [_bound_to(org, route, query)])
            if plain[:1] != _VERSION:
                raise ValueError
            return plain[1:].decode()
        except (ValueError, binascii.Error, InvalidTag) as exc:
            raise InvalidCursor(
                "the cursor is not of this list: leave it out to begin at the first page"
            ) from exc


def _bound_to(org: str, route: str, query: str) -> bytes:
    return msgspec.json.encode([org, route, query])
