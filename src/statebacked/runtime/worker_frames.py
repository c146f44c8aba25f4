"""What a worker says, frame by frame (docs/reference/worker-protocol.md): headers as they are decoded.

JSON of users is in the sections behind a header, whose lengths are `raw`; `receipt` checks it. What a machine
fetches has frames in `fetch_frames`.
"""

from typing import Annotated, Literal

import msgspec

from statebacked.runtime.fetch_frames import FetchFrame

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Delay = Annotated[float, msgspec.Meta(ge=0)]


class _FromWorker(msgspec.Struct, tag_field="t", gc=False):
    pass


class Ready(_FromWorker, tag="ready"):
    protocol: int
    xstate: str


class Examined(msgspec.Struct):
    """What a machine's configuration says of its major, and what is wrong with it; places are in the text."""

    signs4: list[str] = []
    signs5: list[str] = []
    ignored: list[str] = []
    warnings: list[str] = []


class Loaded(_FromWorker, tag="loaded"):
    major: Literal[4, 5]
    inlined: bool
    examined: Examined | None = None


class Unloadable(_FromWorker, tag="unloadable"):
    message: str
    missing_export: bool


class Pong(_FromWorker, tag="pong"):
    n: int


_Address = tuple[str, str]  # another instance: its machine and its name
_TargetHead = _Address | None  # None: the parent


class SetHead(msgspec.Struct, tag="set", array_like=True, gc=False):
    """`to` is left out when it is the instance itself."""

    send_id: str
    delay_ms: _Delay
    to: _TargetHead | Literal["self"] = "self"


class CancelHead(msgspec.Struct, tag="cancel", array_like=True, gc=False):
    send_id: str


class SendHead(msgspec.Struct, tag="send", array_like=True, gc=False):
    to: _TargetHead


class SpawnHead(msgspec.Struct, tag="spawn", array_like=True, gc=False):
    id: str
    child: _Address
    version: str | None
    context: bool


class UnlinkHead(msgspec.Struct, tag="unlink", array_like=True, gc=False):
    id: str


class StepHead(msgspec.Struct, gc=False):
    """One step without its JSON, which is in the sections."""

    changed: bool
    done: bool = False
    ctx: bool = False
    pub: bool = False
    ev: bool = False
    effects: bool = False
    timers: list[SetHead | CancelHead] = []
    sends: _Count = 0
    starts: list[str] = []
    stops: list[str] = []
    out: list[SendHead | SpawnHead | UnlinkHead] = []
    fin: bool = False
    idx: list[tuple[str, list[str]]] | None = None


class StepFrame(_FromWorker, tag="step"):
    n: int
    a: int
    steps: list[StepHead]
    raw: list[_Count] = []


class RefusedFrame(_FromWorker, tag="refused"):
    n: int
    a: int
    code: str
    message: str


class Lacks(_FromWorker, tag="lacks"):
    """`a` is 0 when a read is answered, not a compute."""

    n: int
    a: int = 0


class SentHead(msgspec.Struct, gc=False):
    token: int
    after: _Count = 0
    service: tuple[str, int] | None = None
    ends: bool = False


class PerformedFrame(_FromWorker, tag="performed"):
    a: int
    seq: int
    sent: list[SentHead]
    raw: list[_Count] = []


class Inside(_FromWorker, tag="inside"):
    a: int
    token: int
    service: tuple[str, int]
    ends: bool
    raw: list[_Count] = []


class Readable(_FromWorker, tag="readable"):
    n: int
    ok: list[bool]


class Outlined(_FromWorker, tag="outlined"):
    """A part of an upgrade: the outline, and after a migration the context."""

    n: int
    raw: list[_Count] = []


class ArrivedFrame(_FromWorker, tag="arrived"):
    """The last part of an upgrade: the state in the new version, and what becomes of timers."""

    n: int
    step: StepHead
    kept: list[tuple[str, str]]
    gone: list[str]
    raw: list[_Count] = []


class Stuck(_FromWorker, tag="stuck"):
    """A part of an upgrade failed."""

    n: int
    message: str


class Log(_FromWorker, tag="log"):
    stream: Literal["stdout", "stderr"]
    lines: list[str]
    a: int = 0
    dropped: _Count = 0


_Life = Ready | Loaded | Unloadable | Pong | Log
_Part = Outlined | ArrivedFrame | Stuck
FromWorker = (
    _Life | StepFrame | RefusedFrame | Lacks | PerformedFrame | Inside | Readable | _Part | FetchFrame
)
Frame = tuple[FromWorker, list[bytes]]
