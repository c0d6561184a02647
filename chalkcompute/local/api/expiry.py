"""Events go an hour after they last happened, as `kube-apiserver --event-ttl` has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from chalkcompute.local.api.store import Store
from chalkcompute.local.ports import Manifest

__all__ = ["EventExpiry"]

_LIFETIME = timedelta(hours=1)
_PAUSE = timedelta(minutes=1)


class EventExpiry:
    """Removes old Events from a store, at most once a minute."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._due: datetime | None = None

    def sweep(self) -> None:
        """Remove what is too old, unless that was done just now.

        Raises:
            StatusError: 500 when the store cannot be written.
        """
        now = self._now()
        if self._due is not None and now < self._due:
            return
        self._due = now + _PAUSE
        for event in self._store.items("Event"):
            if _last_seen(event) < now - _LIFETIME:
                self._store.remove("Event", event)


def _last_seen(event: Manifest) -> datetime:
    series = event.get("series") or {}
    created = event["metadata"]["creationTimestamp"]
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), created)
    return max(datetime.fromisoformat(text) for text in times if text)
