"""One running replica: its init process, its log, its exit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalkcompute.local.ports import ReplicaExit, StartError
from chalkcompute.local.runtime.output import LogPipe
from chalkcompute.local.runtime.watch import LimitWatch, ReplicaLimits

__all__ = ["ProcessReplica", "start_process"]

_RUN_INIT = "import sys; sys.path.insert(0, sys.argv[1]); import init; init.main()"
_FOLDER = str(Path(__file__).parent)
_KILLED = 137
_DRAIN_SECONDS = 2.0


class ProcessReplica:
    """Implements `ports.Replica`."""

    def __init__(
        self,
        init: subprocess.Popen[bytes],
        *,
        control: socket.socket,
        leash: int,
        log: LogPipe,
        limits: ReplicaLimits,
        on_exit: Callable[[ProcessReplica], None],
    ) -> None:
        self._init = init
        self._control = control
        self._leash = leash
        self._log = log
        self._on_exit = on_exit
        self._code: int | None = None
        self._stopped = asyncio.Event()
        self._loopback_ports: set[int] = set()
        self.started_at = datetime.now(UTC)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Task[ReplicaExit] = loop.create_task(self._run())
        self._watch = LimitWatch(limits, init.pid, lambda: self._order(b"K"))

    @property
    def pid(self) -> int:
        return self._init.pid

    @property
    def loopback_ports(self) -> frozenset[int]:
        return frozenset(self._loopback_ports)

    def take_exit_code(self, code: int) -> None:
        """The init says how the program ended."""
        self._code = code

    def init_gone(self) -> None:
        """The init has closed its end: it is over."""
        self._stopped.set()

    async def wait(self) -> ReplicaExit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_seconds: float) -> ReplicaExit:
        if grace_seconds > 0:
            self._order(b"T")
            self._watch.resume()
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.wait(), grace_seconds)
        self._order(b"K")
        return await self.wait()

    def usage(self) -> tuple[float, int]:
        used = self._watch.last_usage if self._stopped.is_set() else self._watch.usage()
        return used.cpu_seconds, used.resident_bytes

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            self._control.send(order)

    async def _run(self) -> ReplicaExit:
        await self._stopped.wait()
        finished_at = datetime.now(UTC)
        # It has closed its descriptors, so that it is as good as gone; the wait is for the kernel.
        await asyncio.to_thread(self._init.wait)
        await self._log.drained(_DRAIN_SECONDS)
        out_of_memory = self._watch.out_of_memory()
        await self._watch.close()
        os.close(self._leash)
        self._control.close()
        self._on_exit(self)
        code = _KILLED if self._code is None or out_of_memory else self._code
        reason = "OOMKilled" if out_of_memory else "Completed" if code == 0 else "Error"
        return ReplicaExit(code, reason, finished_at)


async def start_process(
    plan: Mapping[str, Any],
    *,
    log_path: Path,
    limits: ReplicaLimits,
    on_listener: Callable[[int, set[int]], None],
    on_exit: Callable[[ProcessReplica], None],
) -> ProcessReplica:
    """Start the init with a plan (see `init.py`); returns when the program is executing.

    Args:
        plan: Everything but the descriptors.
        log_path: The log file.
        limits: What it may use.
        on_listener: Receives the seccomp listener of the replica, which becomes the callee's, and the
            set where it is to note the ports that are bound on loopback addresses.
        on_exit: Called once, when every process is gone.

    Raises:
        StartError: with the words of a container runtime.
    """
    loop = asyncio.get_running_loop()
    try:
        log = LogPipe(loop, log_path)
    except OSError as error:
        raise StartError(f"cannot open the log file `{log_path}`: {error}") from error
    try:
        init, ours, leash, status = _launch(plan, log.writer)
    except OSError as error:
        log.close()
        raise StartError(f"cannot start the init of the replica: {error}") from error
    finally:
        log.close_writer()
    replica = ProcessReplica(init, control=ours, leash=leash, log=log, limits=limits, on_exit=on_exit)
    ours.setblocking(False)
    loop.add_reader(
        ours.fileno(),
        _read_control,
        loop,
        ours,
        replica,
        lambda listener: on_listener(listener, replica._loopback_ports),
    )
    try:
        failure = await _read_status(loop, status)
    except asyncio.CancelledError:
        await replica.stop(0)
        raise
    if failure is not None:
        await replica.stop(0)
        raise StartError(f"failed to start container: {failure['message']}", exit_code=failure["exit_code"])
    return replica


def _launch(
    plan: Mapping[str, Any], log_writer: int
) -> tuple[subprocess.Popen[bytes], socket.socket, int, int]:
    """Start the init; returns it with our ends of the control socket, the leash and the status pipe."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, _control_type())
    leash_reader, leash_writer = os.pipe()
    status_reader, status_writer = os.pipe()
    descriptors = {"control": theirs.fileno(), "leash": leash_reader, "status": status_writer}
    try:
        init = _spawn({**plan, **descriptors}, log_writer, tuple(descriptors.values()))
    except OSError:
        ours.close()
        _close(leash_writer, status_reader)
        raise
    finally:
        theirs.close()
        _close(leash_reader, status_writer)
    return init, ours, leash_writer, status_reader


def _control_type() -> socket.SocketKind:
    """Messages with borders; macOS has none on Unix sockets but datagrams."""
    return socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM


def _spawn(plan: Mapping[str, Any], log_writer: int, pass_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    python = getattr(sys, "_base_executable", None) or sys.executable
    with tempfile.TemporaryFile() as file:  # not in the arguments: the environment holds secrets
        file.write(json.dumps(plan).encode())
        file.seek(0)
        return subprocess.Popen(
            [python, "-I", "-S", "-c", _RUN_INIT, _FOLDER],
            stdin=file,
            stdout=log_writer,
            stderr=log_writer,
            pass_fds=pass_fds,
            start_new_session=True,
            cwd="/",
        )


def _read_control(
    loop: asyncio.AbstractEventLoop,
    control: socket.socket,
    replica: ProcessReplica,
    on_listener: Callable[[int], None],
) -> None:
    try:
        message, listeners, _, _ = socket.recv_fds(control, 64, 4)
    except BlockingIOError:
        return
    except OSError:
        message, listeners = b"", []
    for listener in listeners:
        on_listener(listener)
    if message.startswith(b"X"):
        replica.take_exit_code(int(message[1:]))
    elif not message:
        loop.remove_reader(control.fileno())
        replica.init_gone()


async def _read_status(loop: asyncio.AbstractEventLoop, reader: int) -> dict[str, Any] | None:
    """Wait until the program executes (None), or for the reason why it does not."""
    os.set_blocking(reader, False)
    done: asyncio.Future[None] = loop.create_future()
    text = bytearray()

    def read() -> None:
        chunk = os.read(reader, 65536)
        text.extend(chunk)
        if not chunk and not done.done():
            done.set_result(None)

    loop.add_reader(reader, read)
    try:
        await done
    finally:
        loop.remove_reader(reader)
        os.close(reader)
    if not text:
        return None
    failure: dict[str, Any] = json.loads(text.splitlines()[0])  # who fails first knows why
    return failure


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
