"""Frames of the worker protocol (docs/reference/worker-protocol.md), sans-IO.

`FrameReader.feed` turns bytes, split anywhere, into frames; the functions below it turn calls into frames, as
lists of byte strings to be written one after the other (a context of 400 KB is not copied for its header).
What a worker says stands in `worker_frames`, and about user JSON is checked in `receipt`; here only the frame
itself.
"""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from statebacked.model import limits
from statebacked.model.envelopes import (
    ChildDone,
    Delete,
    Envelope,
    External,
    Forward,
    Initialize,
    Internal,
    Pause,
    Resume,
    ServiceFailed,
    Wish,
)
from statebacked.model.ids import ActivationNumber, InstanceName, RowKey, SendId, Seq, ServiceRun
from statebacked.model.values import Json
from statebacked.ports.machines import Saved
from statebacked.runtime.fetch_frames import Fetch, FetchLimits, FetchUpload
from statebacked.runtime.framing import OF_BYTES, two_lengths
from statebacked.runtime.framing import ProtocolError as ProtocolError
from statebacked.runtime.framing import encode as _encode
from statebacked.runtime.framing import frame as _frame
from statebacked.runtime.framing import framed as _framed
from statebacked.runtime.worker_frames import (
    ArrivedFrame,
    Frame,
    FromWorker,
    Inside,
    Outlined,
    PerformedFrame,
    StepFrame,
)

PROTOCOL: Final = 1

# --- from bytes to frames ------------------------------------------------------------------------


_WITH_SECTIONS: Final = frozenset({StepFrame, PerformedFrame, Inside, Outlined, ArrivedFrame, FetchUpload})
_LARGE: Final = frozenset({StepFrame, ArrivedFrame})

_FETCH_BYTES_MAX: Final = 4 * limits.FETCH_HEADERS_BYTES_MAX  # the headers as JSON, and the URL

_decode_header = msgspec.json.Decoder(FromWorker).decode
_read_lengths = two_lengths.unpack_from
_read_length = struct.Struct(">I").unpack_from


class FrameReader:
    """Collects one worker's output. `frame_bytes` is the length of the frame that was read last. After a
    ProtocolError it must not be used again."""

    __slots__ = ("_at", "_data", "_held", "_need", "frame_bytes")

    def __init__(self) -> None:
        self._data = b""  # read up to `_at`
        self._at = 0
        self._held = bytearray()  # the beginning of a frame whose end has not come
        self._need = 0  # how long `_held` must be before it is worth a look
        self.frame_bytes = 0

    def add(self, data: bytes) -> None:
        """More of the output, whose frames are read by `next_frame`."""
        if self._held:
            self._held += data
            if len(self._held) < self._need:
                return
            data = bytes(self._held)
            self._held.clear()
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data, self._at = data, 0

    def next_frame(self) -> Frame | None:
        """None when the next frame is not complete. Raises ProtocolError."""
        data = self._data
        if not data:
            return None
        start, end = self._at, len(data)
        left = end - start
        if left >= 4:
            (length,) = _read_length(data, start)
            if length > limits.FRAME_STEP_BYTES_MAX or length < 4:
                raise ProtocolError(f"a frame of {length} bytes")
            stop = start + 4 + length
            if stop <= end:
                if stop == end:
                    self._data, self._at = b"", 0
                else:
                    self._at = stop
                self.frame_bytes = length
                return _parse(data, start, stop)
            self._need = 4 + length
        else:
            self._need = 4
        if left:
            self._held += data[start:] if start else data
        self._data, self._at = b"", 0
        return None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProtocolError."""
        self.add(data)
        return list(iter(self.next_frame, None))


def _parse(data: bytes, start: int, stop: int) -> Frame:
    length, header_length = _read_lengths(data, start)
    is_of_bytes = header_length >= OF_BYTES
    if is_of_bytes:
        header_length -= OF_BYTES
    at = start + 8 + header_length
    if at > stop:
        raise ProtocolError("a header longer than its frame")
    try:
        header = _decode_header(data[start + 8 : at])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a frame that cannot be read: {error}") from error
    if type(header) is Fetch and length > _FETCH_BYTES_MAX:
        raise ProtocolError(f"a request of {length} bytes")
    if is_of_bytes and type(header) is not FetchUpload:
        raise ProtocolError("bytes where there is text")
    if length > limits.FRAME_BYTES_MAX and type(header) not in _LARGE:
        raise ProtocolError(f"a frame of {length} bytes")
    sections: list[bytes] = []
    if type(header) in _WITH_SECTIONS:
        for size in header.raw:
            sections.append(data[at : at + size])
            at += size
    if at != stop:
        raise ProtocolError("sections that do not fill their frame")
    return header, sections


# --- what the host says --------------------------------------------------------------------------


class _FromHost(msgspec.Struct, tag_field="t", omit_defaults=True, gc=False):
    pass


class _Boot(_FromHost, tag="boot"):
    """The limits that a worker keeps by itself. The first frame that it gets."""

    protocol: int
    authorize_ms: int
    context_bytes_max: int
    step_bytes_max: int
    timer_operations_max: int
    sends_max: int
    spawns_max: int
    microsteps_max: int
    services_max: int
    index_values_max: int
    index_value_bytes_max: int
    fetch: FetchLimits


class _Load(_FromHost, tag="load"):
    selectors: Sequence[tuple[str, str]] = ()
    migration: bool = False
    examine: bool = False
    raw: list[int] = []


class _Ping(_FromHost, tag="ping"):
    n: int


class _Item(msgspec.Struct, tag_field="k", omit_defaults=True, gc=False):
    source: str
    auth: bool


class _InitItem(_Item, tag="init"):
    context: bool


class _EventItem(_Item, tag="event"):
    pass


class _InsideItem(_Item, tag="inside"):
    token: int
    service: ServiceRun | None = None


class _FailedItem(_Item, tag="failed"):
    service: ServiceRun
    code: str
    message: str


class _DoneItem(_Item, tag="done"):
    service: ServiceRun


class _Compute(_FromHost, tag="compute"):
    n: int
    a: int
    seq: int
    name: str
    base: bool
    items: list[_Item]
    raw: list[int] = []


class _Perform(_FromHost, tag="perform"):
    a: int
    seq: int


class _Stop(_FromHost, tag="stop"):
    a: int
    services: Sequence[ServiceRun]


class _Close(_FromHost, tag="close"):
    a: int


class _Read(_FromHost, tag="read"):
    n: int
    a: int
    seq: int
    name: str
    base: bool
    auths: int
    raw: list[int] = []


class _ReadEach(_FromHost, tag="read-each"):
    n: int
    names: list[str]
    raw: list[int] = []


class _Leave(_FromHost, tag="leave"):
    n: int
    raw: list[int] = []


class _Migrate(_FromHost, tag="migrate"):
    n: int
    raw: list[int] = []


class _Arrive(_FromHost, tag="arrive"):
    n: int
    raw: list[int] = []


def boot(*, authorize_ms: int) -> list[bytes]:
    return _frame(
        _Boot(
            protocol=PROTOCOL,
            authorize_ms=authorize_ms,
            context_bytes_max=limits.CONTEXT_BYTES_MAX,
            step_bytes_max=limits.FRAME_STEP_BYTES_MAX,
            timer_operations_max=limits.STEP_TIMER_OPERATIONS_MAX,
            sends_max=limits.STEP_MESSAGES_MAX,
            spawns_max=limits.STEP_SPAWNS_MAX,
            microsteps_max=limits.STEP_MICROSTEPS_MAX,
            services_max=limits.INSTANCE_SERVICES_MAX,
            index_values_max=limits.INSTANCE_INDEX_VALUES_MAX,
            index_value_bytes_max=limits.INDEX_VALUE_BYTES_MAX,
            fetch=FetchLimits(),
        )
    )


def load(
    bundle: bytes,
    selectors: Sequence[tuple[str, str]] = (),
    *,
    migration: bool = False,
    examine: bool = False,
) -> list[bytes]:
    """`migration`: the bundle is one, and no machine. `examine`: it is looked at, and not run."""
    header = _Load(selectors=selectors, migration=migration, examine=examine, raw=[len(bundle)])
    return _framed(header, [bundle], len(bundle))


def ping(number: int) -> list[bytes]:
    return _frame(_Ping(n=number))


def compute(
    address: tuple[int, ActivationNumber, InstanceName],
    seq: Seq,
    envelopes: Sequence[Envelope],
    base: Saved | None,
) -> list[bytes]:
    """`address` is (number of the compute, activation, name of the instance)."""
    sections: list[bytes] = [] if base is None else [base.snapshot, base.context]
    items = [_item(envelope, sections) for envelope in envelopes]
    raw = [len(section) for section in sections]
    n, a, name = address
    header = _Compute(n, a, seq, name, base is not None, items, raw)
    return _framed(header, sections, sum(raw))


def _item(envelope: Envelope, sections: list[bytes]) -> _Item:
    payload, auth = envelope.payload, envelope.auth
    has_auth = auth is not None
    item: _Item
    if type(payload) is External:
        sections.append(payload.event)
        item = _EventItem(envelope.source, has_auth)
    else:
        item = _other_item(envelope, sections)
    if auth is not None:
        sections.append(auth)
    return item


def _other_item(envelope: Envelope, sections: list[bytes]) -> _Item:
    has_auth = envelope.auth is not None
    match envelope.payload:
        case Initialize(context):
            if context is not None:
                sections.append(context)
            return _InitItem(envelope.source, has_auth, context is not None)
        case Internal(_, token):
            return _InsideItem(envelope.source, has_auth, token, envelope.service)
        case ServiceFailed(code, message):
            assert envelope.service is not None
            return _FailedItem(envelope.source, has_auth, envelope.service, code, message)
        case ChildDone(output):
            assert envelope.service is not None
            sections.append(output)
            return _DoneItem(envelope.source, has_auth, envelope.service)
        case External(event):
            sections.append(event)
            return _EventItem(envelope.source, has_auth)
        case Forward() | Pause() | Resume() | Delete() | Wish():
            raise AssertionError("no worker is asked about these")


def perform(activation: ActivationNumber, seq: Seq) -> list[bytes]:
    return _frame(_Perform(a=activation, seq=seq))


def stop(activation: ActivationNumber, services: Sequence[ServiceRun]) -> list[bytes]:
    return _frame(_Stop(a=activation, services=services))


def close(activation: ActivationNumber) -> list[bytes]:
    return _frame(_Close(a=activation))


def read(
    address: tuple[int, ActivationNumber, InstanceName], seq: Seq, auths: Sequence[Json], base: Saved | None
) -> list[bytes]:
    """`address` is (number of the read, activation, instance name); with `base` the activation is 0."""
    sections: list[bytes] = [*auths] if base is None else [base.snapshot, base.context, *auths]
    raw = [len(section) for section in sections]
    n, a, name = address
    header = _Read(n=n, a=a, seq=seq, name=name, base=base is not None, auths=len(auths), raw=raw)
    return _framed(header, sections, sum(raw))


def read_each(n: int, states: Sequence[tuple[InstanceName, Saved]], auth: Json) -> list[bytes]:
    """Read number `n`: which of these states one caller may see."""
    sections: list[bytes] = []
    for _, saved in states:
        sections += (saved.snapshot, saved.context)
    sections.append(auth)
    raw = [len(section) for section in sections]
    return _framed(_ReadEach(n=n, names=[name for name, _ in states], raw=raw), sections, sum(raw))


def leave(n: int, snapshot: Json, timers: Sequence[tuple[RowKey, SendId]]) -> list[bytes]:
    """Tell a state, with its pending timers, as an outline."""
    sections = [snapshot, _encode(timers)]
    return _part(_Leave(n), sections)


def migrate(n: int, outline: Json, context: Json) -> list[bytes]:
    """Map an outline and a context."""
    return _part(_Migrate(n), [outline, context])


def arrive(n: int, outline: Json, context: Json) -> list[bytes]:
    """Make a state of an outline."""
    return _part(_Arrive(n), [outline, context])


def _part(header: _Leave | _Migrate | _Arrive, sections: list[bytes]) -> list[bytes]:
    header.raw = [len(section) for section in sections]
    return _framed(header, sections, sum(header.raw))
