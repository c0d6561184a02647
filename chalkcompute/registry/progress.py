"""How far a transfer is, told as differences."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnBytes", "Progress"]

# Called with the number of bytes that were added; negative when a transfer has to begin further back.
OnBytes = Callable[[int], None]


class Progress:
    """Tells a callback what was added, so that the sum is always how far the transfer is.

    Args:
        on_bytes: The callback, or None.
    """

    def __init__(self, on_bytes: OnBytes | None) -> None:
        self._on_bytes = on_bytes
        self._total = 0

    def add(self, number: int) -> None:
        """So many bytes more."""
        self._total += number
        if self._on_bytes is not None and number:
            self._on_bytes(number)

    def at(self, total: int) -> None:
        """The transfer is here now, whatever was told before."""
        self.add(total - self._total)
