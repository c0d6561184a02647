"""What people see of use and traffic: words, and one line for each look. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalk_cli.autoscaler_views import number
from chalk_cli.text import printable, with_flags
from chalk_cli.views import NOTHING
from chalkcompute.autoscaler import CPU
from chalkcompute.times import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from chalkcompute import ScaleEvent, ScalingGroupUsage

__all__ = [
    "age",
    "bytes_text",
    "cores_text",
    "cpu_target",
    "cpu_use",
    "event_line",
    "notes",
    "percent",
    "rate_text",
    "seconds_text",
    "step_text",
    "usage_line",
]

_UNITS = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))


def seconds_text(value: float | None) -> str:
    """A latency: `18ms`, `1.2s`."""
    if value is None:
        return NOTHING
    if value < 0.9995:
        return f"{value * 1000:.0f}ms"
    return f"{number(value)}s" if value < 100 else f"{value:.0f}s"


def rate_text(value: float | None) -> str:
    """Requests: `0`, `12.4`, `130`, `4.2k`."""
    if value is None:
        return NOTHING
    if value < 99.95:
        return number(value)
    return f"{value:.0f}" if value < 9999.5 else f"{number(value / 1000)}k"


def cores_text(value: float | None) -> str:
    """CPU: `430m`, `1.25`."""
    if value is None:
        return NOTHING
    if value < 0.0005:
        return "0"
    return f"{value * 1000:.0f}m" if value < 0.9995 else f"{value:.2f}".rstrip("0").rstrip(".")


def bytes_text(value: int | None) -> str:
    """Memory: `120Mi`, `1.2Gi`."""
    if value is None:
        return NOTHING
    for unit, size in _UNITS:
        if value >= size:
            amount = value / size
            return f"{number(amount) if amount < 10 else f'{amount:.0f}'}{unit}"
    return str(value)


def percent(value: float | None) -> str:
    """`86%`."""
    return NOTHING if value is None else f"{value:.0f}%"


def age(moment: datetime | None, now: datetime) -> str:
    """`12s`, `3m`, `5h`, `2d`."""
    if moment is None:
        return NOTHING
    seconds = max((now - moment).total_seconds(), 0.0)
    for unit, size, until in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds // 86400:.0f}d"


def cpu_target(group: ScalingGroupUsage) -> float | None:
    """Percent that the autoscaler keeps CPU use at, or None where it goes by something else."""
    return group.autoscaler.target.get(CPU) if group.autoscaler else None


def cpu_use(group: ScalingGroupUsage) -> float | None:
    """Percent of the request: what is measured now, else what the autoscaler saw last."""
    if group.cpu_utilization_percentage is not None or group.autoscaler is None:
        return group.cpu_utilization_percentage
    return group.autoscaler.current.get(CPU)


def step_text(event: ScaleEvent, arrow: str = "→") -> str:
    """`2 → 3`; without the first where it is not known."""
    before = "" if event.from_replicas is None else f"{event.from_replicas} "
    return f"{before}{arrow} {event.to_replicas}"


def usage_line(group: ScalingGroupUsage, at: datetime) -> str:
    """One look at one group as one line of `key=value`, for logs and `grep`."""
    counts, traffic = group.replicas, group.traffic
    target = cpu_target(group)
    fields = {
        "ready": f"{counts.ready}/{counts.desired}",
        "range": f"{counts.min}-{counts.max}",
        "cpu": percent(cpu_use(group)),
        "target": percent(target),
        "cores": cores_text(group.cpu_cores),
        "memory": bytes_text(group.memory_bytes),
        "rps": rate_text(traffic.requests_per_second if traffic else None),
        "in_flight": rate_text(traffic.requests_in_flight if traffic else None),
        "p50": seconds_text(traffic.p50_seconds if traffic else None),
        "p99": seconds_text(traffic.p99_seconds if traffic else None),
    }
    if group.autoscaler is not None and group.autoscaler.desired_replicas is not None:
        fields["wants"] = str(group.autoscaler.desired_replicas)
    words = [rfc3339(at) or "", group.name, group.status.value]
    return " ".join([*words, *(f"{key}={value}" for key, value in fields.items())])


def event_line(name: str, event: ScaleEvent) -> str:
    """`2026-11-30T19:10:12Z inference scaled 2 -> 3: why`."""
    why = f": {printable(event.reason)}" if event.reason else ""
    return f"{rfc3339(event.at)} {name} scaled {step_text(event, '->')}{why}"


def notes(group: ScalingGroupUsage) -> list[str]:
    """What is wrong with a group, or worth knowing of its autoscaler."""
    found = []
    if group.verdict is not None:
        found.append(f"{group.name}: {group.verdict.cause.value}: {group.verdict.message}")
    if group.autoscaler is not None:
        if group.autoscaler.blind and group.verdict is None:
            found.append(f"{group.name}: its autoscaler cannot scale: {group.autoscaler.blind}")
        elif group.autoscaler.message:
            found.append(f"{group.name}: {group.autoscaler.message}")
    return [printable(with_flags(text)) for text in found]
