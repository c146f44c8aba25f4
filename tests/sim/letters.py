"""What must hold of deliveries that were given up: kept, and when somebody redrives them as good as new."""

from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.ids import Instant
from statebacked.model.rows import DeadLetter
from statebacked.store.memory_instances import MemoryInstances
from statebacked.store.memory_letters import dead_letters
from tests.sim.laws import Lives, Row, must


def follow_redriven(lives: Lives, letter: DeadLetter, at: Instant, policy: Policy) -> None:
    """The store has taken a letter out of the dead ones."""
    life = lives.get(letter.instance)
    is_retried = letter.kind != "self"
    if is_retried:
        must(
            letter.attempts >= policy.attempts_max,
            "a delivery is given up after its last attempt, not before",
        )
    if life is None or letter.kind not in ("timer", "self"):
        return
    cause = Cause("timer" if letter.kind == "timer" else "message", letter.key)
    must(cause in life.dead_letters, "only what was given up is redriven")
    row = life.dead_letters.pop(cause)
    if isinstance(row, Row):
        row.attempts, row.fire_at = 0, at
        life.timers[letter.key] = row
    else:
        life.messages[letter.key] = row
        life.redriven.add(letter.key)


def what_was_given_up_is_kept(lives: Lives, rows: MemoryInstances) -> None:
    """Until it is redriven, and nothing else is."""
    for life in lives.values():
        if not life.is_deleted:
            own = [one for one in dead_letters(rows) if one.instance == life.instance]
            dead = {Cause("timer", one.key) for one in own if one.kind == "timer"}
            dead |= {Cause("message", one.key) for one in own if one.kind == "self"}
            must(dead == {*life.dead_letters}, "what was given up is kept, and nothing else")
