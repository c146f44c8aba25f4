"""Steps that no client asked for take from a bucket of their instance; an empty one delays, never drops."""

from tests.core import given

from statebacked.core.phases import Activation, Tick
from statebacked.core.policy import Policy

SLOW = Policy(unasked_per_s=10, unasked_burst=2)


def ring(a: Activation, key: str, now: int) -> Activation:
    """A timer comes due, and its step, if it may begin, is computed."""
    a = given.after(a, given.timer(key), now=now, policy=SLOW)
    if given.computing(a):
        a = given.after(a, given.stepped(a, given.step()), now=now, policy=SLOW)
    return a


def test_a_burst_begins_at_once_and_what_follows_waits_for_its_share() -> None:
    a = given.loaded(timers=tuple(given.pending(f"1.{n}") for n in range(4)))
    a = ring(ring(a, "1.0", 0), "1.1", 0)
    assert a.seq == 3
    a = ring(a, "1.2", 0)
    assert (a.seq, given.waiting_in_mailbox(a)) == (3, ["timer:1.2"])
    early = given.after(a, Tick(), now=99, policy=SLOW)
    assert given.computing(early) == []
    assert given.computing(given.after(early, Tick(), now=100, policy=SLOW)) == ["timer:1.2"]


def test_a_client_is_never_held_back() -> None:
    a = given.loaded(timers=tuple(given.pending(f"1.{n}") for n in range(2)))
    a = ring(ring(a, "1.0", 0), "1.1", 0)
    assert given.computing(given.stepping(a, policy=SLOW)) == ["c1"]


def test_a_pause_fills_the_bucket_no_further_than_its_burst() -> None:
    a = given.loaded(timers=tuple(given.pending(f"1.{n}") for n in range(4)))
    a = ring(a, "1.0", 0)
    for key in ("1.1", "1.2", "1.3"):
        a = ring(a, key, 1_000_000)
    assert (a.seq, given.waiting_in_mailbox(a)) == (4, ["timer:1.3"])
