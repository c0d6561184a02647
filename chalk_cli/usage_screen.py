"""Use and traffic as a picture for a terminal: all groups, or one with its replicas. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from chalk_cli.autoscaler_views import number
from chalk_cli.columns import GAP, fitting_columns
from chalk_cli.text import printable
from chalk_cli.usage_views import (
    age,
    bytes_text,
    cores_text,
    cpu_target,
    cpu_use,
    notes,
    percent,
    rate_text,
    seconds_text,
    step_text,
)
from chalk_cli.views import NOTHING, replicas_text
from chalkcompute.autoscaler import IN_FLIGHT
from chalkcompute.types import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from chalkcompute import ReplicaUsage, ScaleEvent, ScalingGroupUsage, UsageReport

__all__ = ["usage_picture"]

T = TypeVar("T")
_FEWEST_ROWS = 3
_NAME_WIDTH = 24
_SHORT_NAME = 16  # of a name that much stays before a column goes for it
_WIDE = 100  # columns from which memory and the last change have room
_DISPENSABLE = ("P50", "OPEN", "P99", "REQ/S", "REPLICAS", "CPU")
"""Columns of the groups that go first where a terminal is too narrow for all."""
_COLOURS = {
    Status.AVAILABLE: "green",
    Status.RUNNING: "yellow",
    Status.PENDING: "yellow",
    Status.FAILED: "bold red",
    Status.SCALED_TO_ZERO: "blue",
}


def usage_picture(
    report: UsageReport,
    *,
    width: int,
    height: int,
    interval: float,
    events: int,
    detailed: bool,
    trouble: str | None = None,
) -> RenderableType:
    """The whole screen.

    Args:
        report: What was read last.
        width: Columns there are.
        height: Lines there are: rows that have no room are counted instead.
        interval: Seconds between looks.
        events: How many changes of the replica count to show.
        detailed: Whether it is one group's, with its replicas.
        trouble: Why the report is not of now, or None.
    """
    missing = [f"not shown: {printable(text)}" for text in report.missing]
    feet = [*_notes(report.groups, detailed, width, height // 3), *missing]
    below = _events_table(report, events, named=not detailed)
    taken = 4 + sum(_lines(text, width) for text in feet)
    taken += below.row_count + 2 if below is not None else 0
    if detailed and report.groups:
        group = report.groups[0]
        replicas, more = _fitting(group.replica_usage, height - taken - 5)
        middle: list[RenderableType] = [_facts(group), Text("")]
        prefix = f"{group.name}-" if width < _WIDE else ""
        middle += [_replicas_table(replicas, report.at, prefix), *more]
    elif report.groups:
        groups, more = _fitting(report.groups, height - taken)
        middle = [_groups_table(groups, report.at, width), *more]
    else:
        middle = [Text("no scaling groups here")]
    parts: list[RenderableType] = [_heading(report, interval, detailed), Text(""), *middle]
    if below is not None:
        parts += [Text(""), below]
    if feet:
        parts.append(Text(""))
        parts += [Text(text, style="dim" if text.startswith("not shown") else "yellow") for text in feet]
    if trouble is not None:
        parts.insert(1, Text(f"as of then; trying again: {printable(trouble)}", style="bold red"))
    return Group(*parts)


def _heading(report: UsageReport, interval: float, detailed: bool) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if detailed and report.groups:
        line.append(report.groups[0].name, style="bold").append("  ")
        line.append(report.groups[0].status.value, style=_COLOURS.get(report.groups[0].status, ""))
    else:
        count = len(report.groups)
        line.append(f"{count} group{'' if count == 1 else 's'}", style="bold")
    line.append(f"  {report.namespace}  {report.at:%H:%M:%S} UTC")
    line.append(f"  every {number(interval)} s, Ctrl-C ends", style="dim")
    return line


def _table(headers: Sequence[str], right: Iterable[str] = ()) -> Table:
    """Columns that keep their width but for the first, which is shortened where there is no room."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    numbers = set(right)
    for index, header in enumerate(headers):
        justify = "right" if header in numbers else "left"
        table.add_column(
            header,
            no_wrap=index > 0,
            overflow="ellipsis",
            justify=justify,  # type: ignore[arg-type]
        )
    return table


def _fitting(rows: Sequence[T], room: int) -> tuple[Sequence[T], list[RenderableType]]:
    """As many rows as there is room for, and how many others there are."""
    room = max(room, _FEWEST_ROWS)
    if len(rows) <= room:
        return rows, []
    return rows[: room - 1], [Text(f"and {len(rows) - room + 1} more", style="dim")]


def _groups_table(groups: Sequence[ScalingGroupUsage], now: datetime, width: int) -> Table:
    numbers = ("CPU", "MEMORY", "REQ/S", "P50", "P99", "OPEN")
    headers = ["NAME", "STATUS", "REPLICAS", *numbers, "SCALED"]
    if width < _WIDE:
        headers.remove("MEMORY")
        headers.remove("SCALED")
    rows = []
    for group in groups:
        traffic = group.traffic
        cells: dict[str, str | Text] = {
            "NAME": Text(group.name),
            "STATUS": Text(group.status.value, style=_COLOURS.get(group.status, "")),
            "REPLICAS": replicas_text(group.replicas),
            "CPU": _cpu(group),
            "MEMORY": bytes_text(group.memory_bytes),
            "REQ/S": rate_text(traffic.requests_per_second if traffic else None),
            "P50": seconds_text(traffic.p50_seconds if traffic else None),
            "P99": seconds_text(traffic.p99_seconds if traffic else None),
            "OPEN": rate_text(traffic.requests_in_flight if traffic else None),
            "SCALED": _last(group, now),
        }
        rows.append(cells)
    texts = [[str(row[header]) for header in headers] for row in rows]
    kept = fitting_columns(headers, texts, width, _DISPENSABLE, shortened={"NAME": _SHORT_NAME})
    headers = [headers[index] for index in kept]
    table = _table(headers, numbers)
    for row in rows:
        table.add_row(*(row[header] for header in headers))
    return table


def _cpu(group: ScalingGroupUsage) -> Text:
    """`86%/70%`: use and target; yellow when it is above."""
    now, target = cpu_use(group), cpu_target(group)
    above = now is not None and target is not None and now > target
    words = percent(now) if target is None else f"{percent(now)}/{percent(target)}"
    return Text(words, style="yellow" if above else "")


def _last(group: ScalingGroupUsage, now: datetime) -> str:
    found = group.autoscaler
    if found is None or found.last_scale_at is None:
        return NOTHING
    return f"{age(found.last_scale_at, now)} ago"


def _facts(group: ScalingGroupUsage) -> Table:
    """Two columns of labels and values."""
    traffic, scaler, counts = group.traffic, group.autoscaler, group.replicas
    target = cpu_target(group)
    cpu = f"{percent(cpu_use(group))} of the request, {cores_text(group.cpu_cores)} in all"
    wants = NOTHING if scaler is None else "" if scaler.state is None else scaler.state
    if scaler is not None and scaler.desired_replicas is not None:
        wants = ", ".join(filter(None, (wants, f"wants {scaler.desired_replicas}")))
    in_flight = scaler.target.get(IN_FLIGHT) if scaler is not None else None
    targets = [f"CPU {percent(target)}"] if target is not None else []
    targets += [f"{number(in_flight)} open per replica"] if in_flight is not None else []
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True, overflow="ellipsis")
    rows = (
        ("Replicas", f"{counts.ready} of {counts.desired} ready ({counts.min}–{counts.max})"),
        ("Requests", f"{rate_text(traffic.requests_per_second if traffic else None)}/s"),
        ("CPU", cpu if group.cpu_cores is not None else percent(cpu_use(group))),
        ("Open", rate_text(traffic.requests_in_flight if traffic else None)),
        ("Target", ", ".join(targets) or NOTHING),
        ("Latency p50", seconds_text(traffic.p50_seconds if traffic else None)),
        ("Autoscaler", wants or NOTHING),
        ("Latency p99", seconds_text(traffic.p99_seconds if traffic else None)),
    )
    for (left, value), (right, other) in zip(rows[::2], rows[1::2], strict=True):
        table.add_row(Text(left, style="bold"), f"{value}   ", Text(right, style="bold"), other)
    return table


def _replicas_table(replicas: Sequence[ReplicaUsage], now: datetime, prefix: str) -> Table:
    """Each replica; where there is little room, what all names begin with is left out."""
    numbers = ("CPU", "MEMORY", "RESTARTS", "AGE")
    table = _table(("REPLICA", "STATE", "READY", *numbers), numbers)
    for replica in replicas:
        table.add_row(
            Text(f"…{replica.name.removeprefix(prefix)}" if prefix else replica.name),
            Text(replica.state, style="" if replica.state == "Running" else "yellow"),
            "yes" if replica.ready else "no",
            _replica_cpu(replica),
            _replica_memory(replica),
            str(replica.restarts),
            age(replica.created_at, now),
        )
    if not replicas:
        table.add_row(Text("no replica runs", style="dim"))
    return table


def _replica_cpu(replica: ReplicaUsage) -> str:
    """`430m (43%)`."""
    if replica.cpu_cores is None or not replica.cpu_request_cores:
        return cores_text(replica.cpu_cores)
    return f"{cores_text(replica.cpu_cores)} ({percent(100 * replica.cpu_cores / replica.cpu_request_cores)})"


def _replica_memory(replica: ReplicaUsage) -> str:
    """`120Mi of 1Gi`."""
    if replica.memory_bytes is None or replica.memory_limit_bytes is None:
        return bytes_text(replica.memory_bytes)
    return f"{bytes_text(replica.memory_bytes)} of {bytes_text(replica.memory_limit_bytes)}"


def _events_table(report: UsageReport, count: int, *, named: bool) -> Table | None:
    """The newest changes of the replica count, newest first."""
    found: list[tuple[str, ScaleEvent]] = [(g.name, e) for g in report.groups for e in g.scale_events]
    newest = sorted(found, key=lambda pair: pair[1].at, reverse=True)[:count]
    if not newest:
        return None
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    table.add_column("SCALED", no_wrap=True)
    if named:
        table.add_column("NAME", no_wrap=True, max_width=_NAME_WIDTH, overflow="ellipsis")
    table.add_column("FROM → TO", no_wrap=True)
    table.add_column("WHY")
    for name, event in newest:
        cells = [f"{age(event.at, report.at)} ago", *([name] if named else []), step_text(event)]
        # The one column that gives way, and on one line.
        table.add_row(*cells, Text(printable(event.reason) or NOTHING, no_wrap=True, overflow="ellipsis"))
    return table


def _notes(groups: Sequence[ScalingGroupUsage], detailed: bool, width: int, room: int) -> list[str]:
    """What is wrong, in no more lines than there is room for: said once of all that have it."""
    names: dict[str, list[str]] = {}
    for group in groups:
        for text in notes(group):
            names.setdefault(text.removeprefix(f"{group.name}: "), []).append(group.name)
    found = [f"{_several(who)}: {what}" for what, who in names.items()]
    if detailed:
        return found
    while len(found) > 1 and sum(_lines(text, width) for text in found) > room:
        found.pop()
    more = len(names) - len(found)
    return [*found, f"and {more} more that `chalk scaling-group list` tells"] if more else found


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _lines(text: str, width: int) -> int:
    return 1 + (cell_len(text) - 1) // max(width, 1)
