"""New entries as they come: by the server's stream, else by asking every 30 seconds.

Theory of operation. The stream is opened with the window, and after a break with the id of the last event, so
that nothing is lost or repeated. A break is followed by another attempt, after 1 s at first and 30 s at last,
and 60 of them without an event end the command; so does a refusal, as for a token that is not valid any more.
A server that has no stream (or a proxy that lets none through) is polled instead. Polling goes on from a
millisecond before the last entry that was shown, because the stream may have broken in the middle of one, and
leaves out what was shown.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from statebacked.cli.api import Api, JsonObject, StreamBroken
from statebacked.cli.errors import ApiError, CliError, Unreachable
from statebacked.cli.event_stream import Event
from statebacked.cli.output import note, rows_of
from statebacked.cli.times import iso_of, time_of

__all__ = ["Window", "next_batch", "watch"]

POLL_S = 30.0
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 30.0
SILENT_STREAMS_MAX = 2
ATTEMPTS_MAX = 60  # in a row without an event or an answer: about half an hour
# What a server without the route says, or a proxy that refuses such answers.
NO_STREAM = frozenset({404, 405, 406, 501})
PASSING = frozenset({429, 502, 503, 504})

Sleep = Callable[[float], None]
Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which entries: later than `since`, up to and with `to`, and those of `filters`."""

    since: datetime
    to: datetime | None
    filters: Mapping[str, str]

    def query(self, since: datetime | None = None) -> dict[str, str]:
        """Of a request from then on."""
        named = {"from": iso_of(since or self.since), **self.filters}
        return named if self.to is None else {**named, "to": iso_of(self.to)}


class NoStream(Exception):
    """The server cannot be listened to: it must be asked."""


@dataclass(slots=True)
class Shown:
    """What was shown last: the entries of the newest millisecond."""

    at: str = ""
    entries: list[JsonObject] = field(default_factory=list)

    def add(self, entry: JsonObject) -> None:
        at = str(entry.get("timestamp"))
        if at != self.at:
            self.at, self.entries = at, []
        self.entries.append(entry)


def next_batch(api: Api, window: Window) -> JsonObject:
    """The next batch that holds entries, or the one that says that there are none. Raises CliError."""
    since = window.since
    while True:
        batch = api.get("/logs", window.query(since))
        reached = _reached(batch)
        is_last = reached <= since or (window.to is not None and reached >= window.to)
        if rows_of(batch, "logs") or is_last:
            return batch
        since = reached


def watch(api: Api, window: Window, *, sleep: Sleep, now: Now) -> Iterator[JsonObject]:
    """Every entry, as it comes, until the window has passed. Raises CliError."""
    shown = Shown()
    try:
        yield from _listen(api, window, shown, sleep)
    except NoStream:
        yield from _ask(api, window, shown, sleep=sleep, now=now)


class _Attempts:
    """How often in a row something failed that worked before, and how long to wait before the next time."""

    def __init__(self, what: str, sleep: Sleep) -> None:
        self._what = what
        self._sleep = sleep
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def wait(self, failure: CliError | None) -> None:
        """Raises `failure`, with the count, when it was the last one."""
        self._failures += 1
        if self._failures == 1:
            note(f"{self._what} broke off{'' if failure is None else f' ({failure})'}; connecting again …")
        if self._failures > ATTEMPTS_MAX:
            raise CliError(
                f"{failure or 'the stream ends without an event'}; gave up after {ATTEMPTS_MAX} attempts"
            )
        self._sleep(float(min(BACK_OFF_S * 2 ** min(self._failures - 1, 10), BACK_OFF_S_MAX)))


# --- listening ---------------------------------------------------------------------------------------


class _Listener:
    """One stream after another, each from where the one before broke off."""

    def __init__(self, api: Api, window: Window, attempts: _Attempts) -> None:
        self._api = api
        self._window = window
        self._attempts = attempts
        self._last_id: str | None = None
        self._was_open = False
        self._silent = 0  # streams in a row that sent nothing
        self.is_over = False

    def entries(self) -> Iterator[JsonObject]:
        """Of one stream. Raises StreamBroken, ApiError."""
        with self._api.stream("/logs/stream", self._window.query(), self._last_id) as events:
            if events is None:  # the window has passed, and there is nothing more in it
                self.is_over = True
                return
            self._was_open = True
            for event in events:
                self._silent = 0
                self._attempts.succeeded()
                self._last_id = event.id or self._last_id
                if event.kind == "end":
                    self.is_over = True
                    return
                entry = _entry_of(event)
                if entry is not None:
                    yield entry

    def judge(self, failure: StreamBroken | ApiError) -> None:
        """Whether to try again. Raises NoStream, or the failure."""
        if isinstance(failure, ApiError):
            if failure.status in NO_STREAM and not (self._was_open and failure.status == 404):
                raise NoStream from failure
            if not self._was_open or failure.status not in PASSING:
                raise failure
            return
        if failure.is_silence:
            self._silent += 1
            if self._silent >= SILENT_STREAMS_MAX:
                raise NoStream from failure
        elif not self._was_open:
            raise failure


def _listen(api: Api, window: Window, shown: Shown, sleep: Sleep) -> Iterator[JsonObject]:
    attempts = _Attempts("the stream", sleep)
    listener = _Listener(api, window, attempts)
    while True:
        failure: StreamBroken | ApiError | None = None
        try:
            for entry in listener.entries():
                shown.add(entry)
                yield entry
        except (StreamBroken, ApiError) as exc:
            listener.judge(exc)
            failure = exc
        if listener.is_over:
            return
        attempts.wait(failure)


def _entry_of(event: Event) -> JsonObject | None:
    """The entry of an event, if it has one. Raises ApiError for the event that says why the stream ends."""
    if not event.data:
        return None
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError) as exc:
        raise CliError("the stream holds something that is not JSON: is this a statebacked server?") from exc
    if not isinstance(value, dict):
        raise CliError("the stream holds JSON that is not an object: is this a statebacked server?")
    if event.kind == "error":
        status = value.get("status")
        raise ApiError(
            status if isinstance(status, int) else 0,
            code=str(value.get("code", "")),
            message=str(value.get("error", "")),
            request_id="",
        )
    return value if event.kind == "message" else None


# --- asking ------------------------------------------------------------------------------------------


def _ask(api: Api, window: Window, shown: Shown, *, sleep: Sleep, now: Now) -> Iterator[JsonObject]:
    since = window.since
    if shown.at:
        since = max(since, time_of(shown.at) - timedelta(milliseconds=1))
    known = list(shown.entries)
    attempts = _Attempts("the connection", sleep)
    has_answered = bool(shown.at)
    while True:
        is_passed = window.to is not None and now() > window.to
        try:
            batch = api.get("/logs", window.query(since))
        except (Unreachable, ApiError) as failure:
            if not has_answered or (isinstance(failure, ApiError) and failure.status not in PASSING):
                raise
            attempts.wait(failure)
            continue
        has_answered = True
        attempts.succeeded()
        entries = rows_of(batch, "logs")
        for entry in entries:
            if entry in known:
                known.remove(entry)
            else:
                yield entry
        reached = _reached(batch)
        is_caught_up = not entries and reached <= since
        if window.to is not None and (reached >= window.to or (is_passed and is_caught_up)):
            return
        if is_caught_up:
            sleep(POLL_S)
        since = max(since, reached)


def _reached(batch: JsonObject) -> datetime:
    return time_of(str(batch.get("maxTimestamp")))
