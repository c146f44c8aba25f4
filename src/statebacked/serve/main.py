"""The `statebacked` command: a supervisor where a server is asked for, else the commands themselves.

Imports next to nothing: the supervisor stays for as long as the server runs.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from statebacked.serve import supervised
from statebacked.serve.supervisor import Supervisor

_SUPERVISED = frozenset({"serve", "dev"})
_CRASHED = 70  # EX_SOFTWARE


def main() -> None:
    script, arguments = sys.argv[0], sys.argv[1:]
    if supervised.begin():
        _end_when_it_raises()
    elif wants_supervisor(arguments, os.environ) and os.path.isfile(script):
        sys.exit(Supervisor([sys.executable, script, *arguments]).run())
    else:
        _run_command()


def wants_supervisor(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Servers have one but for `--no-supervisor`, and where another has opened the sockets (systemd), which
    then keeps them open."""
    if not arguments or arguments[0] not in _SUPERVISED:
        return False
    if {"--no-supervisor", "--help", "-h"} & set(arguments):
        return False
    is_off = environment.get("STATEBACKED_NO_SUPERVISOR", "").lower() in {"1", "true", "t", "yes", "y", "on"}
    return not is_off and environment.get("LISTEN_PID") != str(os.getpid())


def _end_when_it_raises() -> None:
    """With exit codes that tell the supervisor a refusal from a failure: Python's own for a failure is 1."""
    try:
        _run_command()
    except SystemExit as end:
        sys.exit(supervised.REFUSED if end.code == 1 else end.code)
    except Exception:
        import traceback

        traceback.print_exc()
        sys.exit(_CRASHED)


def _run_command() -> None:
    from statebacked.serve.commands import cli

    cli()
