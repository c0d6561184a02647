"""The queue between changes and reconciles: each key at most once, failures later and later.

Source of the behaviour: client-go `util/workqueue`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from chalkcompute.local.controllers.objects import Key

__all__ = ["WorkQueue"]

FIRST_DELAY_SECONDS = 0.005
LONGEST_DELAY_SECONDS = 30.0


class WorkQueue:
    """Keys to look at. One consumer takes them in order; a key waits at most once."""

    def __init__(self) -> None:
        self._ready: OrderedDict[Key, None] = OrderedDict()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Look at `key` soon."""
        self._ready.setdefault(key, None)
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at `key` in a while, or sooner if that was wanted before."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(at, self._fire, key)

    def retry(self, key: Key) -> float:
        """Look at `key` again after a failure; returns the delay in seconds, doubled every time."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(count, 30), LONGEST_DELAY_SECONDS)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """A success: the next failure starts from the shortest delay."""
        self._failures.pop(key, None)

    async def take(self) -> Key:
        """The next key; waits for one."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key, _ = self._ready.popitem(last=False)
        return key

    def close(self) -> None:
        """Drop what is waiting for its time."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
