"""What one instance may hold of pending timers and of undelivered messages to itself."""

from statebacked.core.phases import Activation
from statebacked.core.policy import Policy
from statebacked.core.steps import Draft
from statebacked.model.values import Envelope


def excess(after: Activation, draft: Draft, left: tuple[Envelope, ...], policy: Policy) -> str | None:
    """Why the steps of a draft must not happen, or None. `left` are envelopes to be computed again."""
    if draft.timers_set and len(after.timers) > policy.timers_max:
        return f"{len(after.timers)} timers would be pending; an instance may have {policy.timers_max}"
    if draft.messages:
        waiting = sum(e.cause is not None and e.cause.table == "message" for e in (*left, *after.mailbox))
        undelivered = len(draft.messages) + waiting
        if undelivered > policy.undelivered_max:
            return f"{undelivered} sent events would wait; {policy.undelivered_max} may"
    return None
