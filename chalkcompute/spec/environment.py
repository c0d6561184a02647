"""Environment variables of the replicas, and their command."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_string_map, check_text, quoted

__all__ = ["validate_entrypoint", "validate_env"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX: every shell can read these
_VARIABLE_RULE = "use letters, digits and `_`, not starting with a digit"


def validate_env(env: object) -> dict[str, str]:
    """Environment variables in order of their names; values are literal text.

    Raises:
        SpecError: A name no shell could read, or a value that is not text. Values are never in the message.
    """
    checked = {_variable(name): value for name, value in check_string_map("env", env).items()}
    return {name: _literal(name, checked[name]) for name in sorted(checked)}


def _variable(name: object) -> str:
    text = check_text(
        "env", name, what="the name of an environment variable", number=lambda _: _VARIABLE_RULE
    )
    if not _VARIABLE.fullmatch(text):
        raise SpecError(
            f"{quoted(text)} cannot be the name of an environment variable",
            field="env",
            hint=_VARIABLE_RULE,
        )
    return text


def _literal(name: str, value: object) -> str:
    # Whatever is wrong with it, a value may be a secret: no message quotes it.
    try:
        return check_text("env", value, what=f"the value of environment variable `{name}`", private=True)
    except SpecError as error:
        if value is None:
            error.hint = (
                "leave the variable out, or give it a text; `os.getenv` gives None for what is not set"
            )
        elif not isinstance(value, str):
            error.hint = "make a text of it: every environment variable is one"
        raise


def validate_entrypoint(entrypoint: object) -> tuple[str, ...]:
    """The command that replaces the image's own entrypoint: at least one item, none empty.

    Kubernetes: `containers[].command`.

    Raises:
        SpecError: Not a list of texts, empty, or with an empty item.
    """
    if isinstance(entrypoint, str | bytes | bytearray) or not isinstance(entrypoint, Sequence):
        words = entrypoint.split()[:8] if isinstance(entrypoint, str) else []
        raise SpecError(
            f"`entrypoint` must be a list of texts, not {type(entrypoint).__name__} {quoted(entrypoint)}",
            field="entrypoint",
            hint="write one item for each argument, in order: "
            f"`{json.dumps(words or ['python', '-m', 'http.server'])}`",
        )
    if not entrypoint:
        raise SpecError(
            "`entrypoint` is empty", field="entrypoint", hint="leave it out to keep the image's own"
        )
    for position, item in enumerate(entrypoint, start=1):
        if not check_text("entrypoint", item, what=f"item {position} of `entrypoint`"):
            raise SpecError(f"item {position} of `entrypoint` is empty", field="entrypoint")
    return tuple(entrypoint)
