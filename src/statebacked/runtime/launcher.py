"""Turns itself into a worker: `python -I -S launcher.py PARENT UID GROUPS READABLE FILTER PROGRAM ARGUMENT…`.

A program of its own, because the server has threads: Python code between fork and exec could deadlock on a
lock that another thread held. Here there is one thread and nothing to lose. It costs 15 ms, paid by prewarmed
workers; the modules that it does not import are part of that.

- Of the server's descriptors it keeps stdin, stdout and stderr.
- SIGKILL when the parent ends, however it ends: a looping worker does not see the end of its stdin.
- A session of its own, so that Ctrl-C in a terminal reaches the server alone.
- A lower priority than the server's, which has others to hear when workers keep every CPU busy.
- No core dumps, few open files, no capabilities, no way to gain privileges, and the first to go when the
  machine runs out of memory.
- The control groups whose `cgroup.procs` are GROUPS (one a line). Empty: none.
- The user UID, when that user can read every file of the worker (PROGRAM and each ARGUMENT that is a file);
  -1, or a file that it cannot read (a server started from /root): the user stays.
- Landlock: of files it reads and executes those beneath READABLE (one a line), and no others; of the network,
  of sockets and processes outside it reaches none. Empty: no Landlock.
- seccomp: the program FILTER of seccomp.py. Empty: no filter.

A wall that is asked for and cannot be raised ends it with 71 and a line on stderr.
"""

import ctypes
import mmap
import os
import resource
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9
_FILES_MAX = 256
_NICE = 5
_CAPABILITY_VERSION_3 = 0x2008_0522

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_NETWORK = 0b11  # bind and connect TCP
_SCOPES = 0b11  # abstract Unix sockets, signals

_libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> None:
    parent, uid, groups, readable, program, command = int(argv[1]), int(argv[2]), *argv[3:6], argv[6:]
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.setsid()
    _let_the_server_go_first()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_files()
    _go_first_when_memory_ends()
    for entrance in groups.splitlines():
        _enter(entrance)
    if uid >= 0 and _can_run(command, uid):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities()
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)  # after a change of user, which would clear it
    if os.getppid() != parent:
        return  # the parent ended before it could be noticed
    environ = {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}  # Python put it there
    if readable:
        _confine_to(readable.split("\n"))
    _become(command, environ, program)


def _limit_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _FILES_MAX if hard == resource.RLIM_INFINITY else min(_FILES_MAX, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _let_the_server_go_first() -> None:
    os.nice(_NICE)
    try:  # where each session has a share of its own, a priority counts within it only
        with open("/proc/self/autogroup", "w") as file:
            file.write(str(_NICE))
    except OSError:
        pass


def _go_first_when_memory_ends() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # it cannot be had everywhere, and contextlib takes 3 ms to import


def _enter(entrance: str) -> None:
    try:
        with open(entrance, "w") as file:
            file.write("0")
    except OSError as error:
        ctypes.set_errno(error.errno or 0)
        _fail(entrance)


def _drop_capabilities() -> None:
    """Also those of a root that stays root: under no_new_privs it gets none back from a program."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _libc.capset(header, bytes(24))


def _can_run(command: list[str], uid: int) -> bool:
    """Whether we may become that user, and it may execute the program and read the files of its arguments."""
    files = [path for path in command[1:] if path.startswith("/")]
    try:
        os.setegid(uid)
        os.seteuid(uid)
        return os.access(command[0], os.X_OK, effective_ids=True) and all(
            os.access(path, os.R_OK, effective_ids=True) for path in files
        )
    except PermissionError:  # a root without that right, as containers have
        return False
    finally:
        os.seteuid(0)
        os.setegid(0)


# --- Landlock (linux/landlock.h) -----------------------------------------------------------------


def _confine_to(paths: list[str]) -> None:
    abi = _libc.syscall(_LANDLOCK_CREATE, None, 0, _VERSION_FLAG)
    if abi < 1:
        _fail("Landlock")
    rights = (1 << (13, 14, 15, 15, 16)[min(abi, 5) - 1]) - 1  # every right over files that this kernel knows
    attributes = struct.pack("=QQQ", rights, _NETWORK, _SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        _fail("Landlock")
    for path in paths:
        _allow_beneath(ruleset, path)
    if _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
        _fail("Landlock")
    os.close(ruleset)


def _allow_beneath(ruleset: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing is there, so nothing is allowed
    rights = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    rule = struct.pack("=Qi", rights, place)
    if _libc.syscall(_LANDLOCK_ADD, ruleset, _PATH_BENEATH, rule, 0) != 0:
        _fail("Landlock")
    os.close(place)


# --- seccomp -------------------------------------------------------------------------------------


def _become(command: list[str], environ: dict[str, str], program: str) -> None:
    """Execute the command, under the filter from the call before on. Returns only if that fails."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    path = os.fsencode(command[0]) + b"\0"
    page[: len(path)] = path
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    arguments = _strings([os.fsencode(word) for word in command])
    variables = _strings([os.fsencode(f"{name}={value}") for name, value in environ.items()])
    if program:
        _filter(program, address)
    _libc.execve(ctypes.c_void_p(address), arguments, variables)
    _fail(command[0])


def _strings(values: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _filter(program: str, address: int) -> None:
    known = {"PID": os.getpid(), "LOW": address & 0xFFFF_FFFF, "HIGH": address >> 32}
    instructions = b""
    for word in program.split(" "):
        code, if_true, if_false, constant = word.split(",")
        value = known[constant] if constant in known else int(constant)
        instructions += struct.pack("=HBBI", int(code), int(if_true), int(if_false), value)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filter = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(buffer))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter, 0, 0) != 0:
        _fail("seccomp")


def _fail(what: str) -> None:
    os.write(2, f"{what}: {os.strerror(ctypes.get_errno())}\n".encode())
    os._exit(71)


if __name__ == "__main__":
    main(sys.argv)
