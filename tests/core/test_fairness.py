"""Steps that no client asked for take from a bucket of their instance; an empty one delays, never drops."""

from msgspec.structs import replace
from tests.core import given

from statebacked.core import fairness
from statebacked.core.phases import Activation, Throttled, Tick
from statebacked.core.policy import Policy
from statebacked.model.limits import INSTANCE_THROTTLED_MS

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


def restless(a: Activation, seconds: range, told: list[int]) -> Activation:
    """Twice as much as it may is due; `told` gets the seconds at which its owner is told."""
    for second in seconds:
        for n in range(20):
            now = second * 1_000 + n * 50
            for signal in (given.timer(f"{second}.{n}"), Tick()):
                decision = given.deciding(a, signal, now=now, policy=SLOW)
                told += [second] * len(given.commands(decision, Throttled))
                a = decision.activation
            if given.computing(a):
                a = given.after(a, given.stepped(a, given.step()), now=now, policy=SLOW)
    return a


def test_an_instance_without_rest_is_throttled_after_a_minute_and_its_owner_told_once() -> None:
    assert Policy().throttled_ms == INSTANCE_THROTTLED_MS == 60_000
    timers = tuple(given.pending(f"{second}.{n}") for second in range(300) for n in range(20))
    told: list[int] = []

    def is_throttled(second: int) -> bool:
        return fairness.is_throttled(a, given.at(second * 1_000), SLOW)

    a = restless(given.loaded(timers=timers), range(59), told)
    assert (told, is_throttled(59)) == ([], False)
    a = restless(a, range(59, 150), told)
    assert (told, is_throttled(150)) == ([60], True)
    assert not is_throttled(152), "it rests"
    a = given.after(a, Tick(), now=150_000, policy=SLOW)
    a = restless(replace(a, mailbox=()), range(153, 260), told)
    assert (told, is_throttled(260)) == ([60, 213], True), "told again, of another time"


def test_a_bucket_that_is_not_full_is_known() -> None:
    a = given.loaded(timers=(given.pending("1.0"),))
    assert fairness.is_full(a, given.at(0), SLOW)
    a = ring(a, "1.0", 0)
    assert not fairness.is_full(a, given.at(99), SLOW)
    assert fairness.is_full(a, given.at(100), SLOW)
