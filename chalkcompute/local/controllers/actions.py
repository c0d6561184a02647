"""What a reconcile wants done, as values, and the one function that does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.ports import Api, Manifest

__all__ = ["Action", "Create", "Delete", "Emit", "Recorder", "Update", "perform"]

MANAGER = "kube-controller-manager"  # the field manager that a real control plane writes under


class Recorder(Protocol):
    """The part of `EventRecorder` that actions need."""

    def event(
        self, obj: Manifest, event_type: str, reason: str, message: str, field_path: str | None = None
    ) -> None:
        """Record an Event about `obj`."""
        ...


@dataclass(frozen=True, slots=True)
class Create:
    """POST."""

    obj: Manifest


@dataclass(frozen=True, slots=True)
class Update:
    """PUT of the object, or of a subresource of it."""

    obj: Manifest
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE of exactly this object (its uid is a precondition)."""

    obj: Manifest
    propagation: str = "Background"
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Emit:
    """An Event of type `Normal` or `Warning`."""

    obj: Manifest
    type: str
    reason: str
    message: str


Action: TypeAlias = Create | Update | Delete | Emit


def perform(
    api: Api, actions: Iterable[Action], recorder: Recorder | None = None, *, manager: str = MANAGER
) -> None:
    """Do the actions in order; the first refusal ends it (the reconcile runs again).

    An object to delete that is gone already, or was replaced by another of that name, is no failure.
    """
    for action in actions:
        match action:
            case Create(obj):
                api.create(obj, manager=manager)
            case Update(obj, subresource):
                api.update(obj, manager=manager, subresource=subresource)
            case Delete():
                _delete(api, action)
            case Emit(obj, kind, reason, message):
                if recorder is not None:
                    recorder.event(obj, kind, reason, message)


def _delete(api: Api, action: Delete) -> None:
    meta = action.obj["metadata"]
    try:
        api.delete(
            action.obj["kind"],
            meta["name"],
            meta.get("namespace", ""),
            uid=meta["uid"],
            propagation=action.propagation,
            grace_seconds=action.grace_seconds,
        )
    except StatusError as error:
        if error.code not in (404, 409):
            raise
