"""What a server has of its own: its data folder and its sockets. Taken anew, or from the server before it."""

import os
import socket
from collections.abc import Callable
from typing import Final, Self

from statebacked.api.listeners import given_listeners, listen, listener_of, url_of
from statebacked.serve.folder_lock import FolderLock
from statebacked.serve.supervised import FOLDER, Supervision
from statebacked.settings import Settings

_LISTENER: Final = "listener"


class Place:
    """The folder is this server's and `listeners` take connections, which wait until they are served.

    `is_again`: a server of the same supervisor had the place before.
    """

    def __init__(
        self, lock: FolderLock, listeners: list[socket.socket], supervision: Supervision | None
    ) -> None:
        self.listeners = listeners
        self.is_again = supervision is not None and bool(supervision.inherited)
        self._lock = lock
        self._supervision = supervision

    @classmethod
    def claim(
        cls,
        settings: Settings,
        supervision: Supervision | None,
        *,
        is_take_over: bool = False,
        prepare: Callable[[], None] = lambda: None,
    ) -> Self:
        """`prepare` is called once the folder is ours, unless the server before has begun with it.

        Raises FolderInUse, and OSError for a folder or an address that cannot be had."""
        inherited = supervision.inherited if supervision is not None else {}
        if FOLDER in inherited:
            lock = FolderLock(inherited[FOLDER])
        else:
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FolderLock.take(settings.data, is_asked_to_stop=is_take_over)
            prepare()
        if _LISTENER in inherited:
            listeners = [listener_of(inherited[_LISTENER])]
        else:
            listeners = given_listeners(os.environ, os.getpid()) or [listen(settings.host, settings.port)]
        place = cls(lock, listeners, supervision)
        place._announce(settings.public_url or url_of(listeners[0]))
        return place

    def page_listener(self, name: str, open_listener: Callable[[], socket.socket]) -> socket.socket:
        """A further socket that stays open from one server to the next."""
        supervision = self._supervision
        if supervision is not None and name in supervision.inherited:
            return listener_of(supervision.inherited[name])
        listener = open_listener()
        if supervision is not None:
            supervision.hold(name, listener.fileno())
        return listener

    def _announce(self, url: str) -> None:
        supervision = self._supervision
        self._lock.tell(os.getpid() if supervision is None else supervision.pid, url)
        if supervision is not None and not self.is_again:
            supervision.hold(FOLDER, self._lock.descriptor)
            supervision.hold(_LISTENER, self.listeners[0].fileno())
