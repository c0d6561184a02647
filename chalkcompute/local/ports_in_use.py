"""Which TCP ports of loopback the cluster uses: asked for, remembered, preferred, or any free one."""

from __future__ import annotations

import errno
import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.state import StateFolder, read_json, write_atomically

__all__ = ["LOOPBACK", "PREFERRED", "ChosenPorts", "PortLostError", "choose_ports", "is_free"]

LOOPBACK = "127.0.0.1"

PREFERRED = {"api_port": 16443, "https_port": 18443, "http_port": 18080, "registry_port": 5005}
"""Ports of a first start, by name."""

# Where no system takes ports from for outgoing connections (Linux from 32768, macOS from 49152): a port
# that is free now is then likely to be so at the next start.
_OTHERS = range(20000, 32000)

_WHAT = {
    "api_port": "API server",
    "https_port": "gateway (HTTPS)",
    "http_port": "gateway (HTTP)",
    "registry_port": "registry",
}
_CHANGED = {"registry_port": "references to images from before stay good"}


class PortLostError(LocalClusterError):
    """A port was free when we looked and taken when we came to use it; look again."""


@dataclass(frozen=True, slots=True)
class ChosenPorts:
    """The four ports.

    Attributes:
        api: API server.
        https: The gateway's HTTPS listener.
        http: Its plain HTTP listener.
        registry: The registry of images.
        notices: Which of them are not the ones of last time, and why.
    """

    api: int
    https: int
    http: int
    registry: int
    notices: tuple[str, ...] = ()


def is_free(port: int) -> bool:
    """Whether this port of loopback can be listened on now.

    Raises:
        OSError: It never can (a privileged port).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def choose_ports(folder: StateFolder, wanted: Mapping[str, int | None]) -> ChosenPorts:
    """The ports to use, remembered in the state folder so that URLs stay.

    Args:
        folder: The state folder.
        wanted: Ports that were asked for by name (`api_port`, `https_port`, `http_port`,
            `registry_port`).

    Raises:
        LocalClusterError: A port that was asked for is taken, not allowed, or asked for twice.
    """
    remembered = {
        name: port for name, port in read_json(folder.ports).items() if isinstance(port, int) and port > 0
    }
    chosen: dict[str, int] = {}
    notices: list[str] = []
    for name in sorted(PREFERRED, key=lambda name: wanted.get(name) is None):  # what was asked for goes first
        port = wanted.get(name)
        if port is not None:
            _require_free(name, port, chosen)
        else:
            before = remembered.get(name)
            port = _first_free([before, PREFERRED[name]], chosen)
            if before is not None and port != before:
                notices.append(
                    f"port {before} of the {_WHAT[name]} is taken by another program; using {port}: "
                    f"{_CHANGED.get(name, 'URLs from before have changed')}"
                )
        chosen[name] = port
    if chosen != remembered:
        write_atomically(folder.ports, json.dumps(chosen))
    return ChosenPorts(
        chosen["api_port"],
        chosen["https_port"],
        chosen["http_port"],
        chosen["registry_port"],
        tuple(notices),
    )


def _require_free(name: str, port: int, chosen: Mapping[str, int]) -> None:
    flag = f"--{name.replace('_', '-')}"
    other = next((n for n, p in chosen.items() if p == port), None)
    if other is not None:
        raise LocalClusterError(
            f"port {port} cannot be both the {_WHAT[other]}'s and the {_WHAT[name]}'s",
            hint=f"choose another with `{flag}`",
        )
    if not 1 <= port <= 65535:
        raise LocalClusterError(f"`{flag}` {port} is not a port", hint="ports go from 1 to 65535")
    try:
        free = is_free(port)
    except OSError as error:
        raise LocalClusterError(
            f"port {port} for the {_WHAT[name]} cannot be used: {error.strerror or error}",
            hint=f"choose another with `{flag}`, 1024 or above",
        ) from error
    if not free:
        raise LocalClusterError(
            f"port {port} for the {_WHAT[name]} is taken by another program",
            hint=f"`lsof -i TCP:{port} -s TCP:LISTEN` shows which; choose another with `{flag}`, "
            "or leave it out to get a free one",
        )


def _first_free(candidates: list[int | None], chosen: Mapping[str, int]) -> int:
    for port in candidates:
        if port is not None and port not in chosen.values() and _can_use(port):
            return port
    for port in random.sample(_OTHERS, len(_OTHERS)):
        if port not in chosen.values() and _can_use(port):
            return port
    raise LocalClusterError(f"no port between {_OTHERS.start} and {_OTHERS.stop} is free on {LOOPBACK}")


def _can_use(port: int) -> bool:
    try:
        return is_free(port)
    except (OSError, OverflowError):  # remembered from a run with other rights, or a damaged file
        return False
