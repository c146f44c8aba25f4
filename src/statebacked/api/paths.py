"""Request paths: split once, decoded once, forgiving about slashes.

A slash at the end of a client's host gives `//machines`; both it and a trailing slash are taken. Names are
decoded after splitting, so `%2F` in one can never become a separator.
"""

from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from statebacked.model.errors import InvalidName
from statebacked.model.ids import InstanceName, MachineName, parse_instance_name, parse_machine_name

Scope = MutableMapping[str, Any]  # ASGI's scopes hold whatever their type says


class HotPath(NamedTuple):
    """A path of one instance: its state, or its events. `bad_name` says what is wrong with a name in it:
    for after the caller was found to be somebody."""

    what: Literal["state", "events"]
    machine: MachineName
    instance: InstanceName
    bad_name: str | None


_REMEMBERED_MAX: Final = 10_000
_REMEMBERED_BYTES_MAX: Final = 1_000


def split_path(raw_path: bytes, prefix: tuple[bytes, ...]) -> list[bytes]:
    """The raw segments, empty ones and the server's own prefix left out."""
    segments = [segment for segment in raw_path.split(b"/") if segment]
    if prefix and tuple(segments[: len(prefix)]) == prefix:
        return segments[len(prefix) :]
    return segments


class HotPaths:
    """Parses the paths that carry the traffic, and remembers them: most come more than once."""

    def __init__(self, prefix: tuple[bytes, ...]) -> None:
        self._prefix = prefix
        self._parse = lru_cache(_REMEMBERED_MAX)(self._parse_anew)

    def find(self, raw_path: bytes) -> HotPath | None:
        """None for any other path."""
        if len(raw_path) > _REMEMBERED_BYTES_MAX:
            return self._parse_anew(raw_path)
        return self._parse(raw_path)

    def _parse_anew(self, raw_path: bytes) -> HotPath | None:
        match split_path(raw_path, self._prefix):
            case [b"machines", machine, b"i", instance]:
                what: Literal["state", "events"] = "state"
            case [b"machines", machine, b"i", instance, b"events"]:
                what = "events"
            case _:
                return None
        try:
            return HotPath(
                what,
                parse_machine_name(decode_segment(machine)),
                parse_instance_name(decode_segment(instance)),
                None,
            )
        except InvalidName as error:
            return HotPath(what, MachineName(""), InstanceName(""), error.message)


def raw_path_of(scope: Scope) -> bytes:
    """The path as it was sent; servers that keep only the decoded one lose what %2F meant."""
    raw_path: bytes | None = scope.get("raw_path")
    return raw_path if raw_path is not None else scope["path"].encode()


def decode_segment(segment: bytes) -> str:
    """One segment, percent-decoded once. Raises InvalidName when it is not UTF-8."""
    try:
        return (unquote_to_bytes(segment) if b"%" in segment else segment).decode()
    except UnicodeDecodeError as exc:
        raise InvalidName("a name in the path is not UTF-8") from exc


def prefix_of(public_url: str | None) -> tuple[bytes, ...]:
    """The segments that a public URL puts before every path."""
    if public_url is None:
        return ()
    return tuple(segment.encode() for segment in urlsplit(public_url).path.split("/") if segment)
