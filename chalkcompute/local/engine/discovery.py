"""Finding a container engine: docker, or podman's service, which speaks docker's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import urllib3
from docker.errors import APIError, DockerException

from chalkcompute.errors import LocalClusterError

__all__ = ["ENGINE_ERRORS", "Engine", "connect", "explain"]

ENGINE_ERRORS: tuple[type[Exception], ...] = (DockerException, urllib3.exceptions.HTTPError, OSError)
"""What a call to an engine may raise; those of `requests` are `OSError`s."""

_SYSTEM_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
_LOOK_SECONDS = 10
# An engine answers to the last byte of a large image only when it has unpacked it.
_CALL_SECONDS = 600
_HINT = (
    "install docker, or podman with `catatonit`, and start it (`systemctl start docker`, "
    "`systemctl --user start podman.socket`), or say in DOCKER_HOST where it is"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers.

    Attributes:
        client: The `docker.DockerClient`.
        name: What it is: `podman 4.3.1`.
        cpus: Processors that it has; docker refuses limits above.
    """

    client: Any
    name: str
    cpus: float


def connect(environ: Mapping[str, str], *, system_sockets: Sequence[str] = _SYSTEM_SOCKETS) -> Engine:
    """The engine that `DOCKER_HOST` names, else the first of the usual sockets that answers.

    Args:
        environ: Environment: DOCKER_HOST and its companions, HOME, XDG_RUNTIME_DIR.
        system_sockets: Those that belong to no user, docker's first.

    Raises:
        LocalClusterError: None does; it says what was tried.
    """
    if environ.get("DOCKER_HOST"):
        try:
            return _look(docker.from_env(environment=dict(environ), timeout=_LOOK_SECONDS))
        except ENGINE_ERRORS as error:
            raise _none([f"`{environ['DOCKER_HOST']}` of DOCKER_HOST ({explain(error)})"]) from error
    tried = []
    for path in _sockets(environ, system_sockets):
        if not path.is_socket():
            tried.append(f"`{path}` ({'no socket' if path.exists() else 'not there'})")
            continue
        try:
            return _look(docker.DockerClient(base_url=f"unix://{path}", timeout=_LOOK_SECONDS))
        except ENGINE_ERRORS as error:
            tried.append(f"`{path}` ({explain(error)})")
    raise _none(tried)


def explain(error: Exception) -> str:
    """What an engine or the way to it says, in one line and without the URL that was asked."""
    text = str(error.explanation or error) if isinstance(error, APIError) else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _look(client: Any) -> Engine:
    version = client.version()
    components = [str(part.get("Name")) for part in version.get("Components") or ()]
    program = "podman" if any(name.startswith("Podman") for name in components) else "docker"
    cpus = float(client.info().get("NCPU") or 0)
    client.api.timeout = _CALL_SECONDS
    return Engine(client, f"{program} {version.get('Version', '')}".rstrip(), cpus or float("inf"))


def _none(tried: list[str]) -> LocalClusterError:
    return LocalClusterError(f"no container engine answers; tried {', '.join(tried)}", hint=_HINT)


def _sockets(environ: Mapping[str, str], system_sockets: Sequence[str]) -> list[Path]:
    """Where engines listen: docker, as a user too; Docker Desktop and colima on macOS; podman likewise."""
    home = Path(environ.get("HOME") or Path.home())
    running = environ.get("XDG_RUNTIME_DIR")
    docker_socket, *others = map(Path, system_sockets)
    return [
        docker_socket,
        home / ".docker/run/docker.sock",
        home / ".colima/default/docker.sock",
        *([Path(running) / "docker.sock", Path(running) / "podman/podman.sock"] if running else ()),
        *others,
        home / ".local/share/containers/podman/machine/podman.sock",
    ]
