"""Who may wait, how many, and what becomes of them when the server goes down."""

from tests.core import given

from statebacked.core import phases
from statebacked.core.phases import Deliver, Drain, Settled, Tick
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope, Pause
from statebacked.model.ids import EnvelopeId
from statebacked.model.step import WorkerLost

SMALL = Policy(mailbox_max=3, mailbox_per_auth_max=2)


def test_events_wait_in_the_order_of_arrival() -> None:
    a = given.after(given.stepping(), given.client("c2"), given.client("c3"))
    assert given.waiting_in_mailbox(a) == ["c2", "c3"]


def test_one_caller_may_not_fill_the_mailbox() -> None:
    a = given.after(given.stepping(), given.client("c2"), given.client("c3"), policy=SMALL)
    decision = given.deciding(a, given.client("c4"), policy=SMALL)
    assert given.told(decision) == [("c4", "mailbox-full")]
    assert decision.activation == a
    assert given.waiting_in_mailbox(given.after(a, given.client("d", auth=b"1"), policy=SMALL))[-1] == "d"


def test_the_mailbox_is_bounded_for_all() -> None:
    others = [given.client(f"d{n}", auth=b"%d" % n) for n in range(3)]
    a = given.after(given.stepping(), *others, policy=SMALL)
    decision = given.deciding(a, given.client("c4"), policy=SMALL)
    assert given.told(decision) == [("c4", "mailbox-full")]


def test_the_bytes_that_wait_are_bounded() -> None:
    """An event takes 13 bytes."""
    policy = Policy(mailbox_max=4, mailbox_bytes_max=40)
    a = given.stepping(policy=policy)
    a = given.after(a, *(given.client(f"d{n}", auth=b"%d" % n) for n in range(3)), policy=policy)
    assert given.waiting_in_mailbox(a) == ["d0", "d1", "d2"]
    decision = given.deciding(a, given.client("d3", auth=b"3"), policy=policy)
    assert given.told(decision) == [("d3", "mailbox-full")]


def test_a_row_that_finds_the_mailbox_full_stays_in_the_store() -> None:
    a = given.stepping(given.loaded(timers=(given.pending(),)))
    a = given.after(a, *(given.client(f"d{n}", auth=b"%d" % n) for n in range(3)), policy=SMALL)
    decision = given.deciding(a, given.timer(), policy=SMALL)
    assert (decision.activation, decision.commands) == (a, ())


def test_a_server_that_goes_down_refuses_what_has_not_begun() -> None:
    a = given.stepping(given.loaded(timers=(given.pending(),)))
    a = given.after(a, given.client("c2"), given.timer())
    decision = given.deciding(a, Drain())
    assert given.told(decision) == [("c2", "unavailable")]
    assert given.waiting_in_mailbox(decision.activation) == ["timer:1.0"]
    decision = given.deciding(decision.activation, given.client("c3"))
    assert given.told(decision) == [("c3", "unavailable")]
    decision = given.deciding(decision.activation, given.stepped(a, given.step()))
    assert given.answered(decision) == [("c1", 2)]
    assert given.computing(decision.activation) == []


def test_a_server_that_goes_down_settles_now() -> None:
    decision = given.deciding(given.serving("s"), Drain())
    assert given.names(decision) == ["Stop", "Reply"]
    assert decision.activation.phase == Settled()
    assert given.owed(decision.activation) == [given.run("s")]
    a = given.after(given.stepping(), Drain())
    a = given.after(a, given.stepped(a, given.starting("s")))
    decision = given.deciding(a, given.performed(2))
    assert given.names(decision) == ["Stop", "Reply"]


def test_a_server_that_goes_down_begins_nothing_again() -> None:
    decision = given.deciding(given.after(given.stepping(), Drain()), WorkerLost())
    assert given.told(decision) == [("c1", "unavailable")]
    assert decision.activation.mailbox == ()


def test_a_server_that_goes_down_answers_what_is_left_of_a_batch() -> None:
    policy = Policy(batch_max=3)
    a = given.after(given.stepping(policy=policy), given.client("c2"), given.client("c3"), policy=policy)
    a = given.after(a, given.stepped(a, given.UNCHANGED), Drain(), policy=policy)
    decision = given.deciding(a, given.stepped(a, given.step()), policy=policy)
    assert given.answered(decision) == [("c2", 2)]
    assert given.told(decision) == [("c3", "unavailable")]


def test_loading_says_who_and_what_an_instance_is() -> None:
    a = given.loaded(timers=(given.pending(),))
    assert (a.instance, a.key, a.number, a.epoch) == (given.INSTANCE, given.KEY, given.NUMBER, given.EPOCH)
    assert (a.version, a.seq, a.view, a.timers) == (given.VERSION, 1, given.view(1), (given.pending(),))
    b = given.unborn()
    assert (b.instance, b.key, b.number, b.epoch) == (given.INSTANCE, given.KEY, given.NUMBER, given.EPOCH)
    assert (b.version, b.seq, b.view, b.phase) == (given.VERSION, 0, None, Settled())


def test_an_alarm_is_set_when_it_changes_and_not_before() -> None:
    a = given.stepping()
    assert given.deciding(a, given.client("c2")).commands == ()
    assert given.deciding(a, Tick(), now=1).commands == ()
    assert given.alarm(given.deciding(a, given.refused(a))) == phases.WakeAt(None)


PAUSE = Deliver(Envelope(id=EnvelopeId("p"), payload=Pause(), source="client", wants_reply=True))


def test_a_control_overtakes_what_no_client_has_asked_for() -> None:
    busy = given.loaded(timers=(given.pending("1.0"), given.pending("1.1")))
    a = given.after(busy, given.timer("1.0"), given.timer("1.1"), PAUSE)
    a = given.after(a, given.stepped(a, given.step()), Tick())
    assert (a.status, given.computing(a)) == ("paused", [])


def test_a_control_waits_for_what_clients_have_asked_before() -> None:
    busy = given.loaded(timers=(given.pending("1.0"), given.pending("1.1")))
    a = given.after(busy, given.timer("1.0"), given.timer("1.1"), given.client("c1"), PAUSE)
    for computed in ("timer:1.0", "timer:1.1", "c1"):
        assert (a.status, given.computing(a)) == ("running", [computed])
        a = given.after(a, given.stepped(a, given.step()), Tick())
    assert a.status == "paused"
