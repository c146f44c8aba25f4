"""A SQLite connection that fails when a test says so; given to the store through its connection factory."""

import sqlite3
from pathlib import Path
from threading import Event
from typing import Any, Literal

Fault = Literal["commit fails", "commit succeeds, its answer is lost"]


class Disk:
    """Makes connections, and decides what happens to them. `faults` strike the next COMMITs, in order;
    None lets one pass. While `gate` is clear, a COMMIT waits before it begins."""

    def __init__(self) -> None:
        self.faults: list[Fault | None] = []
        self.opening_fails = 0
        self.opened = 0
        self.statements: list[str] = []
        self.gate = Event()
        self.gate.set()
        self.at_gate = Event()
        self.writers: list[sqlite3.Connection] = []

    def connect(self, file: Path) -> sqlite3.Connection:
        if self.opening_fails:
            self.opening_fails -= 1
            raise sqlite3.OperationalError("unable to open database file")
        self.opened += 1
        connection = sqlite3.connect(
            file, isolation_level=None, check_same_thread=False, timeout=0, factory=_factory(self)
        )
        self.writers.append(connection)
        return connection

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")


def _factory(disk: Disk) -> type[sqlite3.Connection]:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # Any: as the class it stands for
            if sql != "COMMIT" or not self._is_writing():
                return super().execute(sql, *parameters)
            disk.statements.append(sql)
            disk.at_gate.set()
            assert disk.gate.wait(30)
            fault = disk.faults.pop(0) if disk.faults else None
            if fault == "commit fails":
                raise sqlite3.OperationalError("disk I/O error")
            cursor = super().execute(sql, *parameters)
            if fault is not None:
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

        def _is_writing(self) -> bool:
            (is_query_only,) = super().execute("PRAGMA query_only").fetchone()
            return not is_query_only

    return Connection
