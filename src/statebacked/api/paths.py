"""Request paths: split once, decoded once, forgiving about slashes.

A slash at the end of a client's host gives `//machines`; both it and a trailing slash are taken. Names are
decoded after splitting, so `%2F` in one can never become a separator.
"""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from statebacked.model.errors import InvalidName

Scope = MutableMapping[str, Any]  # ASGI's scopes hold whatever their type says


def segments_of(scope: Scope, prefix: tuple[bytes, ...]) -> list[bytes]:
    """The raw segments of the path, empty ones and the server's own prefix left out."""
    raw = scope.get("raw_path")
    path: bytes = raw if raw is not None else scope["path"].encode()
    segments = path.split(b"/")[1:]
    if b"" in segments:
        segments = [segment for segment in segments if segment]
    if prefix and tuple(segments[: len(prefix)]) == prefix:
        return segments[len(prefix) :]
    return segments


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
