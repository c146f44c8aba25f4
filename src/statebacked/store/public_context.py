"""Extracts what readers may see of a context, without parsing the rest of it."""

import msgspec

from statebacked.model.tagged import shown
from statebacked.model.values import Json


class _Context(msgspec.Struct):
    public: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Context)


def public_context(context: Json) -> Json | None:
    """The context's member `public` as readers get it, or None when it has none or is not an object."""
    try:
        public = _decoder.decode(context).public
    except msgspec.ValidationError:
        return None
    return None if public is msgspec.UNSET else shown(Json(bytes(public)))
