"""Steps that no client asked for take from a bucket of their own instance. An empty one delays, and never
drops: a machine that sends itself events for ever slows nobody else.

An instance whose bucket has been empty for `throttled_ms`, and has not rested for a second since, is
*throttled*: its owner is told, once, until it has rested."""

from msgspec.structs import replace

from statebacked.core.phases import Activation, Allowance, Command, Throttled
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope
from statebacked.model.ids import Monotonic
from statebacked.model.values import Now

STEP = 1_000  # the unit of an allowance: thousandths, so that arithmetic stays whole


def hold_back(
    a: Activation, envelope: Envelope, now: Now, policy: Policy, out: list[Command]
) -> Activation | None:
    """The activation that waits for its bucket, or None when the envelope may begin."""
    if envelope.source == "client":
        return None
    left = _left(a, now, policy)
    if left >= STEP or a.allowance is None:
        return None
    since, is_told = a.allowance.empty_since, a.allowance.is_told
    if since is None:
        since = now.mono
    elif not is_told and now.mono - since >= policy.throttled_ms:
        is_told = True
        out.append(Throttled())
    pause_ms = -(-(STEP - left) // policy.unasked_per_s)
    allowance = Allowance(a.allowance.left, a.allowance.at, since, is_told)
    return replace(a, allowance=allowance, throttled_until=Monotonic(now.mono + pause_ms))


def spend(a: Activation, envelope: Envelope, now: Now, policy: Policy) -> Activation:
    if envelope.source == "client":
        return a
    left = _left(a, now, policy)
    allowance = Allowance(left - STEP, now.mono)
    if a.allowance is not None and left < _rested(policy):
        allowance = Allowance(left - STEP, now.mono, a.allowance.empty_since, a.allowance.is_told)
    return replace(a, allowance=allowance)


def is_throttled(a: Activation, now: Now, policy: Policy) -> bool:
    if a.allowance is None or a.allowance.empty_since is None:
        return False
    is_long = now.mono - a.allowance.empty_since >= policy.throttled_ms
    return is_long and _left(a, now, policy) < _rested(policy)


def is_full(a: Activation, now: Now, policy: Policy) -> bool:
    """Its bucket is what that of a new activation would be."""
    return _left(a, now, policy) >= policy.unasked_burst * STEP


def _rested(policy: Policy) -> int:
    """What a bucket gains in a second."""
    return min(policy.unasked_per_s, policy.unasked_burst) * STEP


def _left(a: Activation, now: Now, policy: Policy) -> int:
    full = policy.unasked_burst * STEP
    if a.allowance is None:
        return full
    # Per second is per thousand milliseconds, and an allowance counts thousandths.
    return min(full, a.allowance.left + (now.mono - a.allowance.at) * policy.unasked_per_s)
