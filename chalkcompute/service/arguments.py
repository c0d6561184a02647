"""Arguments of the verbs, checked where Python lets anything through: `SpecError`, no raw `TypeError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from chalkcompute.errors import SpecError
from chalkcompute.service.wait import Until
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.checks import check_text, quoted
from chalkcompute.spec.content import Content

__all__ = ["require_content", "require_name", "require_one", "require_spec", "require_until"]


def require_name(name: object) -> str:
    """A name that is text; whether there is such a group is another question."""
    return check_text("name", name, number=lambda _: "give the name of the scaling group as text")


def require_one(name: object, group_id: object) -> None:
    """A name or an id.

    Raises:
        SpecError: Neither, both, or no text.
    """
    if (name is None) == (group_id is None):
        raise SpecError("exactly one of `name` and `id` must be given", field="name")
    if group_id is None:
        require_name(name)
    else:
        check_text("id", group_id, number=lambda _: "give the id as text, as `info.id` is")


def require_spec(value: object) -> ScalingGroupSpec:
    """A spec.

    Raises:
        SpecError: It is none; the hint says how to make one.
    """
    if isinstance(value, ScalingGroupSpec):
        return value
    how = ".from_dict(…)" if isinstance(value, Mapping) else "(name=…, image=…)"
    raise SpecError(
        f"`spec` must be a ScalingGroupSpec, not {type(value).__name__}",
        field="spec",
        hint=f"make one with `ScalingGroupSpec{how}`",
    )


def require_content(value: object) -> Content:
    """What goes with a spec; nothing when None.

    Raises:
        SpecError: It is no `Content`.
    """
    if value is None:
        return Content()
    if not isinstance(value, Content):
        raise SpecError(f"`content` must be a Content, not {type(value).__name__}", field="content")
    return value


def require_until(value: object) -> None:
    """One of the states that a wait can be for.

    Raises:
        SpecError: It is none of them.
    """
    known = get_args(Until)
    if value not in known:
        names = ", ".join(f"`{each}`" for each in known)
        raise SpecError(f"`until` must be one of {names}, not {quoted(value)}", field="until")
