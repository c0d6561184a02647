"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["parse_time"]


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time of an object (`metav1.Time`, `MicroTime`), or None where it is null or absent.

    Raises:
        ValueError: It is no time.
    """
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
