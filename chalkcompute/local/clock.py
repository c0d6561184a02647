"""The time as the embedded cluster tells it; a parameter wherever it matters, so that tests can set it."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["duration", "utc_now"]


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def duration(seconds: float) -> str:
    """A span as Go writes it, in milliseconds at its finest: `14.994s`, `1m0.5s`, `500ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
