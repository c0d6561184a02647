"""The daemon's process as its starter sees it: started, waited for, stopped; or failed, with its log."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.state import ProcessIdentity, StateFolder

__all__ = ["failed", "start_daemon", "stop_daemon"]

_GIVING_UP_SECONDS = 10.0
_LOG_LINES = 15
_LOG_LIMIT = 10 * 1024 * 1024


def start_daemon(
    folder: StateFolder,
    wanted: Mapping[str, int | None],
    runtime: str,
    tier: str,
    timeout: float,
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """Start a daemon and wait for what it reports on a pipe: ready, or why not."""
    folder.daemon.unlink(missing_ok=True)
    reading, writing = os.pipe()
    command = [
        # -P: a file of the caller's folder must not stand in for a module of ours.
        sys.executable, "-P", "-m", "chalkcompute.local.daemon",
        "--state", str(folder.path), "--report-fd", str(writing),
        "--runtime", runtime, "--tier", tier,
    ]  # fmt: skip
    for name, port in wanted.items():
        if port is not None:
            command += [f"--{name.replace('_', '-')}", str(port)]
    begin = folder.daemon_log.stat().st_size if folder.daemon_log.exists() else 0
    if begin > _LOG_LIMIT:
        folder.daemon_log.replace(folder.daemon_log.with_suffix(".log.1"))
        begin = 0
    try:
        log = os.open(folder.daemon_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # The daemon forks once more at its start, so this ends at once and leaves no child of ours.
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder.path,
                pass_fds=(writing,),
                start_new_session=True,
                env={**environ, "PYTHONUNBUFFERED": "1"},
                check=False,
            )
        finally:
            os.close(log)
            os.close(writing)
        report = _read_report(reading, timeout)
        if report is None:
            _give_up(folder, reading, timeout, begin)
    finally:
        os.close(reading)
    return report


def _give_up(folder: StateFolder, reading: int, timeout: float, begin: int) -> NoReturn:
    """Stop a daemon that did not report in time; it may not even have said yet which process it is.

    Raises:
        LocalClusterError: Always; it says whether the daemon ended by itself.
    """
    deadline = time.monotonic() + _GIVING_UP_SECONDS
    while time.monotonic() < deadline:
        running = folder.running()
        if running is not None:
            stop_daemon(folder, running, 5.0)
            raise failed(folder, f" was not ready within {timeout:g} s and was stopped", begin)
        if select.select([reading], [], [], 0.05)[0] and not os.read(reading, 65536):
            raise failed(folder, "'s daemon ended while starting", begin)  # its end of the pipe is closed
    raise failed(folder, f" was not ready within {timeout:g} s; its daemon ends as soon as it notices", begin)


def _read_report(descriptor: int, timeout: float) -> dict[str, Any] | None:
    """One line of JSON; None when the writer ended, or time did, before it was whole."""
    deadline = time.monotonic() + timeout
    received = b""
    while not received.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return None
        received += chunk
    report = json.loads(received)
    return report if isinstance(report, dict) else None


def stop_daemon(folder: StateFolder, running: Mapping[str, Any], timeout: float) -> None:
    """End the daemon, killed after `timeout` seconds.

    Raises:
        LocalClusterError: It does not end.
    """
    identity = ProcessIdentity.from_mapping(running)
    if identity is None:
        return
    identity.signal(signal.SIGTERM)
    if not identity.wait_gone(timeout):
        identity.signal(signal.SIGKILL)
        if not identity.wait_gone(5.0):
            raise LocalClusterError(
                f"the local cluster's daemon (pid {identity.pid}) does not end, even killed",
                hint=f"see `{folder.daemon_log}`",
            )
    folder.daemon.unlink(missing_ok=True)


def failed(folder: StateFolder, what: str, begin: int = 0) -> LocalClusterError:
    """What went wrong with the daemon, and how its log ends."""
    return LocalClusterError(
        f"the local cluster{what}{_log_tail(folder, begin)}", hint=f"the whole log is `{folder.daemon_log}`"
    )


def _log_tail(folder: StateFolder, begin: int) -> str:
    """The last lines of the log from byte `begin` on: earlier ones are of other starts."""
    try:
        lines = folder.daemon_log.read_bytes()[begin:].decode(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return ""
    return "; its log ends:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
