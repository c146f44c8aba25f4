"""What `statebacked dev` prints: a person copies it, so it must be right to the letter."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from statebacked.cli.errors import CliError
from statebacked.serve.dev_plan import Deployment, ServerInfo, parse_dev_file
from statebacked.serve.dev_text import CommandLine, deployment_text, welcome_text

SERVER = ServerInfo(
    url="http://127.0.0.1:7070", org_id="org_1", admin_token="sbs_1", data=Path("/my data/.statebacked")
)
OURS = CommandLine(ours=Path("/repo/.venv/bin"), first=Path("/repo/.venv/bin/smply"))
FILE = Path("/repo/examples/toggler/toggler.ts")


def welcome(command_line: CommandLine = OURS, page_url: str | None = None, file: Path = FILE) -> str:
    return welcome_text(SERVER, [("example-machine", file)], page_url=page_url, command_line=command_line)


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
    opened = welcome_text(replace(SERVER, allows_egress=True), [], page_url=None, command_line=OURS)
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


def test_instances_that_stay_behind_are_named() -> None:
    text = deployment_text(deployment(staying=(("a\x1b", "ver_1"),)))

    assert "1 instance stays on the version that created them: a\\u001b (ver_1)." in text
    assert "--reset" in text


def test_many_instances_are_counted() -> None:
    staying = tuple((f"i{number}", "ver_1") for number in range(8))

    assert "8 instances stay" in deployment_text(deployment(staying=staying))
    assert "i4 (ver_1) and 3 more." in deployment_text(deployment(staying=staying))
    assert "at least 8 instances stay" in deployment_text(deployment(staying=staying, has_more=True))


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


@pytest.mark.parametrize("text", ["nowhere.ts", "name=nowhere.ts", "", "é.ts"])
def test_a_file_that_gives_no_machine_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "é.ts").write_text("")
    with pytest.raises(CliError):
        parse_dev_file(text, tmp_path)
