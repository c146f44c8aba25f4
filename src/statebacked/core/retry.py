"""Attempts and back-off of durable deliveries, and when they are given up."""

from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.ids import Instant
from statebacked.model.rows import Rejection
from statebacked.model.values import Now


def reject(cause: Cause, attempts: int, reason: str, now: Now, policy: Policy) -> Rejection:
    """The delivery that made `attempts` failed. A message to itself is not retried: later ones would overtake
    it or wait behind it, so it becomes a dead letter at once."""
    is_to_itself = cause.table == "message" and cause.owner is None
    is_last = is_to_itself or attempts >= policy.attempts_max
    retry_at = None if is_last else Instant(now.wall + backoff_ms(attempts, policy))
    return Rejection(cause=cause, attempts=attempts, retry_at=retry_at, reason=reason, at=now.wall)


def backoff_ms(attempts: int, policy: Policy) -> int:
    """The pause after failed attempt number `attempts` (from 1): doubling, bounded."""
    return int(min(policy.retry_first_ms * 2 ** (attempts - 1), policy.retry_longest_ms))
