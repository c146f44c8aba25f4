"""A worker that speaks the protocol, in Python: `python fake_worker.py MAJOR`. The host's test double.

Its framing is its own, so that an error in the host's codec cannot hide. The bundle is a JSON object that
says how loading goes; the `type` of an event says what the step does, faults included. Every context tells
what the worker saw: {"n": computed steps, "base": whether the state was sent along, "pid": its process,
"items": the kinds}.
"""

import json
import os
import struct
import sys
import time
from typing import Any, NoReturn

Header = dict[str, Any]  # Any: frames are looked into freely


def send(header: Header, sections: list[bytes] | None = None) -> None:
    if sections:
        header = {**header, "raw": [len(section) for section in sections]}
    head = json.dumps(header, separators=(",", ":")).encode()
    body = struct.pack(">I", len(head)) + head + b"".join(sections or [])
    write(struct.pack(">I", len(body)) + body)


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def hang() -> NoReturn:
    while True:
        time.sleep(60)


class Worker:
    def __init__(self, major: int) -> None:
        self.major = major
        self.durable: dict[int, int] = {}  # the seq that is held, by activation
        self.pending: dict[int, int] = {}
        self.counts: dict[int, int] = {}
        self.runs: dict[int, tuple[str, int]] = {}
        self.plans: dict[int, str] = {}  # what performing does
        self.tokens = 0
        self.is_crowded = False
        self.how: Header = {}  # the bundle
        self.closed: list[int] = []

    def run(self) -> None:
        stdin = sys.stdin.buffer
        while prefix := stdin.read(4):
            body = stdin.read(struct.unpack(">I", prefix)[0])
            size = struct.unpack(">I", body[:4])[0]
            header = json.loads(body[4 : 4 + size])
            sections, at = [], 4 + size
            for length in header.get("raw", []):
                sections.append(body[at : at + length])
                at += length
            assert at == len(body), header
            getattr(self, "on_" + header["t"].replace("-", "_"))(header, sections)

    # --- life

    def on_boot(self, header: Header, sections: list[bytes]) -> None:
        assert header["protocol"] == 1
        send({"t": "ready", "protocol": 1, "xstate": f"{self.major}.99.0"})

    def on_load(self, header: Header, sections: list[bytes]) -> None:
        how = self.how = json.loads(sections[0])
        for line in how.get("lines", []):
            send({"t": "log", "stream": "stdout", "lines": [line]})
        match how.get("load", "ok"):
            case "die":
                sys.stderr.write("it hurts")
                sys.stderr.flush()
                os._exit(9)
            case "out of memory":
                sys.stderr.write("\n<--- Last few GCs --->\n")
                sys.stderr.flush()
                os.abort()
            case "die once" if not os.path.exists(how["mark"]):
                open(how["mark"], "w").close()
                os._exit(9)
            case "hang":
                hang()
            case "flood":
                while True:
                    send({"t": "log", "stream": "stdout", "lines": ["x" * 100_000]})
            case "never":
                return
            case "unloadable":
                send({"t": "unloadable", "message": how["message"], "missing_export": False})
                return
            case "missing" if self.major != how["has"]:
                message = f"nothing of that name in {self.major}"
                send({"t": "unloadable", "message": message, "missing_export": True})
                return
            case _:
                pass
        inlined = how.get("inlined")
        send({"t": "loaded", "major": inlined or self.major, "inlined": inlined is not None})

    def on_ping(self, header: Header, sections: list[bytes]) -> None:
        send({"t": "pong", "n": header["n"]})

    # --- one event

    def on_compute(self, header: Header, sections: list[bytes]) -> None:
        n, a, seq = header["n"], header["a"], header["seq"]
        sections = sections[2:] if header["base"] else sections
        if header["base"] or seq == 0:
            self.durable[a] = seq
            self.pending.pop(a, None)
        elif self.pending.get(a) == seq:
            self.confirm(a)
        elif self.durable.get(a) != seq:
            send({"t": "lacks", "n": n, "a": a})
            return
        steps: list[Header] = []
        parts: list[bytes] = []
        for item in header["items"]:
            event = json.loads(sections.pop(0)) if item["k"] == "event" else {"type": item["k"]}
            if item["k"] == "init" and item["context"]:
                event = json.loads(sections.pop(0))
            if item["auth"] and not json.loads(sections.pop(0)).get("ok", True):
                event = {"type": "reject"}
            if not self.step(header, event, steps, parts):
                return
            if steps[-1].get("effects"):
                break
        send({"t": "step", "n": n, "a": a, "steps": steps}, parts)
        changed = sum(step["changed"] for step in steps)
        if changed:
            self.pending[a] = self.durable[a] + changed

    def confirm(self, a: int) -> None:
        self.durable[a] = self.pending.pop(a)

    def step(self, header: Header, event: Header, steps: list[Header], parts: list[bytes]) -> bool:
        """Append a step; False when the compute is answered otherwise, or not at all."""
        n, a = header["n"], header["a"]
        kind = event.get("type", "init")
        if kind == "same":
            steps.append({"changed": False})
            return True
        if self.fault(kind, n, a):
            return False
        self.counts[a] = self.counts.get(a, 0) + 1
        kinds = [item["k"] for item in header["items"]]
        context = {"n": self.counts[a], "base": header["base"], "pid": os.getpid(), "items": kinds}
        step: Header = {"changed": True, "done": False, "ctx": True, "pub": True, "ev": kind == "failed"}
        step |= {"effects": False, "timers": [], "sends": 0, "starts": [], "stops": []}
        self.plans[a] = kind
        match kind:
            case "effects" | "die performing" | "hang performing" | "mute performing":
                step["effects"] = True
            case "start" | "start and die":
                step |= {"effects": True, "starts": ["svc"]}
            case "stop":
                step |= {"effects": True, "stops": ["svc"]}
            case "timer":
                step["timers"] = [["set", "t", 1500], ["cancel", "t"]]
            case "index":
                step["idx"] = [["by-user", ["u1"]]]
            case "too deep":
                context["deep"] = json.loads("[" * 200 + "]" * 200)
            case _:
                pass
        if step["ev"]:
            parts.append(dumps({"type": "error.svc"}))
        parts += [dumps("on"), b"[]", dumps({"value": "on"}), dumps(context), dumps({"n": context["n"]})]
        if kind == "timer":
            parts.append(dumps({"type": "later"}))
        steps.append(step)
        return True

    def fault(self, kind: str, n: int, a: int) -> bool:  # noqa: C901, PLR0912 - a table
        """Whether the event is about a fault, which has happened then."""
        match kind:
            case "reject":
                code = "rejected-by-machine-authorizer"
                send(
                    {
                        "t": "refused",
                        "n": n,
                        "a": a,
                        "code": code,
                        "message": "allowWrite did not return true",
                    }
                )
            case "refuse":
                send({"t": "refused", "n": n, "a": a, "code": "machine-error", "message": "it threw"})
            case "refuse oddly":
                send({"t": "refused", "n": n, "a": a, "code": "odd", "message": ""})
            case "die":
                os._exit(3)
            case "hang":
                hang()
            case "mute":
                pass
            case "crowd":
                self.is_crowded = True
            case "hold":  # answered only in a process that nobody made crowded
                return self.is_crowded
            case "garbage":
                write(b"\x00\x00\x00\x10{not a frame at all}")
            case "over-long":
                write(struct.pack(">I", 50_000_000))
            case "no sections":
                send({"t": "step", "n": n, "a": a, "steps": [{"changed": True}]})
            case "two answers":
                send({"t": "step", "n": n, "a": a, "steps": [{"changed": False}] * 2})
            case "forget":
                self.durable.pop(a)
                send({"t": "refused", "n": n, "a": a, "code": "machine-error", "message": "it threw"})
            case "tick":
                self.inside(a, ends=False)
                return False
            case "end":
                self.inside(a, ends=True)
                return False
            case "log":
                send({"t": "log", "a": a, "stream": "stderr", "lines": ["one", "two"], "dropped": 3})
                return False
            case _:
                return False
        return True

    def inside(self, a: int, *, ends: bool) -> None:
        self.tokens += 1
        run = self.runs[a]
        event = dumps({"type": "from svc"})
        send({"t": "inside", "a": a, "token": self.tokens, "service": run, "ends": ends}, [event])

    def on_perform(self, header: Header, sections: list[bytes]) -> None:
        a, seq = header["a"], header["seq"]
        if self.pending.get(a) == seq:
            self.confirm(a)
        assert self.durable[a] == seq
        match self.plans[a]:
            case "die performing":
                os._exit(4)
            case "hang performing":
                hang()
            case "mute performing":
                return
            case "start" | "start and die":
                self.runs[a] = ("svc", seq)
            case _:
                pass
        self.tokens += 1
        sent = [{"token": self.tokens, "after": 0}]
        send({"t": "performed", "a": a, "seq": seq, "sent": sent}, [dumps({"type": "own"})])
        if self.plans[a] == "start and die":
            os._exit(5)

    def on_stop(self, header: Header, sections: list[bytes]) -> None:
        assert header["services"] == [list(self.runs[header["a"]])]

    def on_close(self, header: Header, sections: list[bytes]) -> None:
        a = header["a"]
        self.durable.pop(a, None)
        self.pending.pop(a, None)
        send({"t": "log", "stream": "stdout", "lines": [f"closed {a}"]})

    # --- reading

    def on_read(self, header: Header, sections: list[bytes]) -> None:
        n, a, seq = header["n"], header["a"], header["seq"]
        if header["base"]:
            sections = sections[2:]
        elif self.pending.get(a) == seq:
            self.confirm(a)
        elif self.durable.get(a) != seq:
            send({"t": "lacks", "n": n})
            return
        auths = [json.loads(section) for section in sections]
        assert len(auths) == header["auths"]
        if any(auth.get("do") == "die" for auth in auths):
            os._exit(6)
        if any(auth.get("do") == "crowd" for auth in auths):
            self.is_crowded = True
        if any(auth.get("do") == "die if crowded" for auth in auths) and self.is_crowded:
            os._exit(6)
        if any(auth.get("do") == "mute" for auth in auths):
            return
        send({"t": "readable", "n": n, "ok": [auth.get("ok", False) for auth in auths]})

    def on_read_each(self, header: Header, sections: list[bytes]) -> None:
        """Admits to the instances whose context says so."""
        auth = json.loads(sections[-1])
        if auth.get("do") == "die":
            os._exit(6)
        contexts = [json.loads(context) for context in sections[1:-1:2]]
        assert len(contexts) == len(header["names"])
        send({"t": "readable", "n": header["n"], "ok": [one.get("ok", False) for one in contexts]})

    # --- upgrading: the bundle says how its part goes

    def on_leave(self, header: Header, sections: list[bytes]) -> None:
        outline = {"pid": os.getpid(), "timers": json.loads(sections[1])}
        self.part(header, "outlined", [dumps(outline)])

    def on_migrate(self, header: Header, sections: list[bytes]) -> None:
        outline = {**json.loads(sections[0]), "by": self.how.get("by")}
        self.part(header, "outlined", [dumps(outline), sections[1]])

    def on_arrive(self, header: Header, sections: list[bytes]) -> None:
        keys = [key for key, _ in json.loads(sections[0])["timers"]]
        step: Header = {"changed": True, "done": False, "ctx": True, "pub": False, "ev": False}
        step |= {"effects": False, "timers": [["set", "fresh", 9]], "sends": 0, "starts": [], "stops": []}
        step |= {"idx": [], **self.how.get("step", {})}
        kept = [[key, f"new {key}"] for key in keys[:1]] + self.how.get("kept", [])
        parts = [dumps("there"), b"[]", sections[0], sections[1], dumps({"type": "fresh"})]
        self.part(header, "arrived", parts, step=step, kept=kept, gone=keys[1:])

    def part(self, header: Header, kind: str, sections: list[bytes], **more: object) -> None:  # noqa: C901, PLR0912 - a table
        match self.how.get("part"):
            case "die":
                os._exit(7)
            case "die once" if not os.path.exists(self.how["mark"]):
                open(self.how["mark"], "w").close()
                os._exit(7)
            case "hang":
                hang()
            case "mute":
                return
            case "stuck":
                send({"t": "stuck", "n": header["n"], "message": "no way"})
                return
            case "readable":
                send({"t": "readable", "n": header["n"], "ok": []})
                return
            case "too much":
                sections = [*sections, b"{}"]
            case "too little":
                sections = sections[:-1]
            case "no object":
                sections = [b"[]", *sections[1:]]
            case "large context":
                sections = [sections[0], dumps("x" * 400_000)]
            case "log":
                line = f"part {header['n']}"
                send({"t": "log", "a": -header["n"], "stream": "stdout", "lines": [line]})
            case "outlined" | "arrived":
                kind = self.how["part"]
                more = {"step": {"changed": True}, "kept": [], "gone": []}
            case _:
                pass
        send({"t": kind, "n": header["n"], **more}, sections)


if __name__ == "__main__":
    Worker(int(sys.argv[1])).run()
