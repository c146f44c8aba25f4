"""What the server says of itself: alive, ready, and the contract it keeps."""

from collections.abc import Mapping
from importlib.resources import files

from statebacked.api.calls import Call, OpenHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.api.use_cases import Engine
from statebacked.model.errors import Unavailable


class ServiceRoutes:
    """Handlers of /healthz, /readyz and /openapi.yaml."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._contract = files("statebacked.api").joinpath("openapi.yaml").read_bytes()

    def handlers(self) -> Mapping[str, OpenHandler]:
        """By operation."""
        return {"health": self.health, "ready": self.ready, "openapi": self.openapi}

    async def health(self, call: Call) -> Reply:
        return json_reply({"status": "ok"})

    async def ready(self, call: Call) -> Reply:
        if not self._engine.usable():
            raise Unavailable("the server takes no events now: it starts, stops, or has lost its database")
        return json_reply({"status": "ready"})

    async def openapi(self, call: Call) -> Reply:
        return Reply(200, self._contract, ((b"content-type", b"application/yaml"),))
