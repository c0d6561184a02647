"""What a build says while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Meter", "Say"]

Say = Callable[[str], None]

_STEP = 200_000  # bytes between two texts


class Meter:
    """Turns bytes into texts: `pushing layer 3.4/12.0 MB`. Threads may share it."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, total, say
        self._done, self._said = 0, 0
        self._lock = threading.Lock()

    def __call__(self, added: int) -> None:
        """Count `added` bytes, which may be negative when something begins anew."""
        with self._lock:
            self._done += added
            if self._done < self._total and abs(self._done - self._said) < _STEP:
                return
            self._said = self._done
            self._say(f"{self._what} {self._done / 1e6:.1f}/{self._total / 1e6:.1f} MB")
