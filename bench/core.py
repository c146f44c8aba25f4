"""CPU of the core for one event: two decisions, Deliver and Stepped. `python bench/core.py [EVENTS]`."""

import sys
import time

from statebacked.core.instance import conceive, decide
from statebacked.core.phases import Activation, Deliver
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope, External, Initialize
from statebacked.model.ids import (
    ActivationNumber,
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    Monotonic,
    OrgId,
    VersionId,
)
from statebacked.model.step import Step, Stepped
from statebacked.model.values import Json, Now

STEP = Step(changed=True, context=Json(b"{}"))
POLICY = Policy()
KEY = InstanceKey(OrgId("org"), MachineName("machine"), InstanceName("name"))


def main(events: int) -> None:
    a = conceive(InstanceId("ins"), KEY, VersionId("ver"), ActivationNumber(1), Epoch(1))
    first = Envelope(id=EnvelopeId("e0"), payload=Initialize(None), source="client", wants_reply=True)
    a = _event(a, first, 1)
    best = min(_us_an_event(a, events) for _ in range(5))
    print(f"core: {best:.1f} us an event (best of 5 runs of {events})")


def _us_an_event(a: Activation, events: int) -> float:
    payload = External(Json(b'{"type":"x"}'))
    auth = Json(b'{"sub":"user"}')
    began = time.process_time()
    for n in range(events):
        envelope = Envelope(
            id=EnvelopeId(f"e{n}"), payload=payload, source="client", auth=auth, wants_reply=True
        )
        a = _event(a, envelope, n)
    return (time.process_time() - began) / events * 1e6


def _event(a: Activation, envelope: Envelope, ms: int) -> Activation:
    now = Now(Instant(ms), Monotonic(ms))
    a = decide(a, Deliver(envelope), now, POLICY).activation
    return decide(a, Stepped(a.computes, (STEP,)), now, POLICY).activation


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
