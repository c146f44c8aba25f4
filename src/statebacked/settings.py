"""Every setting of a server, once: its name, its default, its unit, and what `--help` says of it.

serve/ reads them from flags and STATEBACKED_… variables; nothing else reads the environment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HOUR_MS = 3_600_000
LOG_LEVELS = ("debug", "info", "warning", "error")


def _setting(  # like dataclasses.field
    default: Any,  # noqa: ANN401
    help: str,
    minimum: int | None = None,
    maximum: int | None = None,
    check: Callable[[str], str | None] | None = None,
) -> Any:  # noqa: ANN401
    """`check` says what is wrong with a text, None: nothing."""
    return field(
        default=default, metadata={"help": help, "min": minimum, "max": maximum, "check": check or _not_empty}
    )


def _not_empty(text: str) -> str | None:
    return None if text else "it is empty"


def _web_address(text: str) -> str | None:
    wrong = "it is not a URL like https://HOST:PORT"
    try:
        url = urlsplit(text)
        has_address = bool(url.hostname) and url.port != 0
    except ValueError:
        return wrong
    has_more = url.query or url.fragment or not text.isprintable() or " " in text
    return None if url.scheme in ("http", "https") and has_address and not has_more else wrong


def _log_level(text: str) -> str | None:
    return None if text.lower() in LOG_LEVELS else f"it is one of {', '.join(LOG_LEVELS)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is the flag --its-name and the variable STATEBACKED_ITS_NAME."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(7070, "Port to listen on; 0: any free one.", 0, 65_535)
    data: Path = _setting(Path(".statebacked"), "Folder of the database, the keys and admin.json.")
    public_url: str | None = _setting(
        None, "How clients reach this server, when not by its address.", check=_web_address
    )
    master_key_file: Path | None = _setting(
        None, "File of the key that seals stored secrets; else secrets/master.key in the data folder."
    )
    master_key: str | None = _setting(None, "The key itself; better given as a variable than as a flag.")
    settle_ms: int = _setting(
        90_000, "Time to settle after the last outside event, in milliseconds.", 1_000, 24 * HOUR_MS
    )
    step_ms: int = _setting(5_000, "Time for a step or an authorizer, in milliseconds.", 100, HOUR_MS)
    delivery_attempts: int = _setting(
        5, "Deliveries of a timer or message before it is a dead letter.", 1, 1_000
    )
    retry_ms: int = _setting(
        1_000, "Pause after the first of them that fails, then doubled; in ms.", 1, 24 * HOUR_MS
    )
    drain_ms: int = _setting(
        10_000, "Time for instances to settle after SIGTERM, in milliseconds.", 0, HOUR_MS
    )
    prewarmed: int = _setting(1, "Idle worker processes kept ready for each major of XState.", 0, 1_000)
    workers_memory_mb: int = _setting(2_048, "Memory of all workers together, in MB.", 64, 1_000_000_000)
    worker_idle_ms: int = _setting(
        600_000, "An idle worker ends after this time, in milliseconds.", 1_000, 720 * HOUR_MS
    )
    allow_egress: bool = _setting(
        False, "Let machine code fetch from this machine and private networks: for development."
    )
    log_days: int = _setting(14, "How long lines of machines are kept, in days.", 1, 36_500)
    log_mb: int = _setting(
        1_024, "Room for all lines of machines, in MB; the oldest go first.", 1, 1_000_000_000
    )
    log_level: str = _setting("info", "debug, info, warning or error.", check=_log_level)
