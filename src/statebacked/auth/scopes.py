"""Who may do what: scopes, roles, uses of keys, and every route with the scope that it asks for, as data.

The table is the whole truth about access: the API binds a handler to each row, and neither a row without
a handler nor a handler without a row starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from statebacked.model.machine import Role

SCOPES: Final = (
    "events.read",
    "events.write",
    "state.read",
    "instances.read",
    "instances.write",
    "instances.admin",
    "indexes.read",
    "machines.read",
    "machines.write",
    "machines.admin",
    "machine-versions.read",
    "machine-versions.write",
    "analytics.read",
    "org.read",
    "org.write",
    "org.keys.write",
    "org-members.write",
    "logs.read",
    "tokens.admin",
)
# Documents spell one scope in two ways.
_ALIASES: Final = {"org-keys.write": "org.keys.write"}

_READ: Final = frozenset(
    {
        "events.read",
        "state.read",
        "instances.read",
        "indexes.read",
        "machines.read",
        "machine-versions.read",
        "analytics.read",
        "org.read",
        "logs.read",
    }
)
_WRITE: Final = _READ | {"events.write", "instances.write", "machines.write", "machine-versions.write"}

ROLE_SCOPES: Final[dict[Role, frozenset[str]]] = {
    "read": _READ,
    "write": _WRITE,
    "admin": frozenset(SCOPES),
}

KeyUse = Literal["production", "ci"]

PRODUCTION_SCOPES: Final = frozenset({"events.write", "state.read", "instances.write", "indexes.read"})
ANONYMOUS_SCOPES: Final = PRODUCTION_SCOPES
KEY_USES: Final[dict[KeyUse, frozenset[str]]] = {
    "production": PRODUCTION_SCOPES,
    "ci": frozenset({"machines.read", "machines.write", "machine-versions.read", "machine-versions.write"}),
}


def parse_scopes(names: Iterable[str]) -> frozenset[str]:
    """The scopes of those names. Raises KeyError with the first name that is none."""
    scopes = frozenset(_ALIASES.get(name, name) for name in names)
    for scope in scopes:
        if scope not in SCOPES:
            raise KeyError(scope)
    return scopes


def in_order(scopes: Iterable[str]) -> tuple[str, ...]:
    """Scopes in the order of the documents, for storing and showing."""
    wanted = frozenset(scopes)
    return tuple(scope for scope in SCOPES if scope in wanted)


# "none": no token, the handler knows another credential or serves no org's data.
# "session": a user's session, whatever its role. Anything else is the name of a scope.
Access = str


@dataclass(frozen=True, slots=True)
class Row:
    """One route. `{name}` stands for one path segment. `operation` is also openapi.yaml's operationId."""

    operation: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    access: Access


_INSTANCE: Final = "/machines/{machine}/i/{instance}"

ROUTES: Final = (
    Row("listMachines", "GET", "/machines", "machines.read"),
    Row("createMachine", "POST", "/machines", "machines.write"),
    Row("getMachine", "GET", "/machines/{machine}", "machines.read"),
    Row("listVersions", "GET", "/machines/{machine}/v", "machine-versions.read"),
    Row("createVersion", "POST", "/machines/{machine}/v", "machine-versions.write"),
    Row("finalizeVersion", "PUT", "/machines/{machine}/v/{signed}", "machine-versions.write"),
    Row("createMigration", "POST", "/machines/{machine}/migrations", "machine-versions.write"),
    Row("dryRunMigration", "POST", "/machines/{machine}/migrations/dry-run", "instances.admin"),
    Row("finalizeMigration", "PUT", "/machines/{machine}/migrations/{signed}", "machine-versions.write"),
    Row("uploadCode", "POST", "/uploads/{signed}", "none"),
    Row("queryIndex", "GET", "/machines/{machine}/indexes/{index}/query", "indexes.read"),
    Row("createInstance", "POST", "/machines/{machine}", "instances.write"),
    Row("listInstances", "GET", "/machines/{machine}/i", "instances.read"),
    Row("getState", "GET", _INSTANCE, "state.read"),
    Row("sendEvent", "POST", _INSTANCE + "/events", "events.write"),
    Row("listTransitions", "GET", _INSTANCE + "/events", "events.read"),
    Row("getAdminState", "GET", _INSTANCE + "/admin", "instances.admin"),
    Row("getLogs", "GET", "/logs", "logs.read"),
    Row("streamLogs", "GET", "/logs/stream", "logs.read"),
    Row("setDesiredVersion", "PUT", _INSTANCE + "/v", "instances.admin"),
    Row("setInstanceStatus", "PUT", _INSTANCE + "/status", "instances.admin"),
    Row("deleteInstance", "DELETE", _INSTANCE, "instances.admin"),
    Row("listDeadLetters", "GET", "/dead-letters", "instances.admin"),
    Row("redriveDeadLetter", "POST", "/dead-letters/{letter}/redrive", "instances.admin"),
    Row("discardDeadLetter", "DELETE", "/dead-letters/{letter}", "instances.admin"),
    Row("realtime", "GET", "/rt", "state.read"),
    Row("exchangeToken", "POST", "/tokens", "none"),
    Row("listKeys", "GET", "/keys", "org.read"),
    Row("createKey", "POST", "/keys", "org.keys.write"),
    Row("deleteKey", "DELETE", "/keys/{key}", "org.keys.write"),
    Row("listOrgs", "GET", "/orgs", "session"),
    Row("createOrg", "POST", "/orgs", "session"),
    Row("health", "GET", "/healthz", "none"),
    Row("ready", "GET", "/readyz", "none"),
    Row("openapi", "GET", "/openapi.yaml", "none"),
)
