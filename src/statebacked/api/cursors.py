"""Cursors: where the next page of a list begins, sealed so that no other list takes it.

base64url of a version byte, a MAC and the position. The MAC covers the version, the org, the route and the
filter too, so that they need not stand in the cursor.
"""

import base64
import binascii
import hmac
from typing import Final

import msgspec

from statebacked.auth.secrets import Keyring
from statebacked.model.errors import InvalidCursor
from statebacked.model.limits import CURSOR_CHARACTERS_MAX

_VERSION: Final = b"\x01"
_MAC_BYTES: Final = 16


class Cursors:
    """Makes and reads cursors of this server."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive("cursors")

    def seal(self, position: str, *, org: str, route: str, query: str) -> str:
        """The cursor of the page that begins after `position`. `query` is all that filters the list."""
        mac = self._mac(position.encode(), org, route, query)
        return base64.urlsafe_b64encode(_VERSION + mac + position.encode()).rstrip(b"=").decode()

    def open(self, cursor: str, *, org: str, route: str, query: str) -> str:
        """The position again. Raises InvalidCursor for a damaged cursor and for another list's."""
        try:
            if len(cursor) > CURSOR_CHARACTERS_MAX:
                raise ValueError
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            head, mac, position = raw[:1], raw[1 : 1 + _MAC_BYTES], raw[1 + _MAC_BYTES :]
            if head != _VERSION or not hmac.compare_digest(mac, self._mac(position, org, route, query)):
                raise ValueError
            return position.decode()
        except (ValueError, binascii.Error) as exc:
            raise InvalidCursor(
                "the cursor is not of this list: leave it out to begin at the first page"
            ) from exc

    def _mac(self, position: bytes, org: str, route: str, query: str) -> bytes:
        signed = msgspec.json.encode([1, org, route, query]) + b"\n" + position
        return hmac.digest(self._key, signed, "sha256")[:_MAC_BYTES]
