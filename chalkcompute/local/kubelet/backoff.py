"""Back-off of restarts and image pulls.

Source: client-go `util/flowcontrol/backoff.go`: the delay counts from the failure, doubles each time it has
been served, and is forgotten after twice its cap without a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["BackOff", "BackOffSettings"]


@dataclass(frozen=True, slots=True)
class BackOffSettings:
    """How long to wait.

    Attributes:
        base_seconds: The first delay; the kubelet's is 10.
        cap_seconds: The longest; the kubelet's is 300.
        poll_seconds: How often to look again for what is missing (a Secret, a volume).
    """

    base_seconds: float = 10.0
    cap_seconds: float = 300.0
    poll_seconds: float = 1.0


class BackOff:
    """The delay before one container is tried again."""

    def __init__(self, settings: BackOffSettings) -> None:
        self._settings = settings
        self._seconds: float | None = None
        self._advanced_at: datetime | None = None

    def seconds(self, failed_at: datetime) -> float:
        """How long after a failure to wait; 0 for the first one, which is tried again at once."""
        if self._seconds is None or self._expired(failed_at):
            return 0.0
        return self._seconds

    def advance(self, failed_at: datetime, now: datetime) -> None:
        """It is tried again now: the next delay is longer."""
        if self._seconds is None or self._expired(failed_at):
            self._seconds = self._settings.base_seconds
        else:
            self._seconds = min(self._seconds * 2, self._settings.cap_seconds)
        self._advanced_at = now

    def _expired(self, failed_at: datetime) -> bool:
        if self._advanced_at is None:
            return True
        return (failed_at - self._advanced_at).total_seconds() > 2 * self._settings.cap_seconds
