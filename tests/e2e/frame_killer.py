"""Stands between a server and its worker, as STATEBACKED_DENO, and kills one of them at a named frame.

Usage: frame_killer.py DENO VICTIM DIRECTION FRAME FUSE [arguments of Deno]. VICTIM is `server` or `worker`,
DIRECTION `in` (to the worker) or `out`. The first frame of that name to come while the file FUSE is there is
not passed on any more: the victim is dead before the other side could read it. The fuse burns with it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def main() -> int:
    deno, victim, direction, name, fuse, *arguments = sys.argv[1:]
    server = os.getppid()
    with subprocess.Popen([deno, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None

        def strike() -> None:
            Path(fuse).unlink()
            os.kill(worker.pid, signal.SIGKILL)
            if victim == "server":
                os.kill(server, signal.SIGKILL)
            os._exit(1)

        def pass_on(source: IO[bytes], sink: IO[bytes], *, is_watched: bool) -> None:
            for frame, header in frames(source):
                if is_watched and f'"t":"{name}"'.encode() in header and Path(fuse).exists():
                    strike()
                sink.write(frame)
                sink.flush()
            sink.close()

        to_worker = (sys.stdin.buffer, worker.stdin)
        threading.Thread(target=pass_on, args=to_worker, kwargs={"is_watched": direction == "in"}).start()
        pass_on(worker.stdout, sys.stdout.buffer, is_watched=direction == "out")
        return worker.wait()


def frames(source: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each whole frame with its header."""
    while len(start := source.read(4)) == 4:
        body = source.read(int.from_bytes(start, "big"))
        length = int.from_bytes(body[:4], "big")
        yield start + body, body[4 : 4 + length]


if __name__ == "__main__":
    sys.exit(main())
