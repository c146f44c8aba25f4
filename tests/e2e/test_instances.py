"""How instances begin, what they are called, and what an administrator sees of them. On a real server."""

import subprocess
from itertools import count

import pytest

from tests.e2e.asking import Asker, Json, answered, refused
from tests.e2e.servers import BIN, RealServer

NUMBERS = count()
HEAD = """
import { createMachine } from "xstate";
export const allowRead = ({ authContext }) => authContext.read !== false;
export const allowWrite = () => true;
export default createMachine({ predictableActionArguments: true, context: CONTEXT,
  initial: "STATE", states: { STATE: {}, other: {} } });
"""
CONTEXTS = {
    "4.38.3": "{ public: { from: 'machine', kept: true }, secret: 1 }",
    "5.33.3": "({ input }) => ({ public: { input } })",
}


def code_of(state: str, xstate: str) -> str:
    return HEAD.replace("STATE", state).replace("CONTEXT", CONTEXTS[xstate])


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    return Asker(server)


@pytest.fixture(params=CONTEXTS)
def machine(admin: Asker, request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Its name, and the ids of its first and of its current version."""
    xstate: str = request.param
    name = f"m{next(NUMBERS)}-{xstate[0]}"
    first = admin.deploy(name, code_of("first", xstate), xstate=xstate)
    current = answered(admin.add_version(name, code_of("second", xstate), xstate=xstate))["machineVersionId"]
    return name, first, str(current)


def test_a_creation_takes_the_version_that_it_names_or_the_current_one(
    admin: Asker, machine: tuple[str, str, str]
) -> None:
    name, first, current = machine
    assert answered(admin.create(name, "a"))["state"] == "second"
    named = {"slug": "b", "machineVersionId": first, "context": {}}
    made = answered(admin.http.post(f"/machines/{name}", json=named))
    assert (made["state"], made["done"], made["tags"]) == ("first", False, [])
    assert made == answered(admin.get(name, "b"))
    assert admin.admin_state(name, "a")["machineVersion"]["id"] == current
    assert admin.admin_state(name, "b")["machineVersion"]["id"] == first


def test_the_callers_context_is_merged_over_that_of_xstate_4_and_is_the_input_of_xstate_5(
    admin: Asker, machine: tuple[str, str, str]
) -> None:
    name = machine[0]
    for instance, given in (("none", None), ("own", {"more": 2}), ("public", {"public": {"from": "caller"}})):
        answered(admin.create(name, instance, given))
        context = admin.admin_state(name, instance)["context"]
        if name.endswith("4"):
            own = {"public": {"from": "machine", "kept": True}, "secret": 1}
            assert context == {**own, **(given or {})}
        else:
            assert context == {"public": {"input": given or {}}}


def test_a_name_of_1_to_128_characters_is_that_of_a_user_too(
    admin: Asker, machine: tuple[str, str, str]
) -> None:
    for name in ("a", "x" * 128, "auth0|6f", "ann@example.com", "a.b:c+d~e-f_G9"):
        made = answered(admin.create(machine[0], name))
        assert answered(admin.get(machine[0], name)) == made
    refused(admin.create(machine[0], "x" * 129), 400, "invalid-name")


def test_instances_are_listed_page_by_page(admin: Asker, machine: tuple[str, str, str]) -> None:
    name, first, current = machine
    names = [f"i{n}" for n in range(5)]
    for instance in names:
        answered(admin.create(name, instance))
    versioned = {"slug": "old", "machineVersionId": first}
    answered(admin.http.post(f"/machines/{name}", json=versioned))
    assert admin.http.put(f"/machines/{name}/i/i3/status", json={"status": "paused"}).status_code == 204

    listed: list[Json] = []
    query = {"limit": "4"}
    while True:
        page = answered(admin.http.get(f"/machines/{name}/i", params=query))
        listed += page["instances"]
        if "cursor" not in page:
            break
        assert len(page["instances"]) == 4
        query["cursor"] = page["cursor"]
    assert sorted(one["slug"] for one in listed) == [*names, "old"]
    for one in listed:
        assert one["machineVersion"]["id"] == (first if one["slug"] == "old" else current)
        assert one["status"] == ("paused" if one["slug"] == "i3" else "running")
        assert one["createdAt"] == admin.admin_state(name, one["slug"])["createdAt"]


def test_an_administrator_sees_what_the_machine_would_not_show(
    admin: Asker, machine: tuple[str, str, str]
) -> None:
    name = machine[0]
    answered(admin.create(name, "a"))
    blind = Asker(admin.server, act={"read": False})
    refused(blind.get(name, "a"), 403, "rejected-by-machine-authorizer")
    assert blind.admin_state(name, "a") == admin.admin_state(name, "a")


HANDLES = """
import { createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({ predictableActionArguments: true, initial: "off", context: {}, states: {
  off: { on: { toggle: "on", never: { target: "on", GUARD: () => false }, same: "off" } },
  on: { type: "final" } } });
"""


@pytest.mark.parametrize(("xstate", "guard"), [("4.38.3", "cond"), ("5.33.3", "guard")])
def test_an_event_that_selects_no_transition_is_answered_with_a_header_that_says_so(
    admin: Asker, xstate: str, guard: str
) -> None:
    name = f"handles-{xstate[0]}"
    admin.deploy(name, HANDLES.replace("GUARD", guard), xstate=xstate)
    before = answered(admin.create(name, "a"))
    told = {}
    for event in ("tooggle", "never", "same", "toggle", "toggle"):
        answer = admin.send(name, "a", event)
        told[event, answered(answer)["state"]] = answer.headers.get("x-statebacked-event")
        if event == "tooggle":
            assert answer.json() == before
    assert told == {
        ("tooggle", "off"): "unchanged",
        ("never", "off"): "unchanged",
        ("same", "off"): None,
        ("toggle", "on"): "unchanged",  # the second: the instance is done
    }
    send = ("instances", "send-event", "-m", name, "-i", "a", "-a", "{}", "--event")
    done = subprocess.run(
        [str(BIN / "smply"), *send, "tooggle"], env=admin.server.environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "the instance is done: `tooggle` changed nothing\n")
