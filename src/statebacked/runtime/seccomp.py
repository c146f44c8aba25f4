"""The filter of system calls that a worker lives under, as a program for the kernel's packet filter.

A worker that machine code has taken over (a bug in V8 is all that it takes) still has the whole kernel before
it. The filter leaves it what Deno needs: memory, threads of its own, the pipes that it was given, files to
read. It gets no socket, no process, no other program, no signal to others, no file to write, none of the
calls that kernels are attacked through.

The program is text, one instruction a word: `code,jump if true,jump if false,constant`. Three constants are
known only to the process that lives under it: PID (its own), LOW and HIGH (the address of the one path that
it may execute: the launcher becomes Deno by it, and nobody who comes later can guess it).
"""

from collections.abc import Sequence
from typing import Final

# Of linux/bpf_common.h, linux/seccomp.h and linux/audit.h.
LOAD: Final = 0x20
JUMP: Final = 0x05
IF_EQUAL: Final = 0x15
IF_AT_LEAST: Final = 0x35
IF_ANY_BIT: Final = 0x45
RETURN: Final = 0x06

ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000  # the whole process, by SIGSYS
_ERROR: Final = 0x0005_0000
REFUSE: Final = _ERROR | 1  # EPERM
REFUSE_FILE: Final = _ERROR | 13  # EACCES
ABSENT: Final = _ERROR | 38  # ENOSYS: libraries then take an older call, whose arguments can be looked at

NUMBER_AT: Final = 0
ARCHITECTURE_AT: Final = 4
ARGUMENTS_AT: Final = 16  # eight bytes each, the low half first

_X32_BIT: Final = 0x4000_0000
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NAMESPACES: Final = 0x7E02_0000
_OPEN_TO_WRITE: Final = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_AF_UNIX: Final = 1

AUDIT: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}

_Numbers = tuple[int | None, int | None]  # on x86_64 and on aarch64; None: there is no such call

# What nothing in Deno ever asks for: whoever does has taken the process over.
_FATAL: Final[dict[str, _Numbers]] = {
    "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "unshare": (272, 97), "move_mount": (429, 429), "open_tree": (428, 428),
    "mount_setattr": (442, 442), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
}  # fmt: skip

_REFUSED: Final[dict[str, _Numbers]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "fork": (57, None), "vfork": (58, None),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "personality": (135, 92),
    "syslog": (103, 116), "quotactl": (179, 60), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "vmsplice": (278, 75),
    "move_pages": (279, 239), "migrate_pages": (256, 238),
}  # fmt: skip

_REFUSED_FILES: Final[dict[str, _Numbers]] = {
    "creat": (85, None), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "truncate": (76, 45),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None),
}  # fmt: skip

_ABSENT: Final[dict[str, _Numbers]] = {
    "clone3": (435, 435), "openat2": (437, 437), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip

_LOOKED_INTO: Final[dict[str, _Numbers]] = {
    "execve": (59, 221), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "socketpair": (53, 199), "open": (2, None), "openat": (257, 56),
}  # fmt: skip


def program(machine: str) -> str:
    """The filter for this kind of machine (as `uname -m` says); empty where none is known."""
    if machine not in AUDIT:
        return ""
    column = list(AUDIT).index(machine)
    instructions = [
        _word(LOAD, ARCHITECTURE_AT), _word(IF_EQUAL, AUDIT[machine], 1, 0), _word(RETURN, KILL),
        _word(LOAD, NUMBER_AT), _word(IF_AT_LEAST, _X32_BIT, 0, 1), _word(RETURN, KILL),
    ]  # fmt: skip
    for name, numbers in _LOOKED_INTO.items():
        number = numbers[column]
        if number is not None:
            block = _BLOCKS[name]
            instructions += [_word(IF_EQUAL, number, 0, len(block)), *block]
    for verdict, table in (
        (KILL, _FATAL), (REFUSE, _REFUSED), (REFUSE_FILE, _REFUSED_FILES), (ABSENT, _ABSENT)
    ):  # fmt: skip
        instructions += _group([n[column] for n in table.values()], verdict)
    return " ".join([*instructions, _word(RETURN, ALLOW)])


def _word(code: int, constant: int | str, if_true: int = 0, if_false: int = 0) -> str:
    return f"{code},{if_true},{if_false},{constant}"


def _argument(index: int, *, high: bool = False) -> str:
    return _word(LOAD, ARGUMENTS_AT + 8 * index + (4 if high else 0))


def _group(numbers: Sequence[int | None], verdict: int) -> list[str]:
    """One verdict for all these calls."""
    known = [number for number in numbers if number is not None]
    tests = [_word(IF_EQUAL, number, len(known) - n, 0) for n, number in enumerate(known)]
    return [*tests, _word(JUMP, 1), _word(RETURN, verdict)]


def _only_if_one_of(index: int, *values: int | str) -> list[str]:
    """Allowed when the argument is one of the values."""
    tests = [_word(IF_EQUAL, value, len(values) - n, 0) for n, value in enumerate(values)]
    return [_argument(index), *tests, _word(RETURN, REFUSE), _word(RETURN, ALLOW)]


def _only_to_read(index: int) -> list[str]:
    return [
        _argument(index), _word(IF_ANY_BIT, _OPEN_TO_WRITE, 1, 0), _word(RETURN, ALLOW),
        _word(RETURN, REFUSE_FILE),
    ]  # fmt: skip


# What follows each of these calls; every way through ends with a verdict.
_BLOCKS: Final[dict[str, list[str]]] = {
    "execve": [
        _argument(0), _word(IF_EQUAL, "LOW", 0, 3), _argument(0, high=True), _word(IF_EQUAL, "HIGH", 0, 1),
        _word(RETURN, ALLOW), _word(RETURN, KILL),
    ],
    "clone": [
        _argument(0), _word(IF_ANY_BIT, _CLONE_NAMESPACES, 2, 0), _word(IF_ANY_BIT, _CLONE_THREAD, 0, 1),
        _word(RETURN, ALLOW), _word(RETURN, REFUSE),
    ],
    "kill": _only_if_one_of(0, "PID"),
    "tgkill": _only_if_one_of(0, "PID"),
    "prlimit64": _only_if_one_of(0, 0, "PID"),
    "socketpair": _only_if_one_of(0, _AF_UNIX),
    "open": _only_to_read(1),
    "openat": _only_to_read(2),
}  # fmt: skip
