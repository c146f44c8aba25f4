"""What `statebacked dev` prints: which commands and code to paste, what was deployed, who stays behind."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.output import printable
from statebacked.serve.dev_plan import Deployment, DevFile, ServerInfo, Staying

__all__ = ["CommandLine", "deployment_text", "next_steps_text", "welcome_text"]

INSTANCES_NAMED = 5
EXAMPLE_INSTANCE = "session-123"
EGRESS_CLOSED = (
    "machines may fetch from public addresses; --allow-egress opens this machine and private networks"
)
EGRESS_OPEN = "machines may fetch from this machine and private networks too (--allow-egress)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """`ours`: the folder of this project's `smply`; `first`: the one that the shell finds first, None when
    none."""

    ours: Path
    first: Path | None

    @property
    def is_ours(self) -> bool:
        return self.first is not None and self.first.parent.resolve() == self.ours.resolve()


def welcome_text(server: ServerInfo, *, page_url: str | None) -> str:
    """Where things are."""
    text = f"server  {server.url}\norg     {server.org_id}\ndata    {server.data}"
    if page_url is not None:
        text += f"\npage    {page_url}"
    return text + "\negress  " + (EGRESS_OPEN if server.allows_egress else EGRESS_CLOSED)


def next_steps_text(server: ServerInfo, dev_file: DevFile, command_line: CommandLine) -> str:
    """What to paste next, to use a machine that is deployed."""
    parts = [
        _commands(server, dev_file.machine, dev_file.file, command_line),
        _snippet(server, dev_file.machine),
    ]
    if command_line.first is not None and not command_line.is_ours:
        parts.append(_other_smply(server, command_line.first))
    return "\n\n".join(parts)


def deployment_text(deployment: Deployment) -> str:
    """One deployment: a line, and more about instances that were on older versions."""
    what = "deployed" if deployment.is_new else "unchanged"
    lines = [f"{deployment.machine}: {what}, version {deployment.version} is current"]
    if deployment.moves.moving:
        lines.append(_moving(deployment.moves.moving))
    if deployment.moves.staying:
        lines.append(_staying(deployment.moves.staying))
    if deployment.has_more:
        lines.append(
            "  There are more instances than were looked at: they stay on the versions that they have."
        )
    return "\n".join(lines)


def _moving(instances: Sequence[str]) -> str:
    count = len(instances)
    verb = (
        "instance goes on in the new code with its"
        if count == 1
        else "instances go on in the new code with their"
    )
    return f"  {count} {verb} next event: {_listed([printable(name) for name in instances], ', ')}."


def _staying(staying: Sequence[Staying]) -> str:
    count = len(staying)
    said = (
        "instance stays on the version that created it" if count == 1 else "instances stay on older versions"
    )
    named = [
        f"{printable(one.instance)} ({one.version})" + (f": {printable(one.reason)}" if one.reason else "")
        for one in staying
    ]
    has_reasons = any(one.reason for one in staying)
    listed = "\n    " + _listed(named, "\n    ") if has_reasons else " " + _listed(named, ", ") + "."
    return (
        f"  {count} {said}:{listed}\n"
        "  New instances run the new code. To start with an empty server: statebacked dev --reset …"
    )


def _listed(texts: Sequence[str], separator: str) -> str:
    more = len(texts) - INSTANCES_NAMED
    return separator.join(texts[:INSTANCES_NAMED]) + (
        f"{' ' if separator == ', ' else separator}and {more} more" if more > 0 else ""
    )


def _commands(server: ServerInfo, machine: str, file: Path, command_line: CommandLine) -> str:
    path = "" if command_line.is_ours else f'PATH={shlex.quote(str(command_line.ours))}:"$PATH" '
    instance = f"--machine {machine} --instance {EXAMPLE_INSTANCE}"
    act = f"--auth-context {shlex.quote(json.dumps({'sid': EXAMPLE_INSTANCE}))}"
    event = "toggle" if file.name.startswith("toggler") else "YOUR_EVENT"
    return (
        "In another terminal:\n\n"
        f"export {path}STATEBACKED_DATA={shlex.quote(str(server.data))}\n"
        f"smply instances create {instance} {act}\n"
        f"smply instances send-event {instance} {act} --event {event}"
    )


def _snippet(server: ServerInfo, machine: str) -> str:
    return (
        "In your app (npm install --save @statebacked/client):\n\n"
        'import { StateBackedClient } from "@statebacked/client";\n\n'
        "const sessionId = crypto.randomUUID();\n"
        "const client = new StateBackedClient(\n"
        f"  {{ anonymous: {{ orgId: {json.dumps(server.org_id)}, getSessionId: () => sessionId }} }},\n"
        f"  {{ apiHost: {json.dumps(server.url)} }},\n"
        ");\n"
        f"await client.machineInstances.getOrCreate({json.dumps(machine)}, sessionId, {{ context: {{}} }});"
    )


def _other_smply(server: ServerInfo, first: Path) -> str:
    return (
        f"note: your shell finds {first} first, which is not this project's smply.\n"
        "The export above puts ours in front. npm's smply works too, once ours has written its credentials\n"
        "(smply login --legacy-credentials) and it is told in each call where the server is:\n\n"
        f"smply --api-url {server.url} machines list"
    )
