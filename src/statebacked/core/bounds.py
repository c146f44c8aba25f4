"""What one instance may hold: pending timers, undelivered messages to itself and to others, descendants."""

from statebacked.core.phases import Activation
from statebacked.core.policy import Policy
from statebacked.core.steps import Draft
from statebacked.model.envelopes import Envelope


def excess(after: Activation, draft: Draft, left: tuple[Envelope, ...], policy: Policy) -> str | None:
    """Why the steps of a draft must not happen, or None. `left` are envelopes to be computed again."""
    if draft.timers_set and len(after.timers) > policy.timers_max:
        return f"{len(after.timers)} timers would be pending; an instance may have {policy.timers_max}"
    if draft.family is not None and draft.family.messages:
        if after.undelivered > policy.undelivered_max:
            return f"{after.undelivered} messages would be on their way; {policy.undelivered_max} may"
        if draft.family.depth > policy.spawn_depth_max:
            return f"a child would stand {draft.family.depth} deep; {policy.spawn_depth_max} may"
    if draft.messages:
        waiting = sum(e.cause is not None and e.cause.table == "message" for e in (*left, *after.mailbox))
        undelivered = len(draft.messages) + waiting
        if undelivered > policy.undelivered_max:
            return f"{undelivered} sent events would wait; {policy.undelivered_max} may"
    return None
