"""The filter of system calls, judged by an interpreter of its own: what each call gets on each machine."""

import re
import struct
from itertools import chain
from pathlib import Path

import pytest

from statebacked.runtime import seccomp
from statebacked.runtime.seccomp import ABSENT, ALLOW, AUDIT, KILL, REFUSE, REFUSE_FILE, program

PID = 4_321
PATH = 0x7F12_3456_7890
TABLES = {
    KILL: seccomp._FATAL,
    REFUSE: seccomp._REFUSED,
    REFUSE_FILE: seccomp._REFUSED_FILES,
    ABSENT: seccomp._ABSENT,
}
MACHINES = pytest.mark.parametrize("machine", list(AUDIT))
CLONE_THREAD = 0x3D_0F00
CLONE_PROCESS = 0x0120_0011
CLONE_NAMESPACE = CLONE_THREAD | 0x4000_0000

# What Deno and V8 call all the time, and at a start; the numbers of x86_64.
NEEDED = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "ioctl": 16, "pread64": 17,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39, "recvfrom": 45, "exit": 60,
    "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89, "sysinfo": 99, "prctl": 157, "gettid": 186,
    "futex": 202, "sched_getaffinity": 204, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233,
    "newfstatat": 262, "eventfd2": 290, "epoll_create1": 291, "getrandom": 318, "statx": 332,
    "rseq": 334,
}  # fmt: skip


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would do with that call."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    audited = AUDIT[machine] if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, audited, 0, *padded)
    known = {"PID": PID, "LOW": PATH & 0xFFFF_FFFF, "HIGH": PATH >> 32}
    accumulator = at = 0
    instructions = program(machine).split()
    while True:
        code, if_true, if_false, constant = instructions[at].split(",")
        value = known[constant] if constant in known else int(constant)
        at += 1
        match int(code):
            case seccomp.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case seccomp.RETURN:
                return value
            case seccomp.JUMP:
                at += value
            case seccomp.IF_EQUAL:
                at += int(if_true) if accumulator == value else int(if_false)
            case seccomp.IF_AT_LEAST:
                at += int(if_true) if accumulator >= value else int(if_false)
            case seccomp.IF_ANY_BIT:
                at += int(if_true) if accumulator & value else int(if_false)
            case other:
                raise AssertionError(f"no instruction has the code {other}")


def number_of(machine: str, name: str) -> int | None:
    for table in (*TABLES.values(), seccomp._LOOKED_INTO):
        if name in table:
            return table[name][list(AUDIT).index(machine)]
    raise KeyError(name)


@MACHINES
def test_every_call_of_a_table_gets_its_verdict(machine: str) -> None:
    for expected, table in TABLES.items():
        for name, numbers in table.items():
            number = numbers[list(AUDIT).index(machine)]
            if number is not None:
                assert verdict(machine, number) == expected, name


def test_what_deno_needs_is_allowed() -> None:
    assert {name: verdict("x86_64", number) for name, number in NEEDED.items()} == dict.fromkeys(
        NEEDED, ALLOW
    )


@MACHINES
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("execve", (PATH,), ALLOW),
        ("execve", (PATH + 1,), KILL),
        ("execve", (PATH + (1 << 32),), KILL),
        ("execve", (PATH & 0xFFFF_FFFF,), KILL),
        ("clone", (CLONE_THREAD,), ALLOW),
        ("clone", (CLONE_PROCESS,), REFUSE),
        ("clone", (CLONE_NAMESPACE,), REFUSE),
        ("kill", (PID, 9), ALLOW),
        ("kill", (PID + 1, 9), REFUSE),
        ("kill", (0, 9), REFUSE),
        ("kill", (0xFFFF_FFFF, 9), REFUSE),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (1, 1, 6), REFUSE),
        ("prlimit64", (0,), ALLOW),
        ("prlimit64", (PID,), ALLOW),
        ("prlimit64", (1,), REFUSE),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (2, 1), REFUSE),
        ("open", (PATH, 0), ALLOW),
        ("open", (PATH, 0o1), REFUSE_FILE),
        ("openat", (0, PATH, 0o2_000_000), ALLOW),
        ("openat", (0, PATH, 0o2_000_102), REFUSE_FILE),
        ("openat", (0, PATH, 0o1_000), REFUSE_FILE),
    ],
)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    number = number_of(machine, name)
    assert number is None or verdict(machine, number, *arguments) == expected


@MACHINES
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    i386 = 0x4000_0003
    assert verdict(machine, 4, architecture=i386) == KILL
    assert verdict(machine, 0x4000_0000 | 41) == KILL


def test_an_unknown_machine_has_no_filter() -> None:
    assert program("riscv64") == ""


def test_no_call_stands_in_two_tables() -> None:
    for column in range(len(AUDIT)):
        tables = (*TABLES.values(), seccomp._LOOKED_INTO)
        numbers = [
            n[column] for n in chain.from_iterable(t.values() for t in tables) if n[column] is not None
        ]
        assert len(numbers) == len({*numbers})


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).is_file():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    kernels = {name: int(number) for name, number in found}
    tables = (*TABLES.values(), seccomp._LOOKED_INTO)
    for name in chain.from_iterable(tables):
        ours = number_of(machine, name)
        assert ours is None or kernels.get(name, ours) == ours, name
