"""What `statebacked dev` prints: which commands and code to paste, what was deployed, who stays behind."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.output import printable
from statebacked.serve.dev_plan import Deployment, ServerInfo

__all__ = ["CommandLine", "deployment_text", "welcome_text"]

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


def welcome_text(
    server: ServerInfo,
    machines: Sequence[tuple[str, Path]],
    *,
    page_url: str | None,
    command_line: CommandLine,
) -> str:
    """Where things are and what to paste next. `machines` are (name, file)."""
    parts = [f"server  {server.url}\norg     {server.org_id}\ndata    {server.data}"]
    if page_url is not None:
        parts[0] += f"\npage    {page_url}"
    parts[0] += "\negress  " + (EGRESS_OPEN if server.allows_egress else EGRESS_CLOSED)
    if machines:
        name, file = machines[0]
        parts.append(_commands(server, name, file, command_line))
        parts.append(_snippet(server, name))
    if command_line.first is not None and not command_line.is_ours:
        parts.append(_other_smply(server, command_line.first))
    return "\n\n".join(parts)


def deployment_text(deployment: Deployment) -> str:
    """One deployment: a line, and a second one about instances that keep an older version."""
    what = "deployed" if deployment.is_new else "unchanged"
    lines = [f"{deployment.machine}: {what}, version {deployment.version} is current"]
    if deployment.staying:
        lines.append(_staying(deployment))
    return "\n".join(lines)


def _staying(deployment: Deployment) -> str:
    named = ", ".join(
        f"{printable(instance)} ({version})" for instance, version in deployment.staying[:INSTANCES_NAMED]
    )
    count = len(deployment.staying)
    more = f" and {count - INSTANCES_NAMED} more" if count > INSTANCES_NAMED else ""
    at_least = "at least " if deployment.has_more else ""
    plural = "s stay" if count != 1 or deployment.has_more else " stays"
    return (
        f"  {at_least}{count} instance{plural} on the version that created them: {named}{more}.\n"
        "  New instances run the new code. To start with an empty server: statebacked dev --reset …"
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
