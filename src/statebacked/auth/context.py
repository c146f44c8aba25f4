"""The one function that builds an authContext, whatever it comes from: a token, a header, a handler."""

import msgspec

from statebacked.model.json_text import has_number_longer_than
from statebacked.model.limits import (
    AUTH_CONTEXT_BYTES_MAX,
    AUTH_CONTEXT_DEPTH_MAX,
    NUMBER_CHARACTERS_MAX,
)
from statebacked.model.values import Json

# Machine code copies claims into objects of its own; these keys would reach an object's prototype there.
_REFUSED_KEYS = frozenset({"__proto__", "constructor", "prototype"})
# What only the server itself may say.
_RESERVED_KEYS = frozenset({"stateBackedSender", "stateBackedWebhook"})


class InvalidAuthContext(ValueError):
    """The claims are no authContext; the text says which rule they break."""


def build_auth_context(claims: object) -> Json:
    """The authContext of already parsed claims, as compact JSON.

    A JSON object of at most AUTH_CONTEXT_BYTES_MAX bytes, nested at most AUTH_CONTEXT_DEPTH_MAX deep, without
    keys that reach a prototype and without numbers of more than NUMBER_CHARACTERS_MAX characters. What only
    the server may claim is dropped. Raises InvalidAuthContext.
    """
    if not isinstance(claims, dict):
        raise InvalidAuthContext("an authContext is a JSON object")
    _check_shape(claims)
    encoded = msgspec.json.encode({key: value for key, value in claims.items() if key not in _RESERVED_KEYS})
    if len(encoded) > AUTH_CONTEXT_BYTES_MAX:
        raise InvalidAuthContext(f"an authContext is at most {AUTH_CONTEXT_BYTES_MAX} bytes of JSON")
    if has_number_longer_than(NUMBER_CHARACTERS_MAX, encoded):
        raise InvalidAuthContext(f"a number in an authContext has at most {NUMBER_CHARACTERS_MAX} characters")
    return Json(encoded)


def _check_shape(claims: object) -> None:
    level = [claims]
    for _ in range(AUTH_CONTEXT_DEPTH_MAX):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                if not _REFUSED_KEYS.isdisjoint(value):
                    raise InvalidAuthContext("an authContext has no key __proto__, constructor or prototype")
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise InvalidAuthContext(f"an authContext is nested at most {AUTH_CONTEXT_DEPTH_MAX} deep")
