"""How the server logs: JSON lines on stderr, or readable ones on a terminal; secrets are cut out of both."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET = re.compile(r"(sbsec_|sbs_|inv_|eyJ)[A-Za-z0-9_.+/=-]{6,}")

# Any: structlog's event dictionaries hold whatever the caller logs.
Event = MutableMapping[str, Any]


def set_up_logging(level: str, *, is_readable: bool) -> None:
    """Once, at the start of the process; both for structlog and for the standard library's loggers."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if is_readable:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def redact(_logger: object, _method: str, event: Event) -> Event:
    """Cut everything that looks like a token or a key out of every text."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRET.sub(lambda found: found.group(1) + "…", value)
    return event
