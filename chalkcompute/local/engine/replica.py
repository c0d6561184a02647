"""One running container of an engine: its log, its exit, its usage."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

from docker.errors import NotFound

from chalkcompute.local.engine.discovery import ENGINE_ERRORS, explain
from chalkcompute.local.ports import ReplicaExit
from chalkcompute.local.runtime.output import LogPipe

__all__ = ["EngineReplica", "remove_container"]

_log = logging.getLogger(__name__)

_KILLED = 137
_DRAIN_SECONDS = 2.0
_SAMPLE_SECONDS = 1.0
# An end of the output is the end of the program, as a rule.
_END_SECONDS = 5
# An engine that restarts is away for a moment, and its containers may live on.
_ASK_AGAIN_SECONDS = 1.0
_ASK_AGAIN_TIMES = 30


class EngineReplica:
    """Implements `ports.Replica`. Must be made in the event loop, of a container that has started.

    `output` is what `attach` gave before the start: an iterator over what it prints, with a `close`.
    """

    def __init__(
        self,
        container: Any,
        output: Any,
        *,
        log: LogPipe,
        stop_signal: str,
        memory_limit: int | None,
        executor: Executor,
        on_exit: Callable[[EngineReplica], None],
    ) -> None:
        self._container = container
        self._output = output
        self._log = log
        self._stop_signal = stop_signal
        self._limited = memory_limit is not None
        self._executor = executor
        self._on_exit = on_exit
        self._killed = False
        self._usage = (0.0, 0)
        self._sampled_at = float("-inf")
        self.pid = int(container.attrs["State"].get("Pid") or 0)
        self.started_at = datetime.now(UTC)
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[tuple[int, bool]] = self._loop.create_future()
        self._ended = self._loop.create_task(self._end())
        # Not one of the executor's: it waits for as long as the container runs.
        threading.Thread(target=self._follow, name=f"container {container.name}", daemon=True).start()

    @property
    def loopback_ports(self) -> frozenset[int]:
        return frozenset()  # not reachable here either

    async def wait(self) -> ReplicaExit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_seconds: float) -> ReplicaExit:
        if grace_seconds > 0:
            self._signal(self._stop_signal)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.wait(), grace_seconds)
        self._killed = True
        self._signal("SIGKILL")
        return await self.wait()

    def usage(self) -> tuple[float, int]:
        """The last sample: engines take their time, so that one is taken at most every second, behind."""
        now = time.monotonic()
        if now - self._sampled_at >= _SAMPLE_SECONDS and not self._ended.done():
            self._sampled_at = now
            with contextlib.suppress(RuntimeError):  # the runtime has been closed
                self._executor.submit(self._sample)
        return self._usage

    def _signal(self, name: str) -> None:
        def send() -> None:
            with contextlib.suppress(*ENGINE_ERRORS):  # it has ended by itself
                self._container.kill(signal=name)

        if not self._ending.done():
            self._executor.submit(send)

    def _sample(self) -> None:
        try:
            stats = self._container.stats(stream=False, one_shot=True)
        except ENGINE_ERRORS:
            return
        memory = stats.get("memory_stats") or {}
        detail = memory.get("stats") or {}
        idle = detail.get("total_inactive_file", detail.get("inactive_file", 0))  # cgroups v1, v2
        nanoseconds = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0
        resident = int(memory.get("usage") or 0)
        if nanoseconds or resident:  # else it has just ended
            self._usage = (nanoseconds / 1e9, max(resident - int(idle), 0))

    # In a thread of its own -----------------------------------------------------------------

    def _follow(self) -> None:
        """Copy the output to the log until it ends, then say how the container ended, and remove it."""
        try:
            code, out_of_memory = self._see_through()
        finally:
            self._log.close_writer()
        remove_container(self._container, self._output)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._note_end, code, out_of_memory)

    def _see_through(self) -> tuple[int, bool]:
        """Exit code, and whether it ran out of memory; those of a kill when nobody can tell any more."""
        away = 0
        while away < _ASK_AGAIN_TIMES:
            self._copy()
            try:
                code = int(self._container.wait(timeout=_END_SECONDS)["StatusCode"])
                self._container.reload()
                return code, bool(self._container.attrs["State"].get("OOMKilled"))
            except NotFound:
                break
            except ENGINE_ERRORS as error:
                away = 0 if self._attach_again() else away + 1
                if away:
                    _log.warning("container %s: %s", self._container.name, explain(error))
                    time.sleep(_ASK_AGAIN_SECONDS)
        return _KILLED, False

    def _copy(self) -> None:
        try:
            for chunk in self._output:
                _write_all(self._log.writer, chunk)
        except ENGINE_ERRORS as error:
            _log.warning("container %s: its output was cut: %s", self._container.name, explain(error))

    def _attach_again(self) -> bool:
        """The engine has restarted, or the program prints nothing more; False when the engine is away."""
        try:
            self._container.reload()
            output = self._container.attach(stream=True)
        except NotFound:
            return True
        except ENGINE_ERRORS:
            return False
        _close(self._output)
        self._output = output
        return True

    # In the loop ----------------------------------------------------------------------------

    def _note_end(self, code: int, out_of_memory: bool) -> None:
        if not self._ending.done():
            self._ending.set_result((code, out_of_memory))

    async def _end(self) -> ReplicaExit:
        code, out_of_memory = await self._ending
        finished_at = datetime.now(UTC)
        await self._log.drained(_DRAIN_SECONDS)
        self._on_exit(self)
        # Podman 4.3 does not tell (cgroups v1). Who else kills what has a limit, with this signal?
        if out_of_memory or (code == _KILLED and self._limited and not self._killed):
            return ReplicaExit(_KILLED, "OOMKilled", finished_at)
        return ReplicaExit(code, "Error" if code else "Completed", finished_at)


def remove_container(container: Any, output: Any = None) -> None:
    """End it if it runs, and remove it with its unnamed volumes; one that has gone is as good.

    Args:
        container: The container.
        output: The connection that its output came by, to be closed.
    """
    try:
        container.remove(force=True, v=True)
    except NotFound:
        pass
    except ENGINE_ERRORS as error:
        _log.warning("container %s cannot be removed: %s", container.name, explain(error))
    if output is not None:
        _close(output)


def _close(output: Any) -> None:
    # AttributeError: the SDK looks for the socket in places that are empty once all has been read.
    with contextlib.suppress(AttributeError, *ENGINE_ERRORS):
        output.close()
    # That leaves the response, which holds the socket open; the SDK has no other way to it.
    with contextlib.suppress(*ENGINE_ERRORS):
        output._response.close()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
