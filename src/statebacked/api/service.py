"""What the server says of itself: alive, ready, and the contract it keeps."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources import files

from statebacked.api.calls import Call, OpenHandler
from statebacked.api.replies import Reply, json_reply
from statebacked.api.use_cases import Engine
from statebacked.model.errors import Unavailable
from statebacked.model.limits import READINESS_SEEN_MS
from statebacked.ports.clock import Clock

# Why the server can take no events now, None when it can.
FindObstacle = Callable[[], Awaitable[str | None]]


class ServiceRoutes:
    """Handlers of /healthz, /readyz and /openapi.yaml."""

    def __init__(self, engine: Engine, clock: Clock, obstacles: Sequence[FindObstacle]) -> None:
        self._engine = engine
        self._clock = clock
        self._obstacles = obstacles
        self._seen: str | None = None
        self._seen_until = -1
        self._contract = files("statebacked.api").joinpath("openapi.yaml").read_bytes()

    def handlers(self) -> Mapping[str, OpenHandler]:
        """By operation."""
        return {"health": self.health, "ready": self.ready, "openapi": self.openapi}

    async def health(self, call: Call) -> Reply:
        return json_reply({"status": "ok"})

    async def ready(self, call: Call) -> Reply:
        if not self._engine.usable():
            raise Unavailable("the server takes no events now: it starts, stops, or has lost its database")
        obstacle = await self._find_obstacle()
        if obstacle is not None:
            raise Unavailable(f"the server takes no events now: {obstacle}")
        return json_reply({"status": "ready"})

    async def _find_obstacle(self) -> str | None:
        """Looked for once in READINESS_SEEN_MS, however often anybody asks."""
        now = self._clock.now().mono
        if now >= self._seen_until:
            self._seen_until = now + READINESS_SEEN_MS
            self._seen = None
            for find in self._obstacles:
                self._seen = self._seen or await find()
        return self._seen

    async def openapi(self, call: Call) -> Reply:
        return Reply(200, self._contract, ((b"content-type", b"application/yaml"),))
