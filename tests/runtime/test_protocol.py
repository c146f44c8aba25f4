"""The host's codec, against the frames that both sides' tests read."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.model import limits
from statebacked.model.envelopes import (
    ChildDone,
    Envelope,
    External,
    Initialize,
    Internal,
    ServiceFailed,
    Source,
)
from statebacked.model.ids import ActivationNumber, EnvelopeId, InstanceName, Seq, ServiceId, ServiceRun
from statebacked.model.values import Json
from statebacked.ports.machines import Saved
from statebacked.runtime import fetch_frames, protocol
from statebacked.runtime.protocol import FrameReader, ProtocolError

GOLDEN = {
    golden["name"]: golden
    for golden in json.loads((Path(__file__).parent / "golden/frames.json").read_bytes())
}
FROM_WORKER = {"ready", "loaded", "unloadable", "pong", "step", "refused", "lacks", "performed"}
FROM_WORKER |= {"inside", "readable", "log", "fetch", "fetch_upload", "fetch_more", "fetch_abort"}
OURS = [name for name, golden in GOLDEN.items() if golden["header"]["t"] not in FROM_WORKER]
THEIRS = [name for name, golden in GOLDEN.items() if golden["header"]["t"] in FROM_WORKER]


def golden_bytes(name: str) -> bytes:
    return bytes.fromhex(GOLDEN[name]["hex"])


def frame(header: object, *sections: bytes) -> bytes:
    head = json.dumps(header).encode()
    body = struct.pack(">I", len(head)) + head + b"".join(sections)
    return struct.pack(">I", len(body)) + body


def of_bytes(header: object, section: bytes) -> bytes:
    head = json.dumps(header).encode()
    body = struct.pack(">I", len(head) | 0x8000_0000) + head + section
    return struct.pack(">I", len(body)) + body


def deep() -> bytes:
    head = b'{"t":"pong","n":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    return struct.pack(">II", 4 + len(head), len(head)) + head


# --- what the host says


def event(text: str, source: Source = "client", auth: str | None = None) -> Envelope:
    judged = None if auth is None else Json(auth.encode())
    return Envelope(id=EnvelopeId("e"), payload=External(Json(text.encode())), source=source, auth=judged)


def compute(
    n: int, a: int, seq: int, name: str, *envelopes: Envelope, base: Saved | None = None
) -> Sequence[bytes]:
    address = (n, ActivationNumber(a), InstanceName(name))
    return protocol.compute(address, Seq(seq), envelopes, base)


LOADER = ServiceRun(ServiceId("loader"), Seq(42))
INIT = Envelope(
    id=EnvelopeId("e"),
    payload=Initialize(Json(b'{"public":{"n":1}}')),
    source="client",
    auth=Json(b'{"sub":"u1"}'),
)
BARE = Envelope(id=EnvelopeId("e"), payload=Initialize(None), source="client")
FAILED = Envelope(
    id=EnvelopeId("e"),
    payload=ServiceFailed("lost", "the worker is gone"),
    source="service",
    service=LOADER,
    ends_service=True,
)
DONE = Envelope(
    id=EnvelopeId("e"),
    payload=ChildDone(Json(b'{"total":7}')),
    source="instance",
    service=LOADER,
)
HELD = Envelope(id=EnvelopeId("e"), payload=Internal(Json(b"{}"), 5), source="service", service=LOADER)
OWN = Envelope(id=EnvelopeId("e"), payload=Internal(Json(b"{}"), 6), source="self")
OFF = Saved(Seq(41), Json(b'{"value":"off"}'), Json(b'{"n":1}'))
AUTHS = [Json(b'{"sub":"u1"}'), Json(b'{"sub":"u2"}')]
SAID = {
    "boot": protocol.boot(authorize_ms=5_000),
    "load": protocol.load("export default 1; // é €\n".encode(), [("by-user", "$.user.id")]),
    "ping": protocol.ping(7),
    "compute: create, with context and auth": compute(1, 11, 0, "user|1@x.org", INIT),
    "compute: create, bare": compute(1, 12, 0, "i", BARE),
    "compute: two events on a base": compute(
        2,
        11,
        41,
        "i",
        event('{"type":"toggle"}', auth="{}"),
        event('{"type":"xstate.after.1000.m.on"}', "timer"),
        base=OFF,
    ),
    "compute: an event that the worker holds": compute(3, 11, 42, "i", HELD),
    "compute: an event sent while performing": compute(4, 11, 43, "i", OWN),
    "compute: a service failed": compute(5, 11, 43, "i", FAILED),
    "compute: a persistent child is done": compute(6, 11, 43, "i", DONE),
    "compute: an event of another instance": compute(
        7,
        11,
        43,
        "i",
        event(
            '{"type":"hello"}',
            "instance",
            '{"stateBackedSender":{"machineName":"kid","machineInstanceName":"k|1"}}',
        ),
    ),
    "perform": protocol.perform(ActivationNumber(11), Seq(42)),
    "stop": protocol.stop(ActivationNumber(11), [LOADER, ServiceRun(ServiceId("cb"), Seq(41))]),
    "close": protocol.close(ActivationNumber(11)),
    "read: on a base": protocol.read(
        (9, ActivationNumber(0), InstanceName("i")),
        Seq(42),
        AUTHS,
        Saved(Seq(42), OFF.snapshot, OFF.context),
    ),
    "read-each: two instances, one caller": protocol.read_each(
        10,
        [
            (InstanceName("i"), Saved(Seq(42), Json(b'{"value":"off"}'), Json(b'{"n":1}'))),
            (
                InstanceName("user|1"),
                Saved(Seq(3), Json(b'{"value":"on"}'), Json('{"name":"żółw 🐢"}'.encode())),
            ),
        ],
        Json(b'{"sid":"s1"}'),
    ),
    "fetch_head": fetch_frames.fetch_head(
        1,
        (404, "Not Fóund"),
        [("set-cookie", "a=1"), ("set-cookie", "b=2")],
        ("https://example.com/b", True),
        body=True,
    ),
    "fetch_chunk": fetch_frames.fetch_chunk(1, bytes(range(256))),
    "fetch_chunk: the end": fetch_frames.fetch_chunk(1, b"", ends=True),
    "fetch_upload_more": fetch_frames.fetch_upload_more(1, 66_536),
    "fetch_failed": fetch_frames.fetch_failed(1, "example.com is not allowed"),
}


@pytest.mark.parametrize("name", OURS)
def test_what_the_host_says_is_golden_to_the_byte(name: str) -> None:
    assert b"".join(SAID[name]) == golden_bytes(name)


# --- what a worker says


@pytest.mark.parametrize("name", THEIRS)
def test_a_golden_frame_reads_as_its_header_and_sections(name: str) -> None:
    golden = GOLDEN[name]
    [(header, sections)] = FrameReader().feed(golden_bytes(name))
    if "bytes" in golden:
        assert sections == [bytes.fromhex(golden["bytes"])]
    else:
        assert [section.decode() for section in sections] == golden["sections"]
    read: Any = msgspec.to_builtins(header)  # Any: a golden header is looked into freely
    assert covers(read, golden["header"]), read


def covers(read: Any, golden: Any) -> bool:  # Any: JSON
    """Whether everything golden was read; what it leaves out has a default."""
    if isinstance(golden, dict):
        return all(covers(read[name], value) for name, value in golden.items())
    if isinstance(golden, list):
        is_whole = len(read) == len(golden) or golden[:1] == ["set"]  # its last place may be left out
        return is_whole and all(map(covers, read, golden))
    return bool(read == golden)


@given(st.lists(st.sampled_from(THEIRS), max_size=8), st.data())
def test_frames_split_anywhere_are_the_same_frames(names: list[str], data: st.DataObject) -> None:
    stream = b"".join(map(golden_bytes, names))
    whole = FrameReader().feed(stream)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    reader, got = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == whole
    assert len(whole) == len(names)


def test_a_frame_comes_byte_by_byte() -> None:
    reader, stream = FrameReader(), golden_bytes("step: everything")
    got = [frames for byte in stream if (frames := reader.feed(bytes([byte])))]
    assert got == [FrameReader().feed(stream)]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", limits.FRAME_STEP_BYTES_MAX + 1),
        struct.pack(">I", 3) + b"abc",
        struct.pack(">II", 8, 5) + b"abcd",
        frame({"t": "dance"}),
        frame({"t": "pong"}),
        frame({"t": "pong", "n": "7"}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"done": True}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [], "raw": [2]}, b"[]]"),
        frame({"t": "step", "n": 1, "a": 1, "steps": [], "raw": [4]}, b"[]"),
        frame({"t": "step", "n": 1, "a": 1, "steps": [], "raw": [-2, 4]}, b"[]"),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "timers": [["set", "x", -1]]}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "timers": [["sit", "x", 1]]}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "sends": -1}]}),
        frame(
            {"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "timers": [["set", "x", 1, ["m"]]]}]}
        ),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "out": [["send"]]}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "out": [["send", "m"]]}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "out": [["spawn", "x"]]}]}),
        frame({"t": "step", "n": 1, "a": 1, "steps": [{"changed": True, "out": [["kill", "x"]]}]}),
        frame({"t": "log", "stream": "stdin", "lines": []}),
        frame({"t": "pong", "n": 1}, b"more"),
        frame(["t", "pong"]),
        struct.pack(">II", 7, 3) + b"{t}",
        struct.pack(">II", 13, 9) + b'{"t":"\xff"}',
        deep(),
        frame({"t": "log", "stream": "stdout", "lines": ["x" * limits.FRAME_BYTES_MAX]}),
        struct.pack(">II", 20, 0x8000_0010) + b'{"t":"pong","n":1}'[:16],
        of_bytes({"t": "pong", "n": 1}, b""),
        of_bytes({"t": "inside", "a": 1, "token": 1, "service": ["s", 1], "ends": True, "raw": [2]}, b"{}"),
        of_bytes({"t": "fetch_upload", "f": 1, "ends": False, "raw": [3]}, b"12"),
        frame(
            {"t": "fetch", "f": 1, "method": "GET", "url": "x", "headers": [], "redirect": "x", "body": False}
        ),
        frame({"t": "fetch_more", "f": 1, "bytes": -1}),
    ],
)
def test_a_frame_that_breaks_the_protocol_is_told(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().feed(data)


def test_only_a_step_may_be_long() -> None:
    long = b'"' + b"x" * limits.FRAME_BYTES_MAX + b'"'
    header = {"t": "step", "n": 1, "a": 1, "steps": [], "raw": [len(long)]}
    [(_, sections)] = FrameReader().feed(frame(header, long))
    assert sections == [long]
