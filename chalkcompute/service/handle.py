"""What is wrong with a handle whose group is not there, or is no longer the one that it is of (pure)."""

from __future__ import annotations

from chalkcompute.errors import ConflictError, NotFoundError

__all__ = ["is_deleted", "is_replaced", "not_deployed"]


def not_deployed(name: str, verb: str) -> NotFoundError:
    """The handle is of no group yet, or no longer."""
    return NotFoundError(
        f"scaling group `{name}` is not deployed, so `{verb}()` has nothing to work on",
        hint="`deploy()` it first, or take an existing one with `ScalingGroup.from_name`",
    )


def is_deleted(name: str, group_id: str, verb: str) -> NotFoundError:
    """Its group was deleted, by whomever."""
    return NotFoundError(
        f"{_this(name, group_id)} was deleted, so `{verb}()` has nothing to work on",
        hint=f"{_other(name)}, or make it again with `deploy()`",
    )


def is_replaced(name: str, group_id: str, other_id: str) -> ConflictError:
    """Its group was deleted, and another one has the name."""
    return ConflictError(
        f"{_this(name, group_id)} was deleted, and its name belongs to another one now, with id `{other_id}`",
        hint=_other(name),
    )


def _this(name: str, group_id: str) -> str:
    return f"the scaling group `{name}` with id `{group_id}`"


def _other(name: str) -> str:
    return f"take what has its name now with `ScalingGroup.from_name({name!r})`"
