"""Checks of plain values that several fields share: each raises `SpecError` naming the field."""

from __future__ import annotations

from collections.abc import Mapping

from chalkcompute.errors import SpecError

__all__ = ["check_integer", "check_string_map", "check_text", "quoted"]

_SHOWN = 60


def quoted(value: object) -> str:
    """A value in backticks for a message, shortened when long."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return f"`{text}`"


def check_integer(field: str, value: object, low: int, high: int, *, meaning: str = "") -> int:
    """A whole number within `low..high`; a bool is not one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(
            f"`{field}` must be a whole number, not {type(value).__name__} {quoted(value)}", field=field
        )
    if not low <= value <= high:
        tail = f" ({meaning})" if meaning else ""
        raise SpecError(f"`{field}` must be {low} to {high}{tail}, not {quoted(value)}", field=field)
    return value


def check_text(field: str, value: object, *, what: str | None = None, private: bool = False) -> str:
    """Text that can be sent: a `str` without NUL that UTF-8 can encode; a private one is never quoted."""
    label = what or f"`{field}`"
    shown = "" if private else f" {quoted(value)}"
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool) and not private
        raise SpecError(
            f"{label} must be text, not {type(value).__name__}{shown}",
            field=field,
            hint=f'write it in quotes: `"{value}"`' if number else None,
        )
    if "\0" in value:
        raise SpecError(f"{label} has a NUL character in it, which no process can be given", field=field)
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise SpecError(f"{label} is not valid UTF-8{shown and ':' + shown}", field=field)
    return value


def check_string_map(field: str, value: object) -> Mapping[object, object]:
    """A mapping; its keys and values are the caller's to check."""
    if not isinstance(value, Mapping):
        raise SpecError(
            f"`{field}` must be a mapping of names to values, not {type(value).__name__} {quoted(value)}",
            field=field,
        )
    return value
