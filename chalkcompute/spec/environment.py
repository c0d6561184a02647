"""Environment variables of the replicas, and their command."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_string_map, check_text, quoted

__all__ = ["is_variable", "validate_args", "validate_entrypoint", "validate_env", "validate_variable"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX: every shell can read these
_VARIABLE_RULE = "use letters, digits and `_`, not starting with a digit"


def validate_env(env: object) -> dict[str, str]:
    """Environment variables in order of their names; values are literal text.

    Raises:
        SpecError: A name no shell could read, or a value that is not text. Values are never in the message.
    """
    checked = {validate_variable(name): value for name, value in check_string_map("env", env).items()}
    return {name: _literal(name, checked[name]) for name in sorted(checked)}


def is_variable(name: str) -> bool:
    """Whether every shell could read an environment variable of that name."""
    return _VARIABLE.fullmatch(name) is not None


def validate_variable(name: object, *, field: str = "env") -> str:
    """The name of an environment variable.

    Raises:
        SpecError: No shell could read it.
    """
    text = check_text(
        field, name, what="the name of an environment variable", number=lambda _: _VARIABLE_RULE
    )
    if not is_variable(text):
        raise SpecError(
            f"{quoted(text)} cannot be the name of an environment variable",
            field=field,
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


def validate_args(args: object) -> tuple[str, ...]:
    """The arguments that replace the image's own; an item may be empty, and there may be none.

    Kubernetes: `containers[].args`.

    Raises:
        SpecError: Not a list of texts.
    """
    if isinstance(args, str | bytes | bytearray) or not isinstance(args, Sequence):
        raise SpecError(f"`args` must be a list of texts, not {type(args).__name__}", field="args")
    return tuple(
        check_text("args", item, what=f"item {position} of `args`")
        for position, item in enumerate(args, start=1)
    )
