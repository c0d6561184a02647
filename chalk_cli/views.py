"""What people see of a scaling group: rows of `list`, labels and values of `get`. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from chalk_cli.autoscaler_views import autoscaler_pairs
from chalk_cli.text import printable, verdict_evidence, with_flags
from chalkcompute.times import rfc3339
from chalkcompute.types import Action

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalkcompute.types import DeleteResult, DeployResult, ReplicaCounts, ScalingGroupInfo

__all__ = ["action_line", "delete_lines", "detail_pairs", "list_table", "replicas_text", "verdict_lines"]

LIST_HEADERS = ("ID", "NAME", "IMAGE", "STATUS", "REPLICAS", "WEB URL", "CREATED")
WIDE_HEADERS = (*LIST_HEADERS, "REVISION", "PORT", "ENVIRONMENT", "NAMESPACE", "TAGS", "UPDATED", "MESSAGE")
NOTHING = "-"


def list_table(
    groups: Sequence[ScalingGroupInfo], *, wide: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headers and rows of `list`."""
    rows = [_row(group) + (_more(group) if wide else ()) for group in groups]
    return (WIDE_HEADERS if wide else LIST_HEADERS), rows


def _row(group: ScalingGroupInfo) -> tuple[str, ...]:
    return (
        group.id,
        group.name,
        printable(group.image),
        group.status.value,
        replicas_text(group.replicas),
        group.web_url or NOTHING,
        rfc3339(group.created_at) or NOTHING,
    )


def _more(group: ScalingGroupInfo) -> tuple[str, ...]:
    return (
        str(group.revision),
        str(group.port),
        group.environment,
        group.namespace,
        _pairs(group.tags) or NOTHING,
        rfc3339(group.updated_at) or NOTHING,
        printable(group.status_message or NOTHING),
    )


def replicas_text(counts: ReplicaCounts) -> str:
    """`ready/desired (min–max)`."""
    return f"{counts.ready}/{counts.desired} ({counts.min}–{counts.max})"


def _pairs(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in mapping.items())


def detail_pairs(group: ScalingGroupInfo, *, wide: bool = False) -> list[tuple[str, str]]:
    """Labels and values of `get`, without the verdict."""
    counts = group.replicas
    pairs = [
        ("Name", group.name),
        ("ID", group.id),
        ("Status", group.status.value),
        *([("Note", group.status_message)] if group.status_message else []),
        ("Web URL", group.web_url or NOTHING),
        ("Image", group.image),
        ("Port", str(group.port)),
        (
            "Replicas",
            f"{counts.desired} desired, {counts.ready} ready, {counts.available} available"
            f" (min {counts.min}, max {counts.max})",
        ),
        *autoscaler_pairs(group.autoscaler),
        ("Revision", str(group.revision)),
        ("Environment", group.environment),
        ("Namespace", group.namespace),
        ("Tags", _pairs(group.tags) or NOTHING),
        *_spec_pairs(group.spec),
        ("Created", rfc3339(group.created_at) or NOTHING),
        ("Updated", rfc3339(group.updated_at) or NOTHING),
    ]
    if group.deleted_at is not None:
        pairs.append(("Deleted", rfc3339(group.deleted_at) or NOTHING))
    if wide:
        shown = {"name", "image", "port", "tags", *_SPEC_LABELS}
        pairs += [(key, _value(value)) for key, value in group.spec.items() if key not in shown]
    return [(label, printable(value)) for label, value in pairs]


_SPEC_LABELS = {
    "cpu": "CPU",
    "memory": "Memory",
    "gpu": "GPU",
    "target_cpu_utilization_percentage": "Target CPU",
    "scaling_interval_seconds": "Scaling interval",
    "shutdown_delay_seconds": "Shutdown delay",
    "startup_timeout_seconds": "Startup timeout",
    "idle_timeout_seconds": "Idle timeout",
    "entrypoint": "Entrypoint",
    "env": "Env",
    "args": "Arguments",
    "working_dir": "Working folder",
    "secrets": "Secrets",
    "volumes": "Volumes",
    "files": "Files",
    "readiness_probe": "Readiness probe",
    "min_replicas": None,
    "max_replicas": None,
}
"""Labels of the spec's fields; None for a field that another line shows."""

_DEFAULTS = {"cpu": "100m requested, limit 1 (default)", "memory": "256Mi requested, limit 1Gi (default)"}
_UNITS = {
    "target_cpu_utilization_percentage": "{}%",
    "scaling_interval_seconds": "{}s",
    "shutdown_delay_seconds": "{}s",
    "startup_timeout_seconds": "{}s",
    "idle_timeout_seconds": "{}s",
}


def _spec_pairs(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, label in _SPEC_LABELS.items():
        value = spec.get(key)
        if label is None or key not in spec:
            continue
        if value is None or value in ({}, [], ()):
            if key in _DEFAULTS:
                pairs.append((label, _DEFAULTS[key]))
            continue
        shown = _LISTED[key](value) if key in _LISTED else _value(value)
        pairs.append((label, _UNITS.get(key, "{}").format(shown)))
    return pairs


def _secrets(refs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{ref['env']} ({ref['secret']}/{ref['key']})" for ref in refs)


def _volumes(mounts: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{m['name']}:{m['path']}{':ro' if m.get('read_only') else ''}" for m in mounts)


def _files(mounts: Sequence[Mapping[str, Any]]) -> str:
    """A single file by its path, a directory with a slash at its end and how many files it has."""
    return ", ".join(
        f"{m['path']}/ ({len(m['entries'])})" if m["is_directory"] else m["path"] for m in mounts
    )


_LISTED = {"secrets": _secrets, "volumes": _volumes, "files": _files}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _pairs({key: item for key, item in value.items() if item is not None})
    if isinstance(value, (list, tuple)):
        return shlex.join(str(item) for item in value)
    return NOTHING if value is None else str(value)


def verdict_lines(group: ScalingGroupInfo) -> list[str]:
    """Why the group is not available, its evidence, and the next step; empty when there is no verdict."""
    verdict = group.verdict
    if verdict is None:
        return []
    lines = ["", f"{verdict.cause.value}: {printable(verdict.message)}"]
    lines += [f"  {line}" for line in verdict_evidence(verdict)]
    if verdict.next:
        lines.append(f"Next: {printable(with_flags(verdict.next))}")
    return lines


def action_line(result: DeployResult, *, dry_run: bool) -> str:
    """`created`, `updated (revision 3 → 4: image, cpu)` or `unchanged`, with the group's name."""
    words = f"scaling group `{result.info.name}` {result.action.value}"
    if result.action is Action.UPDATED:
        changes = f": {', '.join(result.changes)}" if result.changes else ""
        words += f" (revision {result.previous_revision} → {result.info.revision}{changes})"
    return f"{words} (dry run: nothing was written)" if dry_run else words


def delete_lines(result: DeleteResult) -> list[str]:
    """What a delete removed and what it kept."""
    lines = [f"scaling group `{result.name}` deleted"]
    if result.removed:
        lines.append(f"removed: {', '.join(result.removed)}")
    lines += [f"kept: {printable(kept)}" for kept in result.kept]
    return lines
