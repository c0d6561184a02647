"""What a table is made of: columns, and the texts that many of them share.

Source: k8s.io/kubernetes `pkg/printers/internalversion`, k8s.io/apimachinery `util/duration`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from chalkcompute.local.ports import Manifest

__all__ = ["Columns", "age", "column", "human_duration", "join_limited", "wide"]

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"
_NAME_HELP = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources "
    "may allow a client to request the generation of an appropriate name automatically."
)
_AGE_HELP = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is "
    "represented in RFC3339 form and is in UTC."
)

Definition: TypeAlias = dict[str, Any]
Cells: TypeAlias = Callable[[Manifest, datetime], Sequence[str | int | None]]


@dataclass(frozen=True, slots=True)
class Columns:
    """The table of one kind.

    Attributes:
        definitions: `columnDefinitions`, in order.
        cells: The cells of an object's row at a moment, as many as there are definitions.
    """

    definitions: tuple[Definition, ...]
    cells: Cells


def column(name: str, type_: str = "string", *, priority: int = 0) -> Definition:
    """A `TableColumnDefinition`."""
    help_text = {"Name": _NAME_HELP, "Age": _AGE_HELP}.get(name, "")
    format_ = "name" if name == "Name" else ""
    return {"name": name, "type": type_, "format": format_, "description": help_text, "priority": priority}


def wide(name: str, type_: str = "string") -> Definition:
    """A column that only `-o wide` shows."""
    return column(name, type_, priority=1)


def human_duration(seconds: int) -> str:
    """A span in at most two units: `90s`, `5m30s`, `3h`, `2d4h`, `400d`."""
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def since(text: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 time was."""
    if not text:
        return UNKNOWN
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return human_duration(int((now - moment).total_seconds()))


def age(obj: Manifest, now: datetime) -> str:
    """Time since an object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def name(obj: Manifest) -> str:
    return str(obj["metadata"]["name"])


def section(obj: Manifest, key: str) -> dict[str, Any]:
    """`spec` or `status`, {} when absent."""
    return obj.get(key) or {}


def selector_text(selector: dict[str, Any] | None) -> str:
    """A label map as text."""
    return ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items())) or NONE


def join_limited(parts: Sequence[str], limit: int) -> str:
    """The first few, and how many more."""
    if not parts:
        return NONE
    text = ",".join(parts[:limit])
    return f"{text} + {len(parts) - limit} more..." if len(parts) > limit else text


def condition(obj: Manifest, type_: str) -> dict[str, Any]:
    """A condition in `status.conditions`, {} when absent."""
    found = (c for c in section(obj, "status").get("conditions") or [] if c.get("type") == type_)
    result: dict[str, Any] = next(found, {})
    return result


def template_cells(obj: Manifest) -> tuple[str, str, str]:
    """Containers, images and selector of a workload."""
    spec = section(obj, "spec")
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
    return (
        ",".join(c.get("name", "") for c in containers),
        ",".join(c.get("image", "") for c in containers),
        selector_text((spec.get("selector") or {}).get("matchLabels")),
    )
