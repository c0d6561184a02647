"""Progress that speaks only when something changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import replace

from chalkcompute.service.scope import World
from chalkcompute.types import OnProgress, Progress

__all__ = ["Reporter", "from_now_on", "log_warnings"]

_log = logging.getLogger("chalkcompute")


class Reporter:
    """Calls `on_progress` whenever phase, message or counts differ from the last time."""

    def __init__(self, on_progress: OnProgress | None, world: World) -> None:
        self._on_progress = on_progress
        self._world = world
        self._start = world.monotonic()
        self._last: tuple[str, str, int, int] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since this reporter was made."""
        return self._world.monotonic() - self._start

    def say(self, phase: str, message: str, *, ready: int = 0, desired: int = 0) -> None:
        """Report one step, unless it is what was reported last."""
        now = (phase, message, ready, desired)
        if self._on_progress is None or now == self._last:
            return
        self._last = now
        self._on_progress(Progress(phase, message, ready, desired, self.elapsed))


def from_now_on(on_progress: OnProgress | None) -> OnProgress | None:
    """The same, with `elapsed` counted from now: a deploy is several calls, each with a clock of its own."""
    if on_progress is None:
        return None
    began = time.monotonic()
    return lambda step: on_progress(replace(step, elapsed=time.monotonic() - began))


def log_warnings(name: str, warnings: Iterable[str]) -> None:
    """Say what a Python program has nowhere else to show; without logging set up, that is standard error."""
    for warning in dict.fromkeys(warnings):
        _log.warning("scaling group `%s`: %s", name, warning)
