"""Keys: what customers sign their tokens with. The secret is shown once and stored sealed."""

import base64
from collections.abc import Iterable
from typing import Final

from statebacked.auth.scopes import in_order
from statebacked.auth.secrets import Keyring, RandomBytes
from statebacked.model.ids import Instant, KeyId, OrgId
from statebacked.model.machine import Key

_SECRET_PREFIX: Final = "sbsec_"  # noqa: S105 - the prefix, not a secret
_SECRET_BYTES: Final = 32
_TABLE: Final = "keys"


def create_key(
    keyring: Keyring,
    random_bytes: RandomBytes,
    *,
    key_id: KeyId,
    org: OrgId,
    name: str,
    scopes: Iterable[str],
    now: Instant,
) -> tuple[Key, str]:
    """A key to store, and the secret that its owner is shown once."""
    secret = _SECRET_PREFIX + base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    sealed = keyring.seal(secret.encode(), org=org, table=_TABLE, row=key_id)
    key = Key(id=key_id, org=org, name=name, scopes=in_order(scopes), sealed_secret=sealed, created_at=now)
    return key, secret


def open_secret(keyring: Keyring, key: Key) -> bytes:
    """The secret of a stored key: what its tokens are signed with. Raises SealBroken."""
    return keyring.open(key.sealed_secret, org=key.org, table=_TABLE, row=key.id)
