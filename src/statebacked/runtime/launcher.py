"""Turns itself into a worker: `python -I -S launcher.py PARENT UID PROGRAM ARGUMENT…`.

A program of its own, because the server has threads: Python code between fork and exec could deadlock on a
lock that another thread held. Here there is one thread and nothing to lose. It costs 15 ms, paid by prewarmed
workers.

- SIGKILL when the parent ends, however it ends: a looping worker does not see the end of its stdin.
- A session of its own, so that Ctrl-C in a terminal reaches the server alone.
- No core dumps, no way to gain privileges, and the first to go when the machine runs out of memory.
- The user UID, when that user can read every file of the worker (PROGRAM and each ARGUMENT that is a file);
  -1, or a file that it cannot read (a server started from /root): the user stays.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main(argv: list[str]) -> None:
    parent, uid, command = int(argv[1]), int(argv[2]), argv[3:]
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    if uid >= 0 and _can_run(command, uid):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # last: a change of user would clear it
    if os.getppid() != parent:
        return  # the parent ended before it could be noticed
    environ = {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}  # Python put it there
    os.execve(command[0], command, environ)  # noqa: S606  # a shell is what we do not want


def _can_run(command: list[str], uid: int) -> bool:
    """Whether that user may execute the program and read the files among its arguments."""
    files = [path for path in command[1:] if path.startswith("/")]
    os.setegid(uid)
    os.seteuid(uid)
    try:
        return os.access(command[0], os.X_OK, effective_ids=True) and all(
            os.access(path, os.R_OK, effective_ids=True) for path in files
        )
    finally:
        os.seteuid(0)
        os.setegid(0)


if __name__ == "__main__":
    main(sys.argv)
