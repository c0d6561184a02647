"""Checks of plain values that several fields share: each raises `SpecError` naming the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from chalkcompute.errors import SpecError

__all__ = [
    "check_integer",
    "check_permissions",
    "check_string_map",
    "check_text",
    "quoted",
    "without_credentials",
]

_SHOWN = 60
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")  # to the last `@`: a password may have one in it


def quoted(value: object) -> str:
    """A value in backticks for a message, shortened when long; URLs in it lose their passwords."""
    text = without_credentials(value if isinstance(value, str) else _repr(value))
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return f"`{text}`"


def without_credentials(text: str) -> str:
    """A text whose URLs have no user and password."""
    return _CREDENTIALS.sub("", text)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # whatever it is, the message is about its type: a number of 5000 digits has no repr
        return "…"


def check_integer(
    field: str, value: object, low: int, high: int, *, meaning: str = "", hint: str | None = None
) -> int:
    """A whole number within `low..high`; a bool is not one.

    Args:
        field: Name of the field.
        value: What was given.
        low: The least that can be.
        high: The most that can be.
        meaning: What the number counts.
        hint: What to do instead of a number that is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(
            f"`{field}` must be a whole number, not {type(value).__name__} {quoted(value)}",
            field=field,
            hint=_as_integer(value),
        )
    if not low <= value <= high:
        tail = f" ({meaning})" if meaning else ""
        raise SpecError(
            f"`{field}` must be {low} to {high}{tail}, not {quoted(value)}", field=field, hint=hint
        )
    return value


def _as_integer(value: object) -> str | None:
    """What to write instead, where that is clear."""
    text = value.strip() if isinstance(value, str) else ""
    if text.isascii() and text.isdecimal() and len(text) < _SHOWN:
        return f"leave out the quotes: `{int(text)}`"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write `{int(value)}`"
    return None


def check_permissions(field: str, value: object) -> int:
    """Permission bits of a file, 0 to 0o777. `755` without `0o` is taken for the mistake that it is."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        octal = str(value)
        is_octal = re.fullmatch(r"(?:0o)?[0-7]{1,3}", octal) is not None
        raise SpecError(
            f"`mode` of a file is made of permission bits, 0 to 0o777, not {quoted(value)}",
            field=field,
            hint=f"write `0o{octal.removeprefix('0o').lstrip('0') or '0'}`"
            if is_octal
            else "for example `0o755`",
        )
    return value


def check_text(
    field: str,
    value: object,
    *,
    what: str | None = None,
    private: bool = False,
    number: Callable[[str], str] = lambda text: f'write it in quotes: `"{text}"`',
) -> str:
    """Text that can be sent: a `str` without NUL that UTF-8 can encode.

    Args:
        field: Name of the field.
        value: What was given.
        what: What a message calls it, if not by the field's name.
        private: It may be a secret, so no message quotes it.
        number: The hint for a number in its place, whose text it is given.
    """
    label = what or f"`{field}`"
    shown = "" if private else f" {quoted(value)}"
    if not isinstance(value, str):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and not private
        raise SpecError(
            f"{label} must be text, not {type(value).__name__}{shown}",
            field=field,
            hint=number(_repr(value)) if is_number else None,
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
