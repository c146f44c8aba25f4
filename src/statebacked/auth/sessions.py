"""Sessions: opaque tokens of users. Only a hash is stored, and only this module makes them."""

import base64
from hashlib import sha256
from typing import Final

from statebacked.auth.secrets import RandomBytes
from statebacked.model.ids import Instant, UserId
from statebacked.model.machine import Session

SESSION_PREFIX: Final = "sbs_"
_SESSION_BYTES: Final = 32


def create_session(
    user: UserId, random_bytes: RandomBytes, *, now: Instant, expires_at: Instant | None
) -> tuple[Session, str]:
    """A session to store, and the token that its user is shown once."""
    token = SESSION_PREFIX + _base64url(random_bytes(_SESSION_BYTES))
    session = Session(
        token_sha256=hash_session_token(token.encode()), user=user, created_at=now, expires_at=expires_at
    )
    return session, token


def hash_session_token(token: bytes) -> bytes:
    """What is stored in place of a token. Its 256 random bits need no slow hash."""
    return sha256(token).digest()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
