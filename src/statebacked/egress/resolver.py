"""From a name to the addresses that may be connected to.

Every address that the name leads to must be allowed: a name that mixes public and private ones is refused as
a whole. The connection then goes to an address of this very answer, so changing one's mind gains nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from statebacked.egress.addresses import Address, is_private, is_public, parse_address
from statebacked.egress.urls import Target
from statebacked.model.ids import OrgId
from statebacked.ports.egress import EgressFailed, EgressRefused

_LOOKUPS_PER_ORG_MAX: Final = 2  # at a time: slow name servers of one org must not hold up all others

_ADDRESSES_MAX: Final = 64  # each is judged

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def system_resolve(name: str) -> Sequence[str]:
    """What this machine's resolver says. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [_with_zone(*where) for *_, where in found]


def _with_zone(address: object, port: object, flow: object = 0, zone: object = 0) -> str:
    """A zone id stands apart from its address, in some resolvers' answers in it."""
    return f"{address}%{zone}" if zone and "%" not in str(address) else str(address)


class Resolver:
    """`allow_private` opens this machine and the networks of its owner."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._turns: WeakValueDictionary[OrgId | None, asyncio.Semaphore] = WeakValueDictionary()

    async def addresses(self, org: OrgId | None, target: Target) -> list[Address]:
        """Allowed addresses of the target, in the resolver's order. Raises EgressRefused, EgressFailed."""
        if target.address is not None:
            found = [target.address]
        else:
            found = await self._look_up(org, target.name)
        if not all(self._allows(address) for address in found):
            hint = "" if self._allow_private else ": requests go to public addresses only"
            raise EgressRefused(f"{target.name} is not allowed{hint}")
        return found

    def _allows(self, address: Address) -> bool:
        return is_public(address) or (self._allow_private and is_private(address))

    async def _look_up(self, org: OrgId | None, name: str) -> list[Address]:
        turns = self._turns.get(org)
        if turns is None:
            turns = self._turns[org] = asyncio.Semaphore(_LOOKUPS_PER_ORG_MAX)
        try:
            async with turns:
                texts = await self._resolve(name)
        except (OSError, UnicodeError):
            texts = ()
        if not texts:
            raise EgressFailed(f"the name {name} leads nowhere")
        if len(texts) > _ADDRESSES_MAX:
            raise EgressRefused(f"{name} is not allowed: it leads to more than {_ADDRESSES_MAX} addresses")
        try:
            return [*dict.fromkeys(map(parse_address, texts))]
        except ValueError:
            raise EgressRefused(f"{name} is not allowed: it leads to an address with a zone id") from None
