"""What an instance may hold is bounded: a step that would pass the bound never happened."""

import pytest
from msgspec.structs import replace
from tests.core import given

from statebacked.core.phases import Activation, Complain, Compute, Settled
from statebacked.core.policy import Policy
from statebacked.model import limits
from statebacked.model.ids import InstanceName, MachineName, ServiceId
from statebacked.model.step import Spawn
from statebacked.model.values import Address, Json, Parent

SMALL = Policy(timers_max=2, undelivered_max=2, batch_max=3)
PENDING = (given.pending("1.0"), given.pending("1.1", "u"))
SENDS = (Json(b'{"type":"self"}'),) * 3


def test_the_numbers_of_the_policy_are_the_limits() -> None:
    policy = Policy()
    assert policy.mailbox_max == limits.MAILBOX_ENVELOPES_MAX
    assert policy.mailbox_bytes_max == limits.MAILBOX_BYTES_MAX
    assert policy.mailbox_per_auth_max == limits.MAILBOX_PER_AUTH_CONTEXT_MAX
    assert policy.mailbox_per_service_max == limits.MAILBOX_PER_SERVICE_MAX
    assert policy.inside_bytes_max == limits.MAILBOX_INSIDE_BYTES_MAX
    assert policy.timers_max == limits.INSTANCE_TIMERS_MAX
    assert policy.undelivered_max == limits.INSTANCE_UNDELIVERED_MAX
    assert policy.attempts_max == limits.DELIVERY_ATTEMPTS_MAX
    assert policy.spawn_depth_max == limits.SPAWN_DEPTH_MAX
    assert policy.unasked_per_s == limits.INSTANCE_UNASKED_STEPS_PER_S
    assert policy.unasked_burst == limits.INSTANCE_UNASKED_STEPS_BURST


def test_a_timer_above_the_bound_refuses_its_event() -> None:
    settled = given.loaded(timers=PENDING)
    a = given.stepping(settled, policy=SMALL)
    decision = given.deciding(a, given.stepped(a, given.step(timers=given.setting("v"))), policy=SMALL)
    assert given.told(decision) == [("c1", "too-many-effects")]
    assert decision.commit is None
    assert decision.activation.timers == PENDING
    assert decision.activation.phase == Settled()


@pytest.mark.parametrize("operations", [(given.cancelling("t"), *given.setting("v")), given.setting()])
def test_a_step_that_leaves_no_more_than_the_bound_is_taken(operations: tuple[object, ...]) -> None:
    a = given.stepping(given.loaded(timers=PENDING), policy=SMALL)
    decision = given.deciding(a, given.stepped(a, given.step(timers=operations)), policy=SMALL)
    assert len(given.committed(decision).timers_set) == len(operations) // 2
    assert len(decision.activation.timers) == 2


def test_sent_events_above_the_bound_refuse_their_event() -> None:
    a = given.stepping(policy=SMALL)
    decision = given.deciding(a, given.stepped(a, given.step(sends=SENDS)), policy=SMALL)
    assert given.told(decision) == [("c1", "too-many-effects")]
    assert decision.commit is None


def test_events_that_wait_already_count() -> None:
    a = given.loaded(messages=(given.message("1.0"), given.message("1.1")))
    a = given.stepping(a, policy=SMALL)
    assert given.computing(a) == ["message:1.0"]
    one = given.deciding(a, given.stepped(a, given.step(sends=SENDS[:1])), policy=SMALL)
    assert len(given.committed(one).messages) == 1
    two = given.deciding(a, given.stepped(a, given.step(sends=SENDS[:2])), policy=SMALL)
    assert given.committed(two).rejected is not None
    assert "too-many-effects" in given.committed(two).rejected.reason  # type: ignore[union-attr]


def test_of_a_batch_only_the_event_that_passes_the_bound_is_refused() -> None:
    a = given.stepping(given.loaded(timers=PENDING[:1]), policy=SMALL)
    a = given.after(a, given.client("c2"), given.client("c3"), policy=SMALL)
    a = given.after(a, given.stepped(a, given.UNCHANGED), policy=SMALL)
    assert given.computing(a) == ["c2", "c3"]
    steps = [given.step(timers=given.setting(id)) for id in ("v", "w")]
    decision = given.deciding(a, given.stepped(a, *steps), policy=SMALL)
    assert len(given.committed(decision).timers_set) == 1
    assert [e.id for e in given.only(decision, Compute).envelopes] == ["c3"]
    a = decision.activation
    decision = given.deciding(a, given.stepped(a, steps[1]), policy=SMALL)
    assert given.told(decision) == [("c3", "too-many-effects")]


TIGHT = Policy(undelivered_max=3, inside_bytes_max=40)  # an inside event takes 13 bytes


def performing(policy: Policy) -> Activation:
    a = given.stepping(policy=policy)
    return given.after(a, given.stepped(a, given.step(has_effects=True)), policy=policy)


@pytest.mark.parametrize("policy", [TIGHT, Policy(inside_bytes_max=40), Policy(undelivered_max=3)])
def test_what_actions_send_past_the_bound_is_dropped_and_told(policy: Policy) -> None:
    sent = [given.inside(n) for n in range(5)]
    decision = given.deciding(performing(policy), given.performed(2, *sent), policy=policy)
    assert given.computing(decision.activation) == ["inside:7:0"]
    assert given.waiting_in_mailbox(decision.activation) == ["inside:7:1", "inside:7:2"]
    complaint = given.only(decision, Complain)
    assert (complaint.envelope.id, complaint.code) == ("inside:7:3", "too-many-effects")


def test_the_end_of_a_service_is_never_dropped() -> None:
    a = given.stepping(policy=TIGHT)
    a = given.after(a, given.stepped(a, given.starting("s")), policy=TIGHT)
    ending = given.inside(9, service=given.run("s"), ends=True)
    sent = [*(given.inside(n) for n in range(5)), ending, given.inside(8)]
    a = given.after(a, given.performed(2, *sent), policy=TIGHT)
    assert given.waiting_in_mailbox(a)[-1] == "inside:7:9"


def test_services_that_send_more_bytes_than_wait_at_once_are_stopped() -> None:
    a = given.serving("s", "t", policy=TIGHT)
    a = given.after(a, given.client("c2"), policy=TIGHT)
    a = given.after(a, *(given.chat(n, given.run("s")) for n in range(3)), policy=TIGHT)
    decision = given.deciding(a, given.chat(3, given.run("t")), policy=TIGHT)
    assert given.only(decision, Complain).code == "service-flooded"
    assert decision.activation.services == (given.run("s"),)
    assert given.owed(decision.activation) == [given.run("t")]


CHILD = Address(MachineName("m"), InstanceName("child"))


@pytest.mark.parametrize(("depth", "is_taken"), [(2, True), (3, False)])
def test_descendants_stand_only_so_deep(depth: int, is_taken: bool) -> None:
    policy = Policy(spawn_depth_max=3)
    parent = Parent(given.INSTANCE, CHILD, given.run("kid", 1), depth)
    a = given.stepping(replace(given.loaded(), parent=parent), policy=policy)
    spawning = given.step(outgoing=(Spawn(ServiceId("kid"), CHILD, None, None),))
    decision = given.deciding(a, given.stepped(a, spawning), policy=policy)
    assert (decision.commit is not None) is is_taken
    assert given.told(decision) == ([] if is_taken else [("c1", "too-many-effects")])
