"""What people see of an autoscaler: labels and values of `get`, words shared with `top`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalk_cli.text import printable, with_flags
from chalkcompute.autoscaler import CPU, IN_FLIGHT
from chalkcompute.times import rfc3339

if TYPE_CHECKING:
    from chalkcompute import AutoscalerInfo

__all__ = ["autoscaler_pairs", "number"]


def autoscaler_pairs(found: AutoscalerInfo | None) -> list[tuple[str, str]]:
    """Labels and values of `get`; none for a fixed count."""
    if found is None:
        return []
    pairs = [("Autoscaler", _summary(found))]
    if found.state != "asleep" and (metrics := [_metric(found, key) for key in found.target]):
        pairs.append(("Load", "; ".join(metrics)))
    if found.last_scale_at is not None:
        why = f": {found.last_scale_reason}" if found.last_scale_reason else ""
        pairs.append(("Last scaled", f"{rfc3339(found.last_scale_at)}{why}"))
    if found.last_active_at is not None:
        pairs.append(("Last request", rfc3339(found.last_active_at) or ""))
    if found.blind:
        pairs.append(("Cannot scale", found.blind))
    if found.message:
        pairs.append(("Scaling note", found.message))
    return [(label, printable(with_flags(value))) for label, value in pairs]


def _summary(found: AutoscalerInfo) -> str:
    """`HorizontalPodAutoscaler, has 2, wants 3`."""
    words = [found.kind if found.kind == "HorizontalPodAutoscaler" else f"KEDA ({found.kind})"]
    if found.state is not None:
        idle = found.idle_timeout_seconds
        words.append(f"awake, sleeps after {idle}s without a request" if _will_sleep(found) else found.state)
    if found.state != "asleep":
        counts = (("has", found.current_replicas), ("wants", found.desired_replicas))
        words += [f"{word} {count}" for word, count in counts if count is not None]
    return ", ".join(words)


def _will_sleep(found: AutoscalerInfo) -> bool:
    return found.state == "awake" and found.idle_timeout_seconds is not None


def _metric(found: AutoscalerInfo, key: str) -> str:
    """`CPU 43% of the request, target 70%`."""
    target, current = found.target[key], found.current.get(key)
    if key == CPU:
        wanted = f"{number(target)}%{' (cluster default)' if found.target_is_default else ''}"
        now = "not measured" if current is None else f"{number(current)}% of the request"
        return f"CPU {now}, target {wanted}"
    name = "requests in flight per replica" if key == IN_FLIGHT else key
    return f"{name} {'-' if current is None else number(current)}, target {number(target)}"


def number(value: float) -> str:
    """At most one decimal, none where it says nothing: `12.4`, `70`."""
    return f"{value:.1f}".removesuffix(".0")
