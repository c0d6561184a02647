"""The state folder of the embedded cluster, and which process may use it.

chalk-local.json   marks the folder as ours
store.db           the objects (SQLite)
ca/                the certificate authority and what it signed
kubeconfig         how to reach the API server, with its token
ports.json         ports in use, kept across restarts so that URLs stay
logs/              daemon.log, envoy.log, pods/
run/               locks, daemon.json (who runs, and where), the gateway's files
runtime/           unpacked images and replicas
images/            images as they were pushed and pulled
volumes/           what claims hold, by namespace and name
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chalkcompute.errors import LocalClusterError

__all__ = [
    "ProcessIdentity",
    "StateFolder",
    "identify",
    "read_json",
    "remove_tree",
    "write_atomically",
]

_OWNED = (
    "store.db", "store.db-wal", "store.db-shm", "store.db-journal",
    "ca", "kubeconfig", "ports.json", "logs", "run", "pods", "runtime", "volumes", "images",
    "chalk-local.json",
)  # fmt: skip
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, told apart from a later one with the same pid.

    Attributes:
        pid: Process id.
        started: Start time: clock ticks since boot (proc_pid_stat(5) field 22), or `ps` lstart.
        boot: Id of the boot that `started` counts from; "" where there is none.
    """

    pid: int
    started: str
    boot: str = ""

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> ProcessIdentity | None:
        """The identity that `asdict` wrote, or None if it is not one."""
        pid, started, boot = data.get("pid"), data.get("started"), data.get("boot")
        if isinstance(pid, int) and isinstance(started, str) and isinstance(boot, str):
            return cls(pid, started, boot)
        return None

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return identify(self.pid) == self

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process is gone."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait_gone(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this pid now, or None."""
    if not _PROC.joinpath("self/stat").exists():
        return _identify_by_ps(pid)
    try:
        # The command name, in parentheses, may itself hold spaces and parentheses.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else ProcessIdentity(pid, fields[19], boot)


def _identify_by_ps(pid: int) -> ProcessIdentity | None:
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else ProcessIdentity(pid, shown[1].strip())


def write_atomically(path: Path, content: bytes | str, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part.

    Args:
        path: The file.
        content: All of it.
        mode: Its permissions.
        durable: Whether it must be on the disk when this returns, so that a power cut leaves no empty file.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            if durable:
                file.flush()
                os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} when the file is absent or not one (half a disk, an older version)."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths and locks of one state folder.

    Attributes:
        path: The folder, absolute.
    """

    path: Path

    @property
    def store(self) -> Path:
        return self.path / "store.db"

    @property
    def ca(self) -> Path:
        return self.path / "ca"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def ports(self) -> Path:
        return self.path / "ports.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def daemon_log(self) -> Path:
        return self.logs / "daemon.log"

    @property
    def pod_logs(self) -> Path:
        return self.logs / "pods"

    @property
    def pods(self) -> Path:
        return self.path / "pods"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def daemon(self) -> Path:
        return self.run / "daemon.json"

    @property
    def runtime(self) -> Path:
        return self.path / "runtime"

    @property
    def volumes(self) -> Path:
        return self.path / "volumes"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def marker(self) -> Path:
        return self.path / "chalk-local.json"

    def prepare(self) -> None:
        """Make the folder, readable by its owner only.

        Raises:
            LocalClusterError: It cannot be made or written, holds other things, or is someone else's.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._mark()
            # Only ever tightened: a folder that its owner made read-only is an error, not ours to open up.
            self.path.chmod(stat.S_IMODE(self.path.stat().st_mode) & 0o700)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
            for folder in (self.ca, self.logs, self.run, self.pods, self.runtime, self.volumes, self.images):
                folder.mkdir(mode=0o700, exist_ok=True)
            # A full disk is found here, and named; another `up` may be doing the same just now.
            write_atomically(self.run / "probe", b"\0" * 65536)
            (self.run / "probe").unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _mark(self) -> None:
        """Make the folder ours, if it is empty.

        The marker is the first thing in it, in its place at once: of several `up` at a time, each finds the
        folder empty or marked, never half of both.
        """
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            raise LocalClusterError(
                f"the state folder `{self.path}` belongs to user id {owner}, not to you ({os.geteuid()})",
                hint="run as that user, or choose another folder with CHALK_LOCAL_HOME",
            )
        # In this order: what another `up` puts here comes after its marker.
        if any(self.path.iterdir()) and not self.marker.exists():
            raise LocalClusterError(
                f"the folder `{self.path}` holds things that are not of a local cluster",
                hint="choose an empty or new folder with CHALK_LOCAL_HOME",
            )
        with contextlib.suppress(FileExistsError), self.marker.open("x") as file:
            json.dump({"kind": "chalk local cluster", "layout": 1}, file)

    def _unusable(self, error: OSError) -> LocalClusterError:
        return LocalClusterError(
            f"the state folder `{self.path}` cannot be used: {error.strerror or error}",
            hint="make it writable, free some space, or choose another folder with CHALK_LOCAL_HOME",
        )

    def exists(self) -> bool:
        """Whether this is a state folder of a local cluster."""
        return self.marker.is_file()

    def running(self) -> dict[str, Any] | None:
        """What the running daemon says of itself, or None when none runs."""
        said = read_json(self.daemon)
        identity = ProcessIdentity.from_mapping(said)
        return said if identity is not None and identity.alive() else None

    def announce(self, identity: ProcessIdentity, facts: Mapping[str, Any]) -> None:
        """Write what the daemon says of itself."""
        write_atomically(self.daemon, json.dumps({**asdict(identity), **facts}))

    @contextlib.contextmanager
    def starting(self, timeout: float) -> Iterator[bool]:
        """Hold the lock that makes `up`, `down` and `reset` take turns.

        Gives False when a `reset` has removed the folder meanwhile: the lock is then of no folder.

        Raises:
            LocalClusterError: Another one holds it for longer than `timeout` seconds.
        """
        path = self.run / "up.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            yield False
            return
        try:
            self._lock(descriptor, timeout)
            yield _is_at(descriptor, path)
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, timeout: float) -> None:
        import fcntl  # not on Windows, where `lifecycle.up` says so before it comes here

        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalClusterError(
                        f"another `chalk local` command has been using `{self.path}` for {timeout:.0f} s",
                        hint=f"see what it waits for in `{self.daemon_log}`",
                    ) from None
                time.sleep(0.02)

    def claim(self, timeout: float = 5.0) -> int:
        """Become the one daemon of this folder; the lock lasts while the process does.

        A record lock (fcntl(2)), because a replica forked from the daemon does not inherit it.

        Raises:
            LocalClusterError: Another daemon has it.
        """
        import fcntl

        descriptor = os.open(self.run / "daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except OSError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise LocalClusterError(f"another daemon already uses `{self.path}`") from None
                time.sleep(0.02)

    def remove(self) -> tuple[Path, ...]:
        """Remove everything that a local cluster made here; what else is there stays and is returned.

        Raises:
            LocalClusterError: Something cannot be removed.
        """
        try:
            for name in _OWNED:
                path = self.path / name
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)
            left = tuple(sorted(self.path.iterdir()))
            if not left:
                self.path.rmdir()
        except OSError as error:
            raise LocalClusterError(
                f"`{error.filename or self.path}` cannot be removed: {error.strerror or error}"
            ) from error
        return left


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_tree(top: Path) -> None:
    """Remove a folder and all in it, also what is in folders that are closed to their owner."""
    # Image layers hold read-only folders and overlayfs makes `work/work` with mode 0: both must be
    # opened before what is in them can go.
    _open(top)
    for folder, names, _ in os.walk(top):
        for name in names:
            _open(Path(folder, name))
    shutil.rmtree(top)


def _open(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
        path.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
