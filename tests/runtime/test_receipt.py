"""What a worker's sections are checked for."""

from typing import Any

import msgspec
import pytest

from statebacked.model import limits
from statebacked.model.envelopes import Internal
from statebacked.model.ids import (
    InstanceName,
    MachineName,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.step import CancelTimer, SendTo, Sent, SetTimer, Spawn, Step, Unlink
from statebacked.model.values import TO_PARENT, Address, Json
from statebacked.runtime import receipt
from statebacked.runtime.protocol import FrameReader, ProtocolError
from statebacked.runtime.receipt import check_json, inside_of, sent_of, steps_of
from statebacked.runtime.worker_frames import Inside, PerformedFrame, StepFrame
from tests.runtime.test_protocol import golden_bytes


@pytest.mark.parametrize("depth", [1, 127, 128])
def test_json_of_the_greatest_depth_is_taken(depth: int) -> None:
    arrays = b"[" * depth + b"]" * depth
    assert check_json(Json(arrays)) == arrays
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    assert check_json(Json(objects)) == objects


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b" ",
        b"{}{}",
        b"{} 1",
        b"{'a':1}",
        b"[1,]",
        b"NaN",
        b"undefined",
        b'"\xff"',
        b'{"\xc3":1}',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xed\xa0\x80"',
        b"[" * 129 + b"]" * 129,
        b'{"a":' * 129 + b"1" + b"}" * 129,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 129,
    ],
)
def test_what_is_not_one_shallow_json_value_in_utf_8_is_refused(section: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_json(Json(section))


# --- steps


def read(name: str) -> tuple[Any, list[bytes]]:  # Any: the frame's own type
    [(header, sections)] = FrameReader().feed(golden_bytes(name))
    return header, sections


def steps(
    sections: list[bytes], *heads: dict[str, object], indexes: tuple[str, ...] = ()
) -> tuple[Step, ...]:
    header = {"n": 1, "a": 1, "steps": [{"changed": True, **head} for head in heads]}
    frame = msgspec.convert({"t": "step", **header}, StepFrame)
    return steps_of(frame, sections, indexes)


PLAIN = [b'"on"', b"[]", b"{}"]


def test_a_step_says_everything_that_its_sections_hold() -> None:
    header, sections = read("step: everything")
    assert steps_of(header, sections, {"by-user"}) == (
        Step(
            changed=True,
            event=Json(b'{"type":"xstate.error.actor.loader","error":{"message":"lost"}}'),
            value=Json(b'"on"'),
            tags=Json(b'["busy"]'),
            snapshot=Json(b'{"value":"on","historyValue":{}}'),
            context=Json('{"public":{"n":2},"name":"żółw 🐢"}'.encode()),
            public=Json(b'{"n":2}'),
            timers=(
                CancelTimer(SendId("t1")),
                SetTimer(SendId("t1"), 1_000, Json(b'{"type":"t1"}')),
                SetTimer(
                    SendId("xstate.after.86400000000.m.on"),
                    86_400_000_000,
                    Json(b'{"type":"xstate.after.86400000000.m.on"}'),
                ),
            ),
            sends=(Json(b'{"type":"again"}'),),
            starts=(ServiceId("loader"),),
            stops=(ServiceId("loader"),),
            indexes=(("by-user", ("u1", "u2")),),
            has_effects=True,
        ),
    )


def test_an_unchanged_step_has_no_sections() -> None:
    header, sections = read("step: unchanged")
    assert steps_of(header, sections, ()) == (Step(changed=False),)


def test_two_steps_take_their_sections_in_turn() -> None:
    first, second = steps_of(*read("step: two steps, context unchanged"), ())
    assert (first.value, first.snapshot, first.context) == (b'"a"', b'{"value":"a"}', None)
    assert (second.value, second.done) == (b'"b"', True)


def test_what_a_step_has_for_other_instances_keeps_its_order() -> None:
    kid = Address(MachineName("kid"), InstanceName("k|1"))
    version = VersionId("ver_0123456789abcdefghijAB")
    [step] = steps_of(*read("step: for other instances"), ())
    assert step.outgoing == (
        Spawn(ServiceId("kid"), kid, None, Json(b'{"n":1}')),
        SendTo(kid, Json(b'{"type":"hello"}')),
        Unlink(ServiceId("old")),
        SendTo(TO_PARENT, Json(b'{"type":"to parent"}')),
        Spawn(ServiceId("other"), Address(kid.machine, InstanceName("k2")), version, None),
    )
    assert step.timers == (
        SetTimer(SendId("later"), 500, Json(b'{"type":"late"}'), kid),
        SetTimer(SendId("up"), 0, Json(b'{"type":"up"}'), TO_PARENT),
    )
    assert (step.sends, step.output) == ((Json(b'{"type":"own"}'),), Json(b'{"total":7}'))


VERSION = "ver_0123456789abcdefghijAB"
SEND = b'{"type":"e"}'


@pytest.mark.parametrize(
    ("sections", "head"),
    [
        ([*PLAIN, SEND], {"out": [["send", ["k id", "k"]]]}),
        ([*PLAIN, SEND], {"out": [["send", ["kid", ".."]]]}),
        ([*PLAIN, SEND], {"out": [["send", ["kid", "a/b"]]]}),
        ([*PLAIN, SEND], {"out": [["send", ["kid", "k" * 129]]]}),
        ([*PLAIN, SEND], {"timers": [["set", "t", 1, ["", "k"]]]}),
        ([*PLAIN, b"{}"], {"out": [["send", None]]}),
        (PLAIN, {"out": [["send", None]]}),
        ([*PLAIN, SEND], {"out": [["unlink", "k"]]}),
        (PLAIN, {"out": [["spawn", "k", ["kid", ""], None, False]]}),
        (PLAIN, {"out": [["spawn", "k", ["kid", "k"], "v1", False]]}),
        (PLAIN, {"out": [["spawn", "k", ["kid", "k"], VERSION + "x", False]]}),
        (PLAIN, {"out": [["spawn", "k", ["kid", "k"], VERSION, True]]}),
        ([*PLAIN, b"[]"], {"out": [["spawn", "k", ["kid", "k"], VERSION, True]]}),
        ([*PLAIN, b"null"], {"out": [["spawn", "k", ["kid", "k"], VERSION, True]]}),
        (PLAIN, {"out": [["spawn", "k", ["kid", "k"], None, False]] * (limits.STEP_SPAWNS_MAX + 1)}),
        ([*PLAIN, *[SEND] * 1_001], {"out": [["send", None]] * 1_000, "sends": 1}),
        ([*PLAIN, b"{}"], {"fin": True}),
        (PLAIN, {"fin": True, "done": True}),
        ([*PLAIN, b"{"], {"fin": True, "done": True}),
    ],
)
def test_a_step_that_breaks_a_rule_of_other_instances_is_refused(
    sections: list[bytes], head: dict[str, object]
) -> None:
    with pytest.raises(ProtocolError):
        steps(sections, head)


@pytest.mark.parametrize(
    ("sections", "head"),
    [
        (PLAIN[:2], {}),
        ([*PLAIN, b"{}"], {}),
        ([b"1", b"[]", b"{}"], {}),
        ([b"[]", b"[]", b"{}"], {}),
        ([b'"on"', b"{}", b"{}"], {}),
        ([b'"on"', b"[1]", b"{}"], {}),
        ([b'"on"', b"[]", b"[]"], {}),
        ([b'"on"', b"[]", b"null"], {}),
        ([b"{}", *PLAIN], {"ev": True}),
        ([b'{"type":1}', *PLAIN], {"ev": True}),
        ([b'"type"', *PLAIN], {"ev": True}),
        ([b'{"type":"\xff"}', *PLAIN], {"ev": True}),
        ([b'{"type":"a","b":"\xff"}', *PLAIN], {"ev": True}),
        ([*PLAIN, b"{"], {"ctx": True}),
        ([*PLAIN, b'"' + b"x" * limits.CONTEXT_BYTES_MAX + b'"'], {"ctx": True}),
        ([*PLAIN, b"{}", b"{"], {"ctx": True, "pub": True}),
        ([*PLAIN, b"{}"], {"timers": [["set", "t", 1]]}),
        ([*PLAIN, b"1"], {"sends": 1}),
        (PLAIN, {"sends": limits.STEP_MESSAGES_MAX + 1}),
        (PLAIN, {"timers": [["cancel", "t"]] * (limits.STEP_TIMER_OPERATIONS_MAX + 1)}),
        (PLAIN, {"starts": ["s"] * (limits.INSTANCE_SERVICES_MAX + 1)}),
        (PLAIN, {"idx": [["by-name", ["x"]]]}),
        (PLAIN, {"idx": [["by-user", ["é" * 600]]]}),
        (PLAIN, {"idx": [["by-user", ["x"] * 1_001]]}),
    ],
)
def test_a_step_that_breaks_a_rule_is_refused(sections: list[bytes], head: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        steps(sections, head, indexes=("by-user",))


@pytest.mark.parametrize(
    "head", [{"effects": True}, {"starts": ["s"]}, {"stops": ["s"]}, {"out": [["unlink", "k"]]}]
)
def test_nothing_is_computed_above_a_step_with_effects(head: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        steps([*PLAIN, *PLAIN], head, {})
    assert len(steps([*PLAIN, *PLAIN], {}, head)) == 2


def test_a_delay_is_at_most_what_a_date_can_hold() -> None:
    [step] = steps([*PLAIN, b'{"type":"t"}'], {"timers": [["set", "t", 1e300]]})
    assert step.timers == (SetTimer(SendId("t"), receipt.DELAY_MS_MAX, Json(b'{"type":"t"}')),)


# --- events that machine code sent


def test_what_was_sent_while_performing_keeps_its_order_and_senders() -> None:
    header, sections = read("performed: three events sent")
    assert sent_of(header, sections) == (
        Sent(internal=Internal(Json(sections[0]), 5)),
        Sent(internal=Internal(Json(sections[1]), 6), after=1, service=ServiceRun(ServiceId("cb"), Seq(42))),
        Sent(
            internal=Internal(Json(sections[2]), 7),
            after=1,
            service=ServiceRun(ServiceId("loader"), Seq(42)),
            ends_service=True,
        ),
    )


def test_what_a_service_sent_names_its_run() -> None:
    header, sections = read("inside")
    assert inside_of(header, sections) == Sent(
        internal=Internal(Json(sections[0]), 8),
        service=ServiceRun(ServiceId("loader"), Seq(42)),
        ends_service=True,
    )


@pytest.mark.parametrize("sections", [[], [b"1"], [b'{"type":"a"}', b'{"type":"b"}'], [b'{"type":null}']])
def test_a_sent_event_without_its_json_is_refused(sections: list[bytes]) -> None:
    head = {"token": 1, "service": ["s", 1], "ends": False}
    inside = msgspec.convert({"t": "inside", "a": 1, **head}, Inside)
    with pytest.raises(ProtocolError):
        inside_of(inside, sections)
    performed = {"t": "performed", "a": 1, "seq": 1, "sent": [head]}
    with pytest.raises(ProtocolError):
        sent_of(msgspec.convert(performed, PerformedFrame), sections)
