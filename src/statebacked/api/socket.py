"""The shell of realtime.py: one WebSocket of /rt.

Every upgrade is accepted, whatever its token: the published client cannot survive a refusal. What is wrong
with a token is told to each subscribe instead, and found out anew each time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from statebacked.api.bodies import Deadlines, Message, Receive
from statebacked.api.hot import check_scope
from statebacked.api.outbox import Outbox
from statebacked.api.realtime import Action, Ask, HangUp, Push, RealtimeSession, Say, Unwatch, Watch
from statebacked.api.replies import Send
from statebacked.api.use_cases import Engine, Subscription
from statebacked.api.wire import update_frame
from statebacked.auth.authenticator import Authenticator
from statebacked.auth.principal import Principal
from statebacked.model.errors import MissingUser, StateBackedError, Unavailable
from statebacked.model.ids import InstanceKey
from statebacked.model.limits import (
    AUTH_REVISION_SEEN_MS,
    SOCKET_MESSAGES_BURST,
    SOCKET_MESSAGES_PER_S_MAX,
    SOCKET_SILENCE_MS,
    SOCKET_STALLED_MS,
)
from statebacked.model.rows import StateView
from statebacked.ports.clock import Clock

logger = structlog.get_logger(__name__)

GOING_AWAY: Final = 1001
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013
_CLOSE_S: Final = 1.0
_EXPIRY_LOOK_S: Final = 24 * 3600.0


class Frames:
    """Encodes a push once for all who hear it: they hear it one after the other."""

    def __init__(self) -> None:
        self._last: tuple[InstanceKey, StateView, str] | None = None

    def encode(self, key: InstanceKey, view: StateView) -> str:
        """The frame that tells of this view."""
        last = self._last
        if last is not None and last[1] is view and last[0] == key:
            return last[2]
        frame = update_frame(key, view)
        self._last = (key, view, frame)
        return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketParts:
    """What every socket stands on."""

    engine: Engine
    authenticator: Authenticator
    clock: Clock
    deadlines: Deadlines
    frames: Frames


class Socket:
    """One socket. A reader handles messages in order, a writer sends what waits; either can end it."""

    def __init__(
        self, parts: SocketParts, receive: Receive, send: Send, *, token: bytes, org: bytes | None
    ) -> None:
        self._parts = parts
        self._receive = receive
        self._send = send
        self._token = token
        self._org = org
        self._session = RealtimeSession()
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._close_code: int | None = None
        self._watches: dict[InstanceKey, _Watch] = {}
        self._openings: set[asyncio.Task[None]] = set()
        self._principal: Principal | None = None
        self._principal_until = 0
        self._expiry: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until the client leaves, misbehaves or is too slow, or the server stops."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            code = done.pop().result()
            if code is not None:
                await self._say_goodbye(code)
        finally:
            self._stop_hearing()
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, *self._openings, return_exceptions=True)
            if not self.ended.done():
                self.ended.set_result(None)

    async def find_principal(self) -> Principal | StateBackedError:
        """Who is behind the token now, looked up again once a second."""
        now = self._parts.clock.now()
        principal = self._principal
        if (
            principal is not None
            and now.mono < self._principal_until
            and (principal.expires_at is None or now.wall < principal.expires_at)
        ):
            return principal
        self._principal = None
        try:
            principal = await self._parts.authenticator.authenticate_realtime(self._token, self._org)
            check_scope(principal, "state.read")
        except StateBackedError as error:
            return error
        except Exception:
            # Refusing the upgrade for it would be worse: the published client does not survive that.
            logger.exception("a socket's token cannot be judged")
            return Unavailable("the token cannot be judged now: subscribe again")
        self._principal = principal
        self._principal_until = now.mono + AUTH_REVISION_SEEN_MS
        self._look_at_expiry()
        return principal

    def close(self, code: int) -> None:
        """Send what waits, then close."""
        self._close_code = code
        self._wake.set()

    def revoke(self, is_affected: Callable[[Principal], bool]) -> None:
        """What the token stands on is gone, perhaps."""
        if self._principal is not None and is_affected(self._principal):
            self._end_subscriptions()

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> int | None:
        """The code to close with, or None when the client has left."""
        pace = Pace()
        while True:
            message = await self._next_message()
            if message is None:
                return GOING_AWAY
            if message["type"] == "websocket.disconnect":
                return None
            code = await self._perform(self._session.receive(message.get("text")))
            if code is not None:
                return code
            await pace.keep()

    async def _next_message(self) -> Message | None:
        """None when the client was silent for too long."""
        task, deadlines = asyncio.current_task(), self._parts.deadlines
        assert task is not None
        deadlines.begin(task, SOCKET_SILENCE_MS)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if deadlines.is_overdue(task):
                return None
            raise
        finally:
            deadlines.end(task)

    async def _perform(self, actions: list[Action]) -> int | None:
        """Do what the session asks for. A code when that is to close."""
        for action in actions:
            if isinstance(action, HangUp):
                return action.code
            if isinstance(action, Ask):
                self._act(await self._answer(action))
            else:
                self._act([action])
        return None

    async def _answer(self, ask: Ask) -> list[Action]:
        found = await self.find_principal()
        if isinstance(found, StateBackedError):
            return self._session.deny(ask.request_id, found)
        return self._session.admit(ask.request_id, InstanceKey(found.org, ask.machine, ask.instance))

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Watch(key):
                    self._open_watch(key)
                case Unwatch(key):
                    self._outbox.drop_updates(key)
                    watch = self._watches.pop(key, None)
                    if watch is not None:
                        watch.close()
                case Say(frame):
                    self._outbox.put(frame)
                    self._wake.set()
                case Push(key, frame):
                    self._outbox.put_update(key, frame)
                    self._wake.set()
                case Ask() | HangUp():
                    raise AssertionError(action)

    # --- watching --------------------------------------------------------------------------------

    def _open_watch(self, key: InstanceKey) -> None:
        assert self._principal is not None
        watch = _Watch(self, key)
        self._watches[key] = watch
        task = asyncio.create_task(watch.open(self._parts.engine, self._principal))
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    def heard(self, watch: "_Watch", view: StateView) -> None:
        """A watched instance has a newer state."""
        frame = self._parts.frames.encode(watch.key, view)
        self._act(self._session.update(watch.key, frame))

    def refused(self, watch: "_Watch", error: StateBackedError) -> None:
        """A watched instance may be watched no longer."""
        if self._watches.get(watch.key) is watch:
            del self._watches[watch.key]
        self._act(self._session.refuse(watch.key, error))

    def _stop_hearing(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._expiry is not None:
            self._expiry.cancel()

    # --- the token's end -------------------------------------------------------------------------

    def _look_at_expiry(self) -> None:
        """End the subscriptions when the token has expired, else look again when it will have."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._principal is None or self._principal.expires_at is None:
            return
        left_ms = self._principal.expires_at - self._parts.clock.now().wall
        if left_ms <= 0:
            self._end_subscriptions()
            return
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(min(left_ms / 1000, _EXPIRY_LOOK_S), self._look_at_expiry)

    def _end_subscriptions(self) -> None:
        self._principal = None
        self._act(self._session.end(MissingUser("the token is not valid any more")))

    # --- writing ---------------------------------------------------------------------------------

    async def _write(self) -> int | None:
        """The code to close with, or None when the client has left."""
        task, deadlines = asyncio.current_task(), self._parts.deadlines
        assert task is not None
        while True:
            frame = self._outbox.take()
            if frame is None:
                if self._close_code is not None:
                    return self._close_code
                self._wake.clear()
                await self._wake.wait()
                continue
            deadlines.begin(task, SOCKET_STALLED_MS)
            try:
                await self._send({"type": "websocket.send", "text": frame})
            except asyncio.CancelledError:
                if deadlines.is_overdue(task):
                    return TRY_AGAIN_LATER
                raise
            except OSError:
                return None
            finally:
                deadlines.end(task)

    async def _say_goodbye(self, code: int) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._send({"type": "websocket.close", "code": code})
        except (OSError, TimeoutError):
            logger.debug("a client is gone before its socket closes")


class _Watch:
    """One subscription of the engine, on behalf of one socket."""

    def __init__(self, socket: Socket, key: InstanceKey) -> None:
        self.key = key
        self._socket = socket
        self._subscription: Subscription | None = None
        self._is_over = False

    async def open(self, engine: Engine, principal: Principal) -> None:
        try:
            subscription = await engine.subscribe(self.key, principal.auth, self)
        except StateBackedError as error:
            self.refuse(error)
            return
        except Exception:
            logger.exception("a subscription fails", machine=self.key.machine)
            self.refuse(Unavailable("the subscription failed: subscribe again"))
            return
        if self._is_over:
            subscription.close()
        else:
            self._subscription = subscription

    def update(self, view: StateView) -> None:
        if not self._is_over:
            self._socket.heard(self, view)

    def refuse(self, error: StateBackedError) -> None:
        if not self._is_over:
            self._is_over = True
            self._socket.refused(self, error)

    def close(self) -> None:
        self._is_over = True
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


class Pace:
    """At most SOCKET_MESSAGES_PER_S_MAX messages a second, after a burst that a reconnect needs."""

    def __init__(self) -> None:
        self._tokens = float(SOCKET_MESSAGES_BURST)
        self._at = asyncio.get_running_loop().time()

    async def keep(self) -> None:
        """Wait until the next message may be read."""
        now = asyncio.get_running_loop().time()
        earned = (now - self._at) * SOCKET_MESSAGES_PER_S_MAX
        self._tokens = min(self._tokens + earned, SOCKET_MESSAGES_BURST) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / SOCKET_MESSAGES_PER_S_MAX)
