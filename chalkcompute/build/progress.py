"""What a build says while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Meter", "Say"]

Say = Callable[[str], None]

_SECONDS = 1.0  # between two texts: a build log has a line for each


class Meter:
    """Turns bytes into texts: `pushing layer 3.4/12.0 MB`. Threads may share it.

    It says where it begins and ends, and once a second between.
    """

    def __init__(
        self, what: str, total: int, say: Say, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._say, self._clock = what, total, say, clock
        self._done = 0
        self._said: float | None = None
        self._lock = threading.Lock()

    def __call__(self, added: int) -> None:
        """Count `added` bytes, which may be negative when something begins anew."""
        with self._lock:
            self._done += added
            now = self._clock()
            if self._done < self._total and self._said is not None and now - self._said < _SECONDS:
                return
            self._said = now
            self._say(f"{self._what} {self._amounts()}")

    def _amounts(self) -> str:
        if self._total < 100_000:  # it would be `0.0/0.0 MB`
            return f"{-(-self._done // 1000)}/{-(-self._total // 1000)} kB"
        return f"{self._done / 1e6:.1f}/{self._total / 1e6:.1f} MB"
