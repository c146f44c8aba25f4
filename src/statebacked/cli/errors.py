"""What ends a command with exit code 1 and one line on stderr.

CliError                the caller can do something about it; the text says what
├── BuildError          the machine's file does not bundle or does not type-check
├── Unreachable         no answer came; the same request may succeed later
└── ApiError            the server refused: status, code, message, requestId
"""

from pathlib import Path

__all__ = ["ApiError", "BuildError", "CliError", "Unreachable"]


class CliError(Exception):
    """Ends the command; the text is all that is shown."""


class BuildError(CliError):
    """The text names file, line and column of the cause where there is one; `files` are those that were to be
    built, as far as they are known: some may be missing."""

    files: tuple[Path, ...] = ()


class Unreachable(CliError):
    """No connection was made, or it ended before the answer had come."""


class ApiError(CliError):
    """The server's refusal. `code` is stable, `request_id` finds it in the server's log; either may be
    empty."""

    def __init__(self, status: int, *, code: str, message: str, request_id: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        details = [part for part in (str(self.status), self.code) if part]
        if self.request_id:
            details.append(f"request {self.request_id}")
        return f"{self.message or 'the server refused'} ({', '.join(details)})"
