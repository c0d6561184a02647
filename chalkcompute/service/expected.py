"""Whether a deploy may go on upon the record that it found (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from chalkcompute.errors import ConflictError
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record

__all__ = ["Expected", "require_deployable"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a deploy builds on: this incarnation in this revision, or it is refused."""

    id: str
    revision: int


def require_deployable(name: str, found: Record | None, wanted: Expected | None, *, update: bool) -> None:
    """Accept no record, or one that may be updated.

    Args:
        name: Name of the group.
        found: Its record, or None.
        wanted: What the deploy builds on, or None for whatever there is.
        update: Whether a group that exists already may be changed.

    Raises:
        ConflictError: It is another one than wanted, is being deleted, or exists and may not be updated.
    """
    if wanted is not None and (found is None or Expected(found.id, found.revision) != wanted):
        raise ConflictError(
            f"scaling group `{name}` is not what it was when it was read (id `{wanted.id}`, "
            f"revision {wanted.revision}): someone deployed or deleted it meanwhile",
            hint="read it again and decide anew",
        )
    if found is None:
        return
    if found.state == labels.STATE_DELETING:
        raise ConflictError(
            f"scaling group `{name}` is being deleted",
            hint=f"`chalk scaling-group delete {name}` finishes that and waits for it",
        )
    if not update:
        raise ConflictError(
            f"scaling group `{name}` exists already (revision {found.revision})",
            hint="leave out `--no-update` to update it",
        )
