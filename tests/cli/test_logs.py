"""`smply logs`: what it asks, what it shows, and how it goes on when a stream breaks."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.conftest import Outcome, Smply
from tests.cli.fake_server import FakeServer

from statebacked.cli.errors import CliError
from statebacked.cli.event_stream import Event, EventReader
from statebacked.cli.times import iso_of, parse_time

NOW = datetime(2030, 1, 31, 12, 0, 0, 5_000, tzinfo=UTC)


def entry(ms: int, text: str, **more: object) -> dict[str, object]:
    return {
        "timestamp": iso_of(NOW + timedelta(milliseconds=ms)),
        "orgId": "org_1",
        "machineName": "toggler",
        "instanceName": "one",
        "machineVersionId": "ver_1",
        "outputType": "stdout",
        "log": text,
        **more,
    }


def at(ms: int) -> str:
    return iso_of(NOW + timedelta(milliseconds=ms))


def batch(maximum: int, *entries: dict[str, object]) -> dict[str, object]:
    return {"maxTimestamp": at(maximum), "logs": list(entries)}


def sse(*entries: dict[str, object]) -> bytes:
    return b"".join(
        b"id: c%s\ndata: %s\n\n" % (str(one["log"]).encode(), json.dumps(one).encode()) for one in entries
    )


END = b'event: end\ndata: {"maxTimestamp":"x"}\n\n'


@dataclass
class Streams:
    """Each stream that is opened gets the next script: pieces, and at last a failure, if there is one."""

    scripts: list[list[bytes | Exception]]
    asked: list[tuple[dict[str, str], str | None]] = field(default_factory=list)
    kind: str = "text/event-stream"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((dict(request.url.params), request.headers.get("last-event-id")))
        script = self.scripts.pop(0)

        def pieces() -> Iterator[bytes]:
            for piece in script:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return httpx.Response(200, headers={"content-type": self.kind}, content=pieces())


@dataclass
class Hand:
    """The clock of the command: sleeping moves it."""

    at: datetime = NOW
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def logs(smply: Smply, hand: Hand) -> Callable[..., Outcome]:
    smply.around = {"sleep": hand.sleep, "now": lambda: hand.at}
    return lambda *arguments: smply("logs", *arguments)


Logs = Callable[..., Outcome]


def no_stream(server: FakeServer) -> None:
    server.refuse("GET /logs/stream", 404, {"code": "not-found", "error": "no such route"})


def shown(outcome: Outcome) -> list[str]:
    """The lines of the entries that `watch` printed as JSON."""
    decoder, text, found = json.JSONDecoder(), outcome.out, []
    while text.strip():
        value, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        found.append(value["log"])
    return found


# --- get -----------------------------------------------------------------------------------------


def test_get_asks_with_the_originals_options_and_shows_the_batch(logs: Logs, server: FakeServer) -> None:
    server.give("GET /logs", batch(3, entry(3, "hello")))
    options = ("--to", "1h", "-m", "toggler", "-i", "one", "-v", "ver_1")
    outcome = logs("get", "--from", "-10m", *options)
    assert (outcome.code, outcome.json) == (0, batch(3, entry(3, "hello")))
    assert dict(server.requests[-1].url.params) == {
        "from": at(-600_000),
        "to": at(3_000_000),
        "machine": "toggler",
        "instance": "one",
        "version": "ver_1",
    }


def test_get_goes_on_over_empty_batches_that_lead_on(logs: Logs, server: FakeServer) -> None:
    server.give("GET /logs", batch(5), batch(9), batch(12, entry(12, "found")))
    assert logs("get", "-f", at(0)).json == batch(12, entry(12, "found"))
    assert [request.url.params["from"] for request in server.requests] == [at(0), at(5), at(9)]


@pytest.mark.parametrize("to", [None, at(7)])
def test_get_shows_an_empty_batch_when_there_is_nothing(
    logs: Logs, server: FakeServer, to: str | None
) -> None:
    server.give("GET /logs", batch(0) if to is None else batch(7))
    outcome = logs("get", "-f", at(0), *(() if to is None else ("-t", to)))
    assert outcome.json == batch(0 if to is None else 7)
    assert len(server.requests) == 1


def test_clean_lines_stand_under_a_heading_for_who_wrote_them(logs: Logs, server: FakeServer) -> None:
    entries = (entry(1, "a\nb"), entry(2, "c"), entry(3, "d", outputType="stderr"))
    server.give("GET /logs", batch(3, *entries))
    outcome = logs("get", "-f", "-1h", "--clean")
    assert outcome.out == "a\nb\nc\nd\n"
    assert outcome.err == "--- toggler/one stdout (ver_1)\n--- toggler/one stderr (ver_1)\n"


def test_json_shows_control_characters_escaped(logs: Logs, server: FakeServer) -> None:
    server.give("GET /logs", batch(1, entry(1, "\x1b[2J\x9b")))
    outcome = logs("get", "-f", "-1h")
    assert "\x1b" not in outcome.out
    assert "\x9b" not in outcome.out
    assert outcome.json == batch(1, entry(1, "\x1b[2J\x9b"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-f", "yesterday"), "--from 'yesterday' is not a valid time"),
        (("-f", "-1h", "-t", "later"), "--to 'later' is not a valid time"),
        (("-f", "-1h", "-t", "-1s"), "--to must not be before --from"),
    ],
)
def test_a_time_that_is_none_is_told(
    logs: Logs, server: FakeServer, arguments: tuple[str, ...], told: str
) -> None:
    for command in ("get", "watch"):
        outcome = logs(command, *arguments)
        assert outcome.code == 1
        assert told in outcome.err
    assert server.requests == []


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("-10m", -600),
        ("10m", 600),
        ("+1.5h", 5_400),
        ("-2 hours", -7_200),
        ("1d", 86_400),
        ("2 weeks", 1_209_600),
        ("-1y", -31_557_600),
        ("30s", 30),
        ("-5 Mins", -300),
        ("2030-01-31T12:01:00.005Z", 60),
        ("2030-01-31T14:01:00.005+02:00", 60),
        ("2030-02-01", 43_200 - 0.005),
    ],
)
def test_times_are_absolute_or_relative(text: str, seconds: float) -> None:
    assert parse_time(text, "--from", base=NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "10 parsecs", "--1m", "1e3s", "99999999999999y", "2030-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="is not a valid time"):
        parse_time(text, "--from", base=NOW)


# --- watch, by the stream ------------------------------------------------------------------------


def test_watch_prefers_the_stream_and_ends_with_its_window(logs: Logs, server: FakeServer) -> None:
    streams = Streams([[sse(entry(1, "a")), b":\n\n", sse(entry(2, "b")), END]])
    server.answers["GET /logs/stream"] = streams
    outcome = logs("watch", "-f", at(0), "--to", "1m", "--machine", "toggler")
    assert (outcome.code, shown(outcome)) == (0, ["a", "b"])
    assert streams.asked == [({"from": at(0), "to": at(60_000), "machine": "toggler"}, None)]
    assert server.requests[-1].headers["accept"] == "text/event-stream"
    assert server.requests[-1].headers["authorization"] == "Bearer sbs_admin"
    assert server.requests[-1].headers["x-statebacked-org-id"] == "org_1"


def test_an_empty_window_that_has_passed_ends_at_once(logs: Logs, server: FakeServer) -> None:
    server.answers["GET /logs/stream"] = lambda _: httpx.Response(204)
    outcome = logs("watch", "-f", "-1h", "--to", "1m")
    assert (outcome.code, outcome.out) == (0, "")


def test_a_stream_that_breaks_is_opened_again_behind_the_last_event(
    logs: Logs, server: FakeServer, hand: Hand
) -> None:
    streams = Streams(
        [
            [sse(entry(1, "a")), httpx.ReadError("reset")],
            [httpx.RemoteProtocolError("closed")],
            [sse(entry(1, "b")), b"id: further\n\n"],
            [sse(entry(5, "c")), END],
        ]
    )
    server.answers["GET /logs/stream"] = streams
    outcome = logs("watch", "-f", at(0), "-t", "1m")
    assert shown(outcome) == ["a", "b", "c"]
    assert [last for _, last in streams.asked] == [None, "ca", "ca", "further"]
    assert hand.slept == [1.0, 2.0, 1.0]
    assert outcome.err.count("the stream broke off") == 2  # each time once, however many attempts it takes


def test_a_server_that_restarts_before_the_first_line_is_waited_for(
    logs: Logs, server: FakeServer, hand: Hand
) -> None:
    silent: list[bytes | Exception] = [httpx.RemoteProtocolError("closed")]
    streams = Streams([silent, [b":\n\n"], [sse(entry(1, "a")), END]])
    server.answers["GET /logs/stream"] = streams
    outcome = logs("watch", "-f", at(0), "-t", "1m")
    assert (outcome.code, shown(outcome)) == (0, ["a"])
    assert [last for _, last in streams.asked] == [None, None, None]


@pytest.mark.parametrize(("status", "code"), [(401, ""), (403, "missing-user"), (404, "not-found")])
def test_a_refusal_after_a_break_ends_it(
    logs: Logs, server: FakeServer, hand: Hand, status: int, code: str
) -> None:
    streams = Streams([[sse(entry(1, "a")), httpx.ReadError("reset")]])

    def answer(request: httpx.Request) -> httpx.Response:
        return (
            streams(request)
            if streams.scripts
            else httpx.Response(status, json={"code": code, "error": "no"})
        )

    server.answers["GET /logs/stream"] = answer
    outcome = logs("watch", "-f", at(0))
    assert (outcome.code, shown(outcome)) == (1, ["a"])
    assert f"no ({status}" in outcome.err
    assert hand.slept == [1.0]


def test_a_server_that_never_comes_back_is_given_up(logs: Logs, server: FakeServer, hand: Hand) -> None:
    streams = Streams([[sse(entry(1, "a")), httpx.ReadError("reset")]])

    def answer(request: httpx.Request) -> httpx.Response:
        if streams.scripts:
            return streams(request)
        raise httpx.ConnectError("refused")

    server.answers["GET /logs/stream"] = answer
    outcome = logs("watch", "-f", at(0))
    assert (outcome.code, shown(outcome)) == (1, ["a"])
    assert "gave up after 60 attempts" in outcome.err
    assert len(hand.slept) == 60
    assert max(hand.slept) == 30.0


def test_asking_goes_on_over_a_restart_of_the_server(logs: Logs, server: FakeServer, hand: Hand) -> None:
    no_stream(server)
    left: list[httpx.Response | Exception] = [
        httpx.Response(200, json=batch(1, entry(1, "a"))),
        httpx.ConnectError("refused"),
        httpx.Response(503, json={"code": "unavailable", "error": "the server stops"}),
        httpx.Response(200, json=batch(90_000, entry(2, "b"))),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        following = left.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    server.answers["GET /logs"] = answer
    assert shown(logs("watch", "-f", at(0), "-t", at(90_000))) == ["a", "b"]
    assert hand.slept == [1.0, 2.0]


def test_a_server_that_restarts_is_waited_for(logs: Logs, server: FakeServer) -> None:
    left: list[httpx.Response | Exception] = [
        httpx.Response(200, headers={"content-type": "text/event-stream"}, content=sse(entry(1, "a"))),
        httpx.ConnectError("refused"),
        httpx.Response(503, json={"code": "unavailable", "error": "the server stops"}),
        httpx.Response(200, headers={"content-type": "text/event-stream"}, content=sse(entry(2, "b")) + END),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        following = left.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    server.answers["GET /logs/stream"] = answer
    assert shown(logs("watch", "-f", at(0), "-t", "1m")) == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "code"), [(403, "missing-scope"), (400, "invalid-name"), (429, "rate-limited"), (503, "x")]
)
def test_a_refusal_of_the_first_stream_is_told(
    logs: Logs, server: FakeServer, status: int, code: str
) -> None:
    server.refuse("GET /logs/stream", status, {"code": code, "error": "no", "requestId": "req_1"})
    outcome = logs("watch", "-f", at(0))
    assert outcome.code == 1
    assert f"no ({status}, {code}, request req_1)" in outcome.err


def test_nobody_there_is_told_at_once(logs: Logs, server: FakeServer) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    server.answers["GET /logs/stream"] = refuse
    outcome = logs("watch", "-f", at(0))
    assert outcome.code == 1
    assert "cannot connect to" in outcome.err


def test_an_error_event_ends_it_with_the_reason(logs: Logs, server: FakeServer) -> None:
    told = b'event: error\ndata: {"status":403,"code":"missing-user","error":"not valid any more"}\n\n'
    server.answers["GET /logs/stream"] = Streams([[sse(entry(1, "a")), told]])
    outcome = logs("watch", "-f", at(0))
    assert (outcome.code, shown(outcome)) == (1, ["a"])
    assert "not valid any more (403, missing-user)" in outcome.err


def test_control_c_ends_it_quietly(logs: Logs, server: FakeServer) -> None:
    def interrupted(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers["GET /logs/stream"] = interrupted
    outcome = logs("watch", "-f", at(0))
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "")


def test_watch_shows_clean_lines_too(logs: Logs, server: FakeServer) -> None:
    server.answers["GET /logs/stream"] = Streams([[sse(entry(1, "a"), entry(2, "b")), END]])
    assert logs("watch", "-f", at(0), "-t", "1m", "-c").out == "a\nb\n"


# --- watch, by asking ----------------------------------------------------------------------------


def test_without_a_stream_it_asks_every_30_seconds(logs: Logs, server: FakeServer, hand: Hand) -> None:
    no_stream(server)
    later = batch(45_000, entry(45_000, "b"))
    server.give("GET /logs", batch(1, entry(1, "a")), batch(1), later, batch(45_000), batch(90_000))
    outcome = logs("watch", "-f", at(0), "--to", at(90_000))
    assert shown(outcome) == ["a", "b"]
    assert hand.slept == [30.0, 30.0]
    asked = [request.url.params["from"] for request in server.requests if request.url.path == "/logs"]
    assert asked == [at(0), at(1), at(1), at(45_000), at(45_000)]


def test_it_ends_at_to_against_a_server_that_only_echoes(logs: Logs, server: FakeServer, hand: Hand) -> None:
    no_stream(server)
    server.give("GET /logs", batch(1, entry(1, "a")), batch(1))
    assert shown(logs("watch", "-f", at(0), "--to", at(40_000))) == ["a"]
    assert hand.slept == [30.0, 30.0]


def test_empty_batches_that_lead_on_are_followed_at_once(logs: Logs, server: FakeServer, hand: Hand) -> None:
    no_stream(server)
    server.give("GET /logs", batch(3), batch(9), batch(10, entry(10, "a")))
    assert shown(logs("watch", "-f", at(0), "--to", at(10))) == ["a"]
    assert hand.slept == []


def test_a_proxy_that_lets_no_stream_through_is_gone_around(
    logs: Logs, server: FakeServer, hand: Hand
) -> None:
    silence: list[bytes | Exception] = [httpx.ReadTimeout("nothing")]
    server.answers["GET /logs/stream"] = Streams([list(silence), list(silence)])
    server.give("GET /logs", batch(60_000, entry(1, "a")))
    assert shown(logs("watch", "-f", at(0), "--to", "1m")) == ["a"]


def test_something_else_than_events_is_no_stream(logs: Logs, server: FakeServer) -> None:
    server.answers["GET /logs/stream"] = Streams([[b"<html>"]], kind="text/html; charset=utf-8")
    server.give("GET /logs", batch(60_000, entry(1, "a")))
    assert shown(logs("watch", "-f", at(0), "--to", "1m")) == ["a"]


def test_asking_goes_on_in_the_millisecond_in_which_the_stream_broke(logs: Logs, server: FakeServer) -> None:
    silence = httpx.ReadTimeout("nothing")
    first = sse(entry(1, "a"), entry(7, "b"), entry(7, "b"))
    server.answers["GET /logs/stream"] = Streams([[first, silence], [silence], [silence]])
    rest = (entry(7, "b"), entry(7, "b"), entry(7, "b"), entry(7, "c"), entry(9, "d"))
    server.give("GET /logs", batch(60_000, *rest))
    assert shown(logs("watch", "-f", at(0), "--to", "1m")) == ["a", "b", "b", "b", "c", "d"]
    assert server.requests[-1].url.params["from"] == at(6)


# --- events --------------------------------------------------------------------------------------


def test_events_are_read_as_the_standard_says() -> None:
    reader = EventReader()
    text = ":comment\n\nid: 1\ndata: a\ndata:b\n\nevent: end\r\ndata:  c\r\n\r\ndata\n\nid: x\0\nretry: 5\n\n"
    assert reader.feed(text.encode()) == [
        Event(id=None, kind="message", data=""),
        Event(id="1", kind="message", data="a\nb"),
        Event(id=None, kind="end", data=" c"),
        Event(id=None, kind="message", data=""),
        Event(id=None, kind="message", data=""),
    ]
    # Characters that only Python takes for line ends.
    assert reader.feed("data: \u2028\x85\x0b\n\n".encode())[0].data == "\u2028\x85\x0b"


def test_a_line_without_end_is_refused() -> None:
    reader = EventReader()
    for _ in range(100):
        reader.feed(b"x" * 100_000)
    with pytest.raises(CliError, match="without end"):
        reader.feed(b"x")


@given(st.lists(st.integers(min_value=0, max_value=60), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_events_may_be_split_anywhere(cuts: list[int], line_end: str) -> None:
    lines = ["id: 1", "data: über", "", "data: b", "data: c", "", ":", "", "event: end", "data: {}", ""]
    data = line_end.join([*lines, ""]).encode()
    whole = EventReader().feed(data)
    reader, found, begin = EventReader(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        found += reader.feed(data[begin:cut])
        begin = max(begin, cut)
    assert found == whole
    assert [event.data for event in whole] == ["über", "b\nc", "", "{}"]
