"""The routes of logs: batches for whoever polls, a stream for whoever watches."""

from collections.abc import Mapping
from datetime import UTC, datetime

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.log_streams import LogStream, LogStreams, Window, open_position
from statebacked.api.replies import Reply, json_reply
from statebacked.api.wire import iso, log_item
from statebacked.logs.reading import Logs
from statebacked.model.errors import InvalidParameter, Unavailable
from statebacked.model.ids import Instant, VersionId, parse_instance_name, parse_machine_name
from statebacked.model.logs import END_OF_TIME, LogFilter, end_of
from statebacked.ports.clock import Clock
from statebacked.ports.store import StoreFailed


class LogRoutes:
    """Handlers of /logs."""

    def __init__(self, logs: Logs, streams: LogStreams, clock: Clock) -> None:
        self._logs = logs
        self._streams = streams
        self._clock = clock

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {"getLogs": self.get, "streamLogs": self.stream}

    async def get(self, call: OrgCall) -> Reply:
        parameters = call.query()
        wanted = parse_filter(call, parameters)
        after = parse_time(parameters, "from")
        if after is None:
            raise InvalidParameter("say from when: from=2030-01-31T12:00:00.000Z", "from")
        until = parse_until(parameters, after)
        try:
            batch = await self._logs.batch(wanted, after, until)
        except StoreFailed as failure:
            raise Unavailable("the logs cannot be read now: try again") from failure
        return json_reply(
            {
                "maxTimestamp": iso(batch.max_timestamp),
                "logs": [log_item(entry) for entry in batch.entries],
            }
        )

    async def stream(self, call: OrgCall) -> Reply | LogStream:
        parameters = call.query()
        wanted = parse_filter(call, parameters)
        last_id = call.headers.get(b"last-event-id")
        if last_id:
            position = open_position(call, wanted, last_id.decode("latin-1"))
        else:
            position = end_of(parse_time(parameters, "from") or self._clock.now().wall)
        until = parse_until(parameters, Instant(0) if last_id else position.at)
        try:
            await self._logs.clear()
            if until is not None and await self._logs.is_over(wanted, position, until):
                return Reply(204)
        except StoreFailed as failure:
            raise Unavailable("the logs cannot be read now: try again") from failure
        window = Window(wanted, position, END_OF_TIME if until is None else until)
        return LogStream(self._streams, call, window)


def parse_filter(call: OrgCall, parameters: Mapping[str, str]) -> LogFilter:
    """Which entries are asked for. Raises InvalidName."""
    machine, instance = parameters.get("machine"), parameters.get("instance")
    version = parameters.get("version")
    return LogFilter(
        org=call.principal.org,
        machine=parse_machine_name(machine) if machine else None,
        instance=parse_instance_name(instance) if instance else None,
        version=VersionId(version) if version else None,
    )


def parse_time(parameters: Mapping[str, str], name: str) -> Instant | None:
    """An ISO 8601 time, to the millisecond, from 1970 to the year 9999; without an offset it is UTC. Raises
    InvalidParameter."""
    text = parameters.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
        if moment > datetime.max.replace(tzinfo=UTC):
            raise OverflowError
        at = (since_1970.days * 86_400 + since_1970.seconds) * 1000 + since_1970.microseconds // 1000
    except (ValueError, OverflowError) as exc:
        raise InvalidParameter(f"{name} must be a time such as 2030-01-31T12:00:00.000Z", name) from exc
    return Instant(max(at, 0))


def parse_until(parameters: Mapping[str, str], after: Instant) -> Instant | None:
    """The end of the window. Raises InvalidParameter."""
    until = parse_time(parameters, "to")
    if until is not None and until < after:
        raise InvalidParameter("to must not be before from", "to")
    return until
