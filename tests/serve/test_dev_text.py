"""What `statebacked dev` prints: a person copies it, so it must be right to the letter."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from statebacked.cli.errors import CliError
from statebacked.serve.dev_plan import Deployment, DevFile, Moves, ServerInfo, Staying, parse_dev_file
from statebacked.serve.dev_text import CommandLine, deployment_text, next_steps_text, welcome_text

SERVER = ServerInfo(
    url="http://127.0.0.1:7070", org_id="org_1", admin_token="sbs_1", data=Path("/my data/.statebacked")
)
OURS = CommandLine(ours=Path("/repo/.venv/bin"), first=Path("/repo/.venv/bin/smply"))
FILE = Path("/repo/examples/toggler/toggler.ts")


def welcome(command_line: CommandLine = OURS, page_url: str | None = None, file: Path = FILE) -> str:
    machine = DevFile(machine="example-machine", file=file)
    return welcome_text(SERVER, page_url=page_url) + next_steps_text(SERVER, machine, command_line)


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith(("export ", "smply "))]


def test_the_commands_are_those_of_the_quick_start() -> None:
    named = ["--machine", "example-machine", "--instance", "session-123"]
    act = ["--auth-context", '{"sid": "session-123"}']
    assert commands(welcome()) == [
        ["export", "STATEBACKED_DATA=/my data/.statebacked"],
        ["smply", "instances", "create", *named, *act],
        ["smply", "instances", "send-event", *named, *act, "--event", "toggle"],
    ]


def test_the_snippet_names_org_and_server() -> None:
    text = welcome(page_url="http://127.0.0.1:7071/")

    assert 'anonymous: { orgId: "org_1"' in text
    assert 'apiHost: "http://127.0.0.1:7070"' in text
    assert 'getOrCreate("example-machine", sessionId, { context: {} })' in text
    assert "page    http://127.0.0.1:7071/" in text


def test_what_machines_may_fetch_from_is_said() -> None:
    assert "egress  machines may fetch from public addresses; --allow-egress opens" in welcome()
    opened = welcome_text(replace(SERVER, allows_egress=True), page_url=None)
    assert opened.endswith(
        "\negress  machines may fetch from this machine and private networks too (--allow-egress)"
    )


def test_the_admins_token_is_never_printed() -> None:
    assert "sbs_1" not in welcome(CommandLine(ours=Path("/v"), first=Path("/usr/bin/smply")))


def test_an_unknown_machines_event_is_left_to_the_reader() -> None:
    assert commands(welcome(file=Path("/repo/order.ts")))[-1][-1] == "YOUR_EVENT"


def test_another_smply_on_the_path_is_named_and_put_behind() -> None:
    text = welcome(CommandLine(ours=Path("/repo/.venv/bin"), first=Path("/usr/local/bin/smply")))

    assert commands(text)[0] == [
        "export",
        "PATH=/repo/.venv/bin:$PATH",
        "STATEBACKED_DATA=/my data/.statebacked",
    ]
    assert "your shell finds /usr/local/bin/smply first" in text
    assert "smply --api-url http://127.0.0.1:7070" in text


def test_no_smply_on_the_path_is_no_reason_for_a_warning() -> None:
    text = welcome(CommandLine(ours=Path("/repo/.venv/bin"), first=None))

    assert commands(text)[0][1] == "PATH=/repo/.venv/bin:$PATH"
    assert "your shell finds" not in text


def deployment(**changed: object) -> Deployment:
    return Deployment(**{"machine": "m", "file": FILE, "version": "ver_2", "is_new": True, **changed})  # type: ignore[arg-type]  # of a test's own table


def test_a_deployment_is_one_line() -> None:
    assert deployment_text(deployment()) == "m: deployed, version ver_2 is current"
    assert deployment_text(deployment(is_new=False)) == "m: unchanged, version ver_2 is current"


def staying(*names: str, reason: str = "") -> Moves:
    return Moves(staying=tuple(Staying(instance=name, version="ver_1", reason=reason) for name in names))


def test_instances_that_stay_behind_are_named() -> None:
    text = deployment_text(deployment(moves=staying("a\x1b")))

    assert "1 instance stays on the version that created it: a\\u001b (ver_1)." in text
    assert "--reset" in text
    assert "2 instances stay on older versions: a (ver_1), b (ver_1)." in (
        deployment_text(deployment(moves=staying("a", "b")))
    )


def test_instances_that_move_are_named_and_those_that_do_not_with_the_reason() -> None:
    assert "1 instance goes on in the new code with its next event: a." in (
        deployment_text(deployment(moves=Moves(moving=("a",))))
    )
    both = Moves(moving=("a", "b"), staying=staying("c", reason="no state\n on").staying)
    text = deployment_text(deployment(moves=both))
    assert "2 instances go on in the new code with their next event: a, b." in text
    assert "1 instance stays on the version that created it:\n    c (ver_1): no state\\u000a on\n" in text


def test_many_instances_are_counted() -> None:
    many = staying(*(f"i{number}" for number in range(8)))

    assert "8 instances stay" in deployment_text(deployment(moves=many))
    assert "i4 (ver_1) and 3 more." in deployment_text(deployment(moves=many))
    assert "more instances than were looked at" in deployment_text(deployment(moves=many, has_more=True))
    moving = Moves(moving=tuple(f"i{number}" for number in range(8)))
    assert "i4 and 3 more." in deployment_text(deployment(moves=moving))


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("toggler.ts", "toggler"),
        ("my.machine v2.ts", "my"),
        ("example-machine=toggler.ts", "example-machine"),
        ("a=b.ts", "a"),
    ],
)
def test_a_file_is_deployed_under_its_own_name_or_a_given_one(
    tmp_path: Path, text: str, machine: str
) -> None:
    for name in ("toggler.ts", "my.machine v2.ts", "b.ts"):
        (tmp_path / name).write_text("")

    parsed = parse_dev_file(text, tmp_path)
    assert parsed.machine == machine
    assert parsed.file.is_file()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.ts", "there is no file .*/nowhere.ts"),
        ("name=nowhere.ts", "there is no file .*/nowhere.ts"),
        ("my machine=good.ts", "'my machine' is no name for a machine"),
        ("", "is a folder: name the machine's file"),
        ("folder", "folder is a folder"),
        ("é.ts", "gives no name for the machine: say name=é.ts"),
        ("good.ts.txt", "good.ts.txt is neither TypeScript nor JavaScript"),
        ("name=good.ts.txt", "good.ts.txt is neither TypeScript nor JavaScript"),
    ],
)
def test_a_file_that_gives_no_machine_is_told(tmp_path: Path, text: str, told: str) -> None:
    for name in ("é.ts", "good.ts.txt", "good.ts"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CliError, match=told):
        parse_dev_file(text, tmp_path)
