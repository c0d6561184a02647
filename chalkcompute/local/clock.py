"""The time as the embedded cluster tells it; a parameter wherever it matters, so that tests can set it."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["utc_now"]


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
