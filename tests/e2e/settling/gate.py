"""A stand-in for Deno that lets everything through but one step: `python gate.py TRIGGER DENO ARGUMENT…`.

When the host asks to perform a step and the file TRIGGER is there, the step is not performed, and the one
that the file names, "server" or "worker", is killed at that moment.
"""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def main(trigger: Path, command: list[str]) -> None:
    worker = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert worker.stdin is not None
    for frame in frames(sys.stdin.buffer):
        if kind_of(frame) == "perform" and trigger.exists():
            victim = os.getppid() if trigger.read_text() == "server" else worker.pid
            trigger.unlink()
            os.kill(victim, signal.SIGKILL)
            break
        worker.stdin.write(frame)
        worker.stdin.flush()
    worker.kill()
    worker.wait()


def frames(stream: BinaryIO) -> Iterator[bytes]:
    while prefix := stream.read(4):
        yield prefix + stream.read(struct.unpack(">I", prefix)[0])


def kind_of(frame: bytes) -> str:
    size = struct.unpack_from(">I", frame, 4)[0]
    kind: str = json.loads(frame[8 : 8 + size])["t"]
    return kind


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
