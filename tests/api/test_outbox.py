"""The outbox: in order while it is small, the newest state of each instance always."""

from hypothesis import given
from hypothesis import strategies as st

from statebacked.api.outbox import Outbox
from statebacked.model.ids import InstanceKey, InstanceName, MachineName, OrgId
from statebacked.model.limits import SOCKET_OUT_BYTES_MAX


def key(name: str) -> InstanceKey:
    return InstanceKey(OrgId("org_1"), MachineName("m"), InstanceName(name))


def drained(outbox: Outbox) -> list[str]:
    return list(iter(outbox.take, None))


def test_few_frames_come_out_as_they_went_in() -> None:
    outbox = Outbox()
    outbox.put_update(key("a"), "a1")
    outbox.put("error")
    outbox.put_update(key("a"), "a2")
    outbox.put_update(key("b"), "b1")
    assert drained(outbox) == ["a1", "error", "a2", "b1"]
    assert outbox.take() is None


def test_past_the_limit_a_newer_state_takes_the_place_of_older_ones_of_its_instance() -> None:
    outbox = Outbox()
    large = "x" * (SOCKET_OUT_BYTES_MAX // 2)
    outbox.put_update(key("a"), large + "1")
    outbox.put("error")
    outbox.put_update(key("b"), large + "1")
    outbox.put_update(key("a"), large + "2")
    assert [frame[-1] for frame in drained(outbox)] == ["r", "1", "2"]


def test_what_is_no_state_is_never_left_out() -> None:
    outbox = Outbox()
    outbox.put_update(key("a"), "x" * SOCKET_OUT_BYTES_MAX)
    outbox.put("error")
    outbox.put_update(key("a"), "new")
    assert drained(outbox) == ["error", "new"]


def test_states_of_an_instance_that_is_watched_no_more_are_dropped() -> None:
    outbox = Outbox()
    outbox.put_update(key("a"), "a1")
    outbox.put_update(key("b"), "b1")
    outbox.put_update(key("a"), "a2")
    outbox.drop_updates(key("a"))
    outbox.drop_updates(key("never"))
    assert drained(outbox) == ["b1"]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.sampled_from("abc"), st.integers(1, SOCKET_OUT_BYTES_MAX // 2)),
        st.tuples(st.just("put"), st.just(""), st.integers(1, 9)),
        st.tuples(st.just("take"), st.just(""), st.just(1)),
    ),
    max_size=30,
)


@given(actions)
def test_whatever_happens_the_last_state_of_each_instance_is_sent_last(
    todo: list[tuple[str, str, int]],
) -> None:
    outbox, sent = Outbox(), []
    newest: dict[str, str] = {}
    errors = 0
    for number, (what, name, size) in enumerate(todo):
        if what == "update":
            newest[name] = f"{name} {number} " + "x" * size
            outbox.put_update(key(name), newest[name])
        elif what == "put":
            errors += 1
            outbox.put(f"error {number}")
        else:
            frame = outbox.take()
            sent += [frame] if frame is not None else []
    sent += drained(outbox)
    for name, frame in newest.items():
        of_name = [other for other in sent if other.startswith(name + " ")]
        assert of_name[-1] == frame
        numbers = [int(other.split(" ")[1]) for other in of_name]
        assert numbers == sorted(numbers)
    assert sum(frame.startswith("error") for frame in sent) == errors


@given(st.integers(1, 50))
def test_a_reader_that_stands_still_costs_the_limit_and_one_state_an_instance(rounds: int) -> None:
    outbox = Outbox()
    size = SOCKET_OUT_BYTES_MAX // 10
    for _ in range(rounds):
        for name in ("a", "b", "c"):
            outbox.put_update(key(name), "x" * size)
    assert sum(map(len, drained(outbox))) <= SOCKET_OUT_BYTES_MAX + 3 * size
