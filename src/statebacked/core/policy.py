"""Every number that a decision depends on, so that tests and operators can set it."""

from dataclasses import dataclass

from statebacked.model.limits import (
    DELIVERY_ATTEMPTS_MAX,
    INSTANCE_THROTTLED_MS,
    INSTANCE_TIMERS_MAX,
    INSTANCE_UNASKED_STEPS_BURST,
    INSTANCE_UNASKED_STEPS_PER_S,
    INSTANCE_UNDELIVERED_MAX,
    MAILBOX_BYTES_MAX,
    MAILBOX_ENVELOPES_MAX,
    MAILBOX_INSIDE_BYTES_MAX,
    MAILBOX_PER_AUTH_CONTEXT_MAX,
    MAILBOX_PER_SERVICE_MAX,
    SPAWN_DEPTH_MAX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`settle_ms`: time to settle after the last outside event. `compute_ms`: time for one compute, its
    authorizer included, and for one perform. `upgrade_ms`: time for a whole upgrade. `batch_max`: outside
    envelopes that one compute may carry. `unasked_per_s`, `unasked_burst`: steps that no client causes, of
    one instance; `throttled_ms`: how long it may need more before its owner is told."""

    settle_ms: int = 90_000
    compute_ms: int = 10_000
    upgrade_ms: int = 60_000
    batch_max: int = 1
    mailbox_max: int = MAILBOX_ENVELOPES_MAX
    mailbox_bytes_max: int = MAILBOX_BYTES_MAX
    mailbox_per_auth_max: int = MAILBOX_PER_AUTH_CONTEXT_MAX
    mailbox_per_service_max: int = MAILBOX_PER_SERVICE_MAX
    inside_bytes_max: int = MAILBOX_INSIDE_BYTES_MAX
    timers_max: int = INSTANCE_TIMERS_MAX
    undelivered_max: int = INSTANCE_UNDELIVERED_MAX
    spawn_depth_max: int = SPAWN_DEPTH_MAX
    unasked_per_s: int = INSTANCE_UNASKED_STEPS_PER_S
    unasked_burst: int = INSTANCE_UNASKED_STEPS_BURST
    throttled_ms: int = INSTANCE_THROTTLED_MS
    attempts_max: int = DELIVERY_ATTEMPTS_MAX
    retry_first_ms: int = 1_000
    retry_longest_ms: int = 60_000
    losses_max: int = 3
