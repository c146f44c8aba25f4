"""Steps that no client asked for take from a bucket of their own instance. An empty one delays, and never
drops: a machine that sends itself events for ever slows nobody else."""

from msgspec.structs import replace

from statebacked.core.phases import Activation, Allowance
from statebacked.core.policy import Policy
from statebacked.model.ids import Monotonic
from statebacked.model.values import Envelope, Now

STEP = 1_000  # the unit of an allowance: thousandths, so that arithmetic stays whole


def hold_back(a: Activation, envelope: Envelope, now: Now, policy: Policy) -> Activation | None:
    """The activation that waits for its bucket, or None when the envelope may begin."""
    if envelope.source == "client":
        return None
    left = _left(a, now, policy)
    if left >= STEP:
        return None
    pause_ms = -(-(STEP - left) // policy.unasked_per_s)
    return replace(a, throttled_until=Monotonic(now.mono + pause_ms))


def spend(a: Activation, envelope: Envelope, now: Now, policy: Policy) -> Activation:
    if envelope.source == "client":
        return a if a.throttled_until is None else replace(a, throttled_until=None)
    left = _left(a, now, policy) - STEP
    return replace(a, allowance=Allowance(left, now.mono), throttled_until=None)


def _left(a: Activation, now: Now, policy: Policy) -> int:
    full = policy.unasked_burst * STEP
    if a.allowance is None:
        return full
    # Per second is per thousand milliseconds, and an allowance counts thousandths.
    return min(full, a.allowance.left + (now.mono - a.allowance.at) * policy.unasked_per_s)
