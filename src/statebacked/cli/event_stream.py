"""Server-sent events, sans-IO: bytes in, events out (WHATWG HTML, "Server-sent events")."""

from dataclasses import dataclass

from statebacked.cli.errors import CliError

LINE_BYTES_MAX = 10_000_000

__all__ = ["Event", "EventReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`id` None: it has none. `data` empty: it only tells its id, or is a comment that says nothing."""

    id: str | None
    kind: str
    data: str


class EventReader:
    """Collects one stream, which may be split anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._kind = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events that this data ends. Raises CliError for a line that is too long."""
        *lines, self._rest = (self._rest + data).splitlines(keepends=True) or [b""]
        if self._rest.endswith(b"\n"):  # a carriage return may be half of a line end
            lines.append(self._rest)
            self._rest = b""
        if len(self._rest) > LINE_BYTES_MAX:
            raise CliError("the stream holds a line without end: is this a statebacked server?")
        events = []
        for line in lines:
            event = self._take(line.rstrip(b"\r\n").decode(errors="replace"))
            if event is not None:
                events.append(event)
        return events

    def _take(self, line: str) -> Event | None:
        if line == "":
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id" if "\0" not in value:
                self._id = value
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case _:
                pass  # a comment, or a field of a later version
        return None

    def _end(self) -> Event:
        event = Event(id=self._id, kind=self._kind or "message", data="\n".join(self._data))
        self._id, self._kind, self._data = None, "", []
        return event
