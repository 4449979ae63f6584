"""Listening sockets that belong to the supervisor, so that gateways may come and go while the queue stays."""

from __future__ import annotations

import socket
from contextlib import closing

from stockade.errors import SupervisionError

BACKLOG = 4096


def split(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def listen(address: str, count: int) -> list[socket.socket]:
    """`count` sockets on one address (SO_REUSEPORT): one accept queue a thread. Port 0 takes a free one."""
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        _refuse_strangers(family, host, port, address)
        for _ in range(count):
            one = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((host, port))
            one.setblocking(False)
            one.set_inheritable(True)
            port = one.getsockname()[1]
        for one in sockets:
            one.listen(BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise _cannot_listen(address, error) from error
    return sockets


def port_of(one: socket.socket) -> int:
    """The port that was taken."""
    port: int = one.getsockname()[1]
    return port


def free_port(address: str) -> int:
    """The port of `address`, or, where that is 0, one that is free now."""
    host, port = split(address)
    if port:
        return port
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.bind((host, 0))
        return port_of(probe)


def _refuse_strangers(family: socket.AddressFamily, host: str, port: int, address: str) -> None:
    # SO_REUSEPORT would share the port silently with any process of the same user that asked for it as well.
    if port == 0:
        return
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _cannot_listen(address, error) from error


def _cannot_listen(address: str, error: OSError) -> SupervisionError:
    return SupervisionError(
        f"cannot listen on `{address}`: {(error.strerror or 'unknown').lower()}",
        hint="another program holds the port, or the address is not this machine's: set `listen.address`",
    )
