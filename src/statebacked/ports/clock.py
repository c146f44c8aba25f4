"""What time it is, and fresh ids."""

from typing import Protocol

from statebacked.model.values import Now


class Clock(Protocol):
    def now(self) -> Now: ...


class Ids(Protocol):
    def new(self, prefix: str) -> str:
        """A fresh id: prefix, "_", 22 characters of base64url (16 random bytes)."""
