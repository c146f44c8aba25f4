"""What a command finds around it: environment, folders, the way to the network. A test passes its own."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # httpx is imported when a command talks to a server, not when it prints its help.
    import httpx

__all__ = ["Globals", "Surroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """`transport` None: the real network."""

    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path = field(default_factory=Path.cwd)
    transport: "httpx.BaseTransport | None" = None
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def smply_folder(self) -> Path:
        """`~/.smply`, as the original has it; made by whoever writes there."""
        return Path(self.env.get("HOME") or ".") / ".smply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Globals:
    """The global options of one call of `smply`; None where not given."""

    surroundings: Surroundings
    access_token: str | None = None
    api_url: str | None = None
    org: str | None = None
