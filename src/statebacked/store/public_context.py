"""Extracts what readers may see of a context, without parsing the rest of it."""

import msgspec

from statebacked.model.values import Json


class _Context(msgspec.Struct):
    public: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Context)


def public_context(context: Json) -> Json | None:
    """The bytes of the context's member `public`, or None when it has none or is not an object."""
    try:
        public = _decoder.decode(context).public
    except msgspec.ValidationError:
        return None
    return None if public is msgspec.UNSET else Json(bytes(public))
