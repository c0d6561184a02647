"""The limits of one replica: held by its control groups, or watched where there are none.

Watched, memory is looked at twice a second, and what takes too much is ended; CPU is held by pausing the
processes of the replica, never its inits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.runtime.cgroups import CPU, MEMORY, ReplicaCgroup
from chalkcompute.local.runtime.throttle import PERIOD_SECONDS, Bucket, advance
from chalkcompute.local.runtime.usage import (
    PROC,
    ProcessUsage,
    process_tree,
    proportional_memory,
    usage_of,
)

__all__ = ["LimitWatch", "ReplicaLimits"]

_log = logging.getLogger(__name__)

_MEMORY_POLL_SECONDS = 0.5
# A process that is stopped cannot fork, but one that was not seen yet can: look once more.
_STOP_ROUNDS = 3
_REMOVE_TRIES = 50
_REMOVE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    """What a replica may use.

    Attributes:
        cpu: Cores, or None.
        memory: Bytes, or None.
        cgroup: Its control groups, which hold what they can; None where there are none.
        inits: How many inits are above its program: 2 with namespaces, else 1.
    """

    cpu: float | None = None
    memory: int | None = None
    cgroup: ReplicaCgroup | None = None
    inits: int = 1


class LimitWatch:
    """Watches one replica from its start to its end."""

    def __init__(self, limits: ReplicaLimits, pid: int, end: Callable[[], None]) -> None:
        """Begin, in the event loop.

        Args:
            limits: What it may use.
            pid: Its (outer) init.
            end: Ends the whole replica at once.
        """
        self._limits = limits
        self._pid = pid
        self._end = end
        self._killed = False
        self._stopped: set[int] = set()
        self._last = ProcessUsage(0.0, 0)
        self._tasks = [asyncio.get_running_loop().create_task(task) for task in self._duties()]
        for task in self._tasks:
            task.add_done_callback(self._log_failure)

    def usage(self) -> ProcessUsage:
        """What it uses now; what it used last when it has ended."""
        group = self._limits.cgroup
        counted = group.usage() if group is not None else None
        self._last = usage_of(process_tree(self._pid)) if counted is None else counted
        return self._last

    @property
    def last_usage(self) -> ProcessUsage:
        """What it used at the last look."""
        return self._last

    def out_of_memory(self) -> bool:
        """Whether it was ended because of its memory limit, by whom ever."""
        group = self._limits.cgroup
        return self._killed or (group is not None and group.out_of_memory())

    def resume(self) -> None:
        """Let what is paused go on, so that a signal reaches it; the limit stays."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    async def close(self) -> None:
        """The replica has ended, with every process of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        group = self._limits.cgroup
        for _ in range(_REMOVE_TRIES):
            if group is None or group.remove():
                return
            await asyncio.sleep(_REMOVE_SECONDS)  # the kernel is not through with the last process

    def _log_failure(self, duty: asyncio.Task[None]) -> None:
        """An error of ours: this limit does not hold any more, which nothing else would tell."""
        if not duty.cancelled() and (error := duty.exception()) is not None:
            _log.error("process %d: a limit is no longer watched", self._pid, exc_info=error)

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        limits, group = self._limits, self._limits.cgroup
        duties: list[Coroutine[Any, Any, None]] = []
        if limits.memory is not None and (group is None or not group.holds(MEMORY)):
            duties.append(self._watch_memory(limits.memory))
        elif group is not None and group.kills_one_by_one:
            duties.append(self._watch_kills(group))
        held = group is not None and group.holds(CPU)
        # What cannot be exceeded needs no watch.
        if limits.cpu is not None and limits.cpu < (os.cpu_count() or 1) and not held and PROC.is_dir():
            duties.append(self._throttle(limits.cpu))
        return duties

    async def _watch_memory(self, limit: int) -> None:
        """Look every half second, and do what the kernel would."""
        while True:
            await asyncio.sleep(_MEMORY_POLL_SECONDS)
            pids = self._program()
            if usage_of(pids).resident_bytes > limit and proportional_memory(pids) > limit:
                self._end_for_memory()
                return

    async def _watch_kills(self, group: ReplicaCgroup) -> None:
        """The kernel ended one process: end the others with it, as clusters with cgroup v2 do."""
        while True:
            await asyncio.sleep(_MEMORY_POLL_SECONDS)
            if group.out_of_memory():
                self._end_for_memory()
                return

    def _end_for_memory(self) -> None:
        self._killed = True
        self._end()

    async def _throttle(self, limit: float) -> None:
        loop = asyncio.get_running_loop()
        used = usage_of(self._program()).cpu_seconds
        bucket = Bucket(limit, loop.time(), used, tokens=limit * PERIOD_SECONDS)
        seconds = PERIOD_SECONDS
        try:
            while True:
                await asyncio.sleep(seconds)
                used = usage_of(self._program()).cpu_seconds
                bucket, step = advance(bucket, loop.time(), used)
                if step.pause:
                    self._pause()
                else:
                    self.resume()
                seconds = step.seconds
        finally:
            self.resume()

    def _pause(self) -> None:
        for _ in range(_STOP_ROUNDS):
            running = set(self._program()) - self._stopped
            if not running:
                return
            for pid in running:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
            self._stopped |= running

    def _program(self) -> list[int]:
        """Its processes without the inits: ours to pay for, and they have to hear of what happens."""
        # Parents come first, and an outer init has one child, the inner one.
        return process_tree(self._pid)[self._limits.inits :]
