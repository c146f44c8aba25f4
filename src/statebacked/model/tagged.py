"""JSON of workers as readers get it. Workers write what JSON has no word for (a Date, a Map, an Error) as an
object with the member MARK; such text is stored and handed back to workers as it is, and shown without tags.

| kind                                   | is shown as                                              |
|----------------------------------------|----------------------------------------------------------|
| Date, URL, URLSearchParams, Temporal.* | its text; an invalid Date: null                          |
| RegExp                                 | "/source/flags"                                          |
| Map, Set                               | a list of [key, value]; a list of members                |
| an Error of any class                  | {"name", "message", "code"?, "cause"?, its own members}  |
| ArrayBuffer, DataView, typed arrays    | a list of numbers; 64-bit integers as text               |
"""

import base64
import math
import struct
from typing import Final

import msgspec

from statebacked.model.values import Json

MARK: Final = "$$statebacked"
_MARK_BYTES: Final = MARK.encode()
_TEXTS: Final = ("Date", "URL", "URLSearchParams")
_LISTS: Final = ("Map", "Set")
_FORMATS: Final = {  # of struct, little-endian
    "ArrayBuffer": "B",
    "DataView": "B",
    "Int8Array": "b",
    "Uint8Array": "B",
    "Uint8ClampedArray": "B",
    "Int16Array": "h",
    "Uint16Array": "H",
    "Int32Array": "i",
    "Uint32Array": "I",
    "BigInt64Array": "q",
    "BigUint64Array": "Q",
    "Float16Array": "e",
    "Float32Array": "f",
    "Float64Array": "d",
}
_WHOLE_MAX: Final = 2.0**53


def shown(text: Json) -> Json:
    """For readers; the very bytes when no tag is in them. Only for JSON that a worker wrote: a client may
    send anything, and means it as it stands. What only resembles a tag stays as it is. Never raises."""
    if text.find(_MARK_BYTES) < 0:
        return text
    try:
        return Json(msgspec.json.encode(_plain(msgspec.json.decode(text))))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return text  # a number that no worker writes, or no JSON


def _plain(node: object) -> object:
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    kind = node.get(MARK)
    if isinstance(kind, str) and "value" in node:
        try:
            return _kept(kind, node["value"])
        except (ValueError, struct.error):
            pass  # nothing of ours
    return {_unescaped(key): _plain(part) for key, part in node.items()}


def _unescaped(key: str) -> str:
    """The member of a user's object that resembles the mark."""
    return MARK + key[len(MARK) + 1 :] if key.startswith(MARK + "$") else key


def _kept(kind: str, told: object) -> object:
    """Raises ValueError for what no worker tells of that kind."""
    if (kind in _TEXTS or kind.startswith("Temporal.")) and isinstance(told, str | None):
        return told
    if kind in _FORMATS and isinstance(told, str):
        return _numbers(_FORMATS[kind], base64.b64decode(told, validate=True))
    if kind in _LISTS and isinstance(told, list):
        return _plain(told)
    if kind == "RegExp" and isinstance(told, list) and len(told) > 1:
        return f"/{told[0]}/{told[1]}"
    if kind.endswith(("Error", "DOMException")) and isinstance(told, dict):
        return _error("Error" if kind == "DOMException" else kind, told)
    raise ValueError(f"no {kind}")


def _error(name: str, told: dict[str, object]) -> dict[str, object]:
    hidden = {key: _plain(part) for key, part in told.items() if key != "own"}
    own = _plain(told.get("own", {}))
    return {"name": name, "message": "", **hidden, **(own if isinstance(own, dict) else {})}


def _numbers(format: str, data: bytes) -> list[object]:
    count = len(data) // struct.calcsize(f"<{format}")
    numbers = struct.unpack(f"<{count}{format}", data)
    if format in "qQ":
        return [str(number) for number in numbers]
    return [_number(number) for number in numbers] if format in "efd" else [*numbers]


def _number(number: float) -> float | int | None:
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _WHOLE_MAX else number
