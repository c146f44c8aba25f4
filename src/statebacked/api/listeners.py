"""The sockets that a server accepts connections from: bound here, or given by whoever started the process."""

import os
import socket
import stat
from collections.abc import MutableMapping, Sequence

from statebacked.model.limits import WAITING_CONNECTIONS_MAX

_LOOPBACK = ("127.", "::1", "::ffff:127.")
_FIRST_GIVEN = 3


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there: connections wait from now on. Raises OSError that says where."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(WAITING_CONNECTIONS_MAX)
    except (OSError, UnicodeError) as refused:  # the latter for what cannot be a name in the network
        listener.close()
        reason = refused.strerror if isinstance(refused, OSError) else "that is not a host name"
        raise OSError(f"cannot listen on {host}:{port}: {reason}") from refused
    return listener


def given_listeners(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that systemd, or whoever follows its rules, has opened for this process; none where it has
    not. Takes the variables that say so out of the environment. Raises OSError for what is no socket that
    listens on an IP address. (sd_listen_fds(3))"""
    told = [environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    if told[0] != str(pid) or not told[1].isdecimal():
        return []
    descriptors = range(_FIRST_GIVEN, _FIRST_GIVEN + int(told[1]))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return [listener_of(descriptor) for descriptor in descriptors]


def listener_of(descriptor: int) -> socket.socket:
    """The socket of an inherited descriptor. Raises OSError for one that does not listen on an IP address."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(f"descriptor {descriptor}, which was given to listen on, is no socket")
    listener = socket.socket(fileno=descriptor)
    is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or not is_listening:
        raise OSError(
            f"descriptor {descriptor}, which was given to listen on, is no socket that listens on an IP "
            "address: with systemd say ListenStream=ADDRESS:PORT and Accept=no"
        )
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url_of(listener: socket.socket) -> str:
    """On this machine: no client connects to `any address`."""
    host, port = listener.getsockname()[:2]
    match host:
        case "0.0.0.0":  # noqa: S104 (compared, not bound)
            return f"http://127.0.0.1:{port}"
        case "::":
            return f"http://[::1]:{port}"
        case _:
            return url_of(listener)


def are_loopback(listeners: Sequence[socket.socket]) -> bool:
    """Whether only this machine reaches them."""
    return all(listener.getsockname()[0].startswith(_LOOPBACK) for listener in listeners)
