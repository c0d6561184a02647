"""`metadata.managedFields` as a map from manager to the fields it owns, and back.

Source: k8s.io/apimachinery `pkg/util/managedfields/internal/managedfields.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalkcompute.local.apimachinery.fieldset import FieldSet, decode_fields, encode_fields

__all__ = ["Entry", "Manager", "decode_entries", "encode_entries", "manager_text"]

_UPDATERS_MAX = 10  # older Update managers are folded into one: CapManagersManager
_ANCIENT = "ancient-changes"


@dataclass(frozen=True, slots=True)
class Manager:
    """Who wrote.

    Attributes:
        name: `fieldManager`.
        operation: `Apply` or `Update`.
        api_version: Version used.
        subresource: `status`, `scale` or "".
    """

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def same_applier(self, other: Manager) -> bool:
        """An applier stays the same one whichever version it uses."""
        return (self.operation, other.operation) == ("Apply", "Apply") and (self.name, self.subresource) == (
            other.name,
            other.subresource,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What one manager owns, and when that last changed (RFC 3339, "" when never recorded)."""

    fields: FieldSet
    time: str = ""


def decode_entries(managed_fields: Any) -> dict[Manager, Entry]:
    """Entries by manager; malformed ones are left out, as the server does on reading a request's."""
    out: dict[Manager, Entry] = {}
    for raw in managed_fields if isinstance(managed_fields, list) else []:
        if not isinstance(raw, dict) or raw.get("operation") not in ("Apply", "Update"):
            continue
        manager = Manager(
            str(raw.get("manager") or ""),
            raw["operation"],
            str(raw.get("apiVersion") or ""),
            str(raw.get("subresource") or ""),
        )
        fields = decode_fields(raw.get("fieldsV1"))
        known = out.get(manager)
        out[manager] = Entry(known.fields | fields if known else fields, str(raw.get("time") or ""))
    return out


def encode_entries(entries: dict[Manager, Entry]) -> list[dict[str, Any]]:
    """The list as stored: appliers first, then by time, then by name."""
    capped = _capped(entries)
    order = sorted(
        capped.items(),
        key=lambda item: (
            item[0].operation,
            item[1].time[:19],
            item[0].name,
            item[0].api_version,
            item[0].subresource,
        ),
    )
    return [_encode(manager, entry) for manager, entry in order]


def _encode(manager: Manager, entry: Entry) -> dict[str, Any]:
    out: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
    }
    if entry.time:
        out["time"] = entry.time
    out["fieldsType"] = "FieldsV1"
    out["fieldsV1"] = encode_fields(entry.fields)
    if manager.subresource:
        out["subresource"] = manager.subresource
    return out


def _capped(entries: dict[Manager, Entry]) -> dict[Manager, Entry]:
    updaters = [(manager, entry) for manager, entry in entries.items() if manager.operation == "Update"]
    if len(updaters) <= _UPDATERS_MAX:
        return entries
    updaters.sort(key=lambda item: (item[1].time, item[0].name))
    out = dict(entries)
    for manager, entry in updaters[: len(updaters) - _UPDATERS_MAX + 1]:
        del out[manager]
        ancient = Manager(_ANCIENT, "Update", manager.api_version, "")
        known = out.get(ancient)
        out[ancient] = Entry(known.fields | entry.fields if known else entry.fields, entry.time)
    return out


def manager_text(manager: Manager) -> str:
    """A manager as conflict messages name it."""
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return f"{text} using {manager.api_version}" if manager.operation == "Update" else text
