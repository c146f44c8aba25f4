"""Times on the command line: ISO 8601, or how far from another time, as in `-10m`."""

import re
from datetime import UTC, date, datetime, timedelta

from statebacked.cli.errors import CliError

__all__ = ["iso_of", "parse_time", "time_of"]

_DISTANCE = re.compile(
    r"([+-]?\d+(?:\.\d+)?) ?"
    r"(?:(s|secs?|seconds?)|(m|mins?|minutes?)|(h|hrs?|hours?)|(d|days?)|(w|weeks?)|(y|yrs?|years?))",
    re.IGNORECASE,
)
_SECONDS = (1.0, 60.0, 3_600.0, 86_400.0, 604_800.0, 31_557_600.0)
_DATE_CHARACTERS = len("2030-01-31")


def parse_time(text: str, option: str, *, base: datetime) -> datetime:
    """In UTC. A date alone is its midnight in UTC, a time without an offset is of this machine's zone, as in
    JavaScript. Raises CliError."""
    try:
        distance = _DISTANCE.fullmatch(text.strip())
        if distance is None:
            return _parse_iso(text.strip())
        unit = next(n for n, name in enumerate(distance.groups()[1:]) if name)
        return base + timedelta(seconds=float(distance[1]) * _SECONDS[unit])
    except (ValueError, OverflowError) as exc:
        message = f"{option} {text!r} is not a valid time: write 2030-01-31T12:00:00Z, or -10m, -2h, 1d"
        raise CliError(message) from exc


def _parse_iso(text: str) -> datetime:
    if len(text) == _DATE_CHARACTERS:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return datetime.fromisoformat(text).astimezone(UTC)


def iso_of(moment: datetime) -> str:
    """To the millisecond, as the server and JavaScript write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def time_of(text: str) -> datetime:
    """A time that a server sent. Raises CliError."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise CliError(f"the server sent {text!r} for a time: is this a statebacked server?") from exc
