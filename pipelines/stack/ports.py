"""Ports that are free, or a plain word on who needs which."""

from __future__ import annotations

import socket
from contextlib import closing

from pipelines.errors import UserError

NEXT_TRIED = 50


def choose(host: str, asked: int | None, usual: int, option: str, taken: set[int]) -> int:
    """The port asked for, or the first free one from the usual one on.

    Raises:
        UserError: the one asked for is not free, or nothing near the usual one is.
    """
    if asked is not None:
        if asked in taken or not is_free(host, asked):
            raise UserError(f"port {asked} of {host} is taken", f"choose another by {option}, or leave it out")
        return asked
    near = range(usual, usual + NEXT_TRIED)
    found = next((port for port in near if port not in taken and is_free(host, port)), None)
    if found is None:
        raise UserError(f"ports {near.start} to {near.stop - 1} of {host} are taken", f"choose one by {option}")
    return found


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        UserError: this machine has no such address.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"{host} is no address of this machine: {error.strerror}", "--host 127.0.0.1") from error
    with closing(socket.socket(family, kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now, chosen by the system."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
