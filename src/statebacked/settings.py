"""Every setting of a server, once: its name, its default, its unit, and what `--help` says of it.

serve/ reads them from flags and STATEBACKED_… variables; nothing else reads the environment.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _setting(default: Any, help: str, minimum: int | None = None) -> Any:  # noqa: ANN401 - like dataclasses.field
    return field(default=default, metadata={"help": help, "min": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is the flag --its-name and the variable STATEBACKED_ITS_NAME."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(7070, "Port to listen on; 0: any free one.", 0)
    data: Path = _setting(Path(".statebacked"), "Folder of the database, the keys and admin.json.")
    public_url: str | None = _setting(None, "How clients reach this server, when not by its address.")
    master_key_file: Path | None = _setting(
        None, "File of the key that seals stored secrets; else secrets/master.key in the data folder."
    )
    master_key: str | None = _setting(None, "The key itself; better given as a variable than as a flag.")
    settle_ms: int = _setting(90_000, "Time to settle after the last outside event, in milliseconds.", 1_000)
    step_ms: int = _setting(5_000, "Time for a step or an authorizer, in milliseconds.", 100)
    delivery_attempts: int = _setting(5, "Deliveries of a timer or message before it is a dead letter.", 1)
    retry_ms: int = _setting(1_000, "Pause after the first of them that fails, then doubled; in ms.", 1)
    drain_ms: int = _setting(10_000, "Time for instances to settle after SIGTERM, in milliseconds.", 0)
    prewarmed: int = _setting(1, "Idle worker processes kept ready for each major of XState.", 0)
    workers_memory_mb: int = _setting(2_048, "Memory of all workers together, in MB.", 64)
    worker_idle_ms: int = _setting(600_000, "An idle worker ends after this time, in milliseconds.", 1_000)
    allow_egress: bool = _setting(
        False, "Let machine code fetch from this machine and private networks: for development."
    )
    log_days: int = _setting(14, "How long lines of machines are kept, in days.", 1)
    log_mb: int = _setting(1_024, "Room for all lines of machines, in MB; the oldest go first.", 1)
    log_level: str = _setting("info", "debug, info, warning or error.")
