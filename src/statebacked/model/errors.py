"""The one exception hierarchy. Callers' mistakes are errors; our own mistakes are assertions.

StateBackedError            code, status, message
├── BadRequest              400
│   ├── InvalidBody         400 invalid-body
│   ├── InvalidName         400 invalid-name
│   ├── InvalidParameter    400 invalid-parameter (names the parameter)
│   ├── InvalidCursor       400 invalid-cursor
│   ├── InvalidMachine      400 invalid-machine
│   ├── NoCurrentVersion    400 no-current-version
│   ├── NoMigrationPath     400 no-migration-path
│   └── SpecifyOrg          400 specify-org
├── Forbidden               403
│   ├── MissingUser         403 missing-user
│   ├── MissingOrg          403 missing-org
│   ├── MissingScope        403 missing-scope
│   └── RejectedByAuthorizer 403 rejected-by-machine-authorizer
├── NotFound                404 not-found
├── Conflict                409 conflict
│   ├── InvalidState        409 invalid-state
│   ├── IdempotencyKeyReused 409 idempotency-key-reused
│   └── AlreadyFinalized    409 already-finalized
├── MethodNotAllowed        405 method-not-allowed
├── RequestTimeout          408 request-timeout
├── Misdirected             421 misdirected: the Host header names another server
├── TooLarge                413 body-too-large
│   ├── BundleTooLarge      413 bundle-too-large
│   └── HeadersTooLarge     431 headers-too-large
├── RateLimited             429 rate-limited
├── MachineRefusal          the code and status that the machine's refusal carries
└── Unavailable             503 unavailable: nothing happened, safe to retry
"""

from typing import ClassVar


class StateBackedError(Exception):
    """An error that a caller sees: `status` is HTTP's, `code` is stable, the text says what to do."""

    code: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class BadRequest(StateBackedError):
    code = "bad-request"
    status = 400


class InvalidBody(BadRequest):
    code = "invalid-body"


class InvalidName(BadRequest):
    code = "invalid-name"


class InvalidParameter(BadRequest):
    code = "invalid-parameter"

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class InvalidCursor(BadRequest):
    code = "invalid-cursor"


class InvalidMachine(BadRequest):
    code = "invalid-machine"


class NoCurrentVersion(BadRequest):
    code = "no-current-version"


class NoMigrationPath(BadRequest):
    code = "no-migration-path"


class SpecifyOrg(BadRequest):
    code = "specify-org"


class Forbidden(StateBackedError):
    code = "forbidden"
    status = 403


class MissingUser(Forbidden):
    code = "missing-user"


class MissingOrg(Forbidden):
    code = "missing-org"


class MissingScope(Forbidden):
    code = "missing-scope"


class RejectedByAuthorizer(Forbidden):
    code = "rejected-by-machine-authorizer"


class NotFound(StateBackedError):
    code = "not-found"
    status = 404


class Conflict(StateBackedError):
    code = "conflict"
    status = 409


class InvalidState(Conflict):
    code = "invalid-state"


class IdempotencyKeyReused(Conflict):
    code = "idempotency-key-reused"


class AlreadyFinalized(Conflict):
    code = "already-finalized"


class MethodNotAllowed(StateBackedError):
    code = "method-not-allowed"
    status = 405


class RequestTimeout(StateBackedError):
    code = "request-timeout"
    status = 408


class Misdirected(StateBackedError):
    code = "misdirected"
    status = 421


class TooLarge(StateBackedError):
    code = "body-too-large"
    status = 413


class BundleTooLarge(TooLarge):
    code = "bundle-too-large"


class HeadersTooLarge(TooLarge):
    code = "headers-too-large"
    status = 431


class RateLimited(StateBackedError):
    code = "rate-limited"
    status = 429


class Unavailable(StateBackedError):
    code = "unavailable"
    status = 503


# A machine refuses with one of these codes; the worker and the core may name no other.
REFUSAL_STATUS: dict[str, int] = {
    "rejected-by-machine-authorizer": 403,
    "machine-error": 400,
    "context-too-large": 400,
    "reserved-event": 400,
    "invalid-machine": 400,
    "too-many-effects": 400,
    "step-too-large": 400,
    "machine-timeout": 400,
    "machine-fault": 400,
    "migration-failed": 400,
    "no-migration-path": 400,
    "invalid-state": 409,
    "conflict": 409,
    "not-found": 404,
    "mailbox-full": 429,
    "unavailable": 503,
}


class MachineRefusal(StateBackedError):
    """An envelope was refused; nothing changed. `code` and `status` are those of the refusal."""

    code = "machine-error"
    status = 400

    def __init__(self, code: str, message: str) -> None:
        assert code in REFUSAL_STATUS, code
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # an instance's own code is the point of this class
        self.status = REFUSAL_STATUS[code]  # type: ignore[misc]
