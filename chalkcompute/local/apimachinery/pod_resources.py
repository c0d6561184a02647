"""What a Pod as a whole asks for and may have: `spec.resources` beside its containers' own. Pure.

Source: k8s.io/component-helpers `resource/helpers.go`, `pkg/apis/core/v1/defaults.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from chalkcompute.local.apimachinery.names import is_huge_page
from chalkcompute.local.apimachinery.quantity import parse_quantity, total_quantity

__all__ = [
    "Amounts",
    "Part",
    "amounts_of",
    "container_totals",
    "default_pod_resources",
    "effective_limits",
    "has_pod_resources",
    "is_pod_level",
    "pod_requests",
    "shared_limits",
]

Amounts: TypeAlias = dict[str, str]
"""Resource -> quantity."""
Part: TypeAlias = Literal["requests", "limits"]

_HELD = ("cpu", "memory")  # of the limits of a whole Pod, those that a kernel holds


def is_pod_level(resource: str) -> bool:
    """Whether `spec.resources` may name it."""
    return resource in _HELD or is_huge_page(resource)


def amounts_of(holder: Mapping[str, Any], part: Part) -> Amounts:
    """The requests or limits of a container, or of a Pod's spec as a whole."""
    stated = (holder.get("resources") or {}).get(part) or {}
    return {resource: str(amount) for resource, amount in stated.items()}


def has_pod_resources(spec: Mapping[str, Any]) -> bool:
    """Whether the Pod says anything as a whole."""
    return any(is_pod_level(name) for part in ("requests", "limits") for name in amounts_of(spec, part))


def pod_requests(spec: Mapping[str, Any]) -> Amounts:
    """What a Pod asks for: as a whole, or else all its containers."""
    whole = {name: amount for name, amount in amounts_of(spec, "requests").items() if is_pod_level(name)}
    return {**container_totals(spec, "requests"), **whole}


def container_totals(spec: Mapping[str, Any], part: Part) -> Amounts:
    """All its containers together: their sum, or an init container where that is more.

    Sidecars count to both: they run beside the containers, and beside the init containers after them.
    """
    sidecars: Amounts = {}
    initial: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _sum(amounts_of(container, part), sidecars)
        if container.get("restartPolicy") == "Always":
            sidecars = own
        initial = _most(own, initial)
    together = sidecars
    for container in spec.get("containers") or ():
        together = _sum(together, amounts_of(container, part))
    return _most(together, initial)


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: total_quantity(x[name] for x in (one, other) if name in x) for name in {**one, **other}}


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {
        name: max((x[name] for x in (one, other) if name in x), key=parse_quantity)
        for name in {**one, **other}
    }


def default_pod_resources(spec: dict[str, Any]) -> None:
    """Fill in `spec.resources` of a Pod, in place; the requests of its containers are complete already."""
    limits = amounts_of(spec, "limits")
    requests = amounts_of(spec, "requests")
    if not limits and not requests:
        return
    for name, amount in container_totals(spec, "limits").items():
        if is_huge_page(name) and name not in requests:
            limits.setdefault(name, amount)
    if limits:
        spec["resources"]["limits"] = limits
        of_containers = container_totals(spec, "requests").items()
        totals = {name: amount for name, amount in of_containers if name in _HELD}
        of_whole = {name: amount for name, amount in limits.items() if is_pod_level(name)}
        requests = {**of_whole, **totals, **requests}
    if requests:
        spec["resources"]["requests"] = requests


def effective_limits(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Amounts:
    """What one container may have: its own limit, the Pod's where it has none or a greater one."""
    limits = amounts_of(container, "limits")
    for name, whole in amounts_of(spec, "limits").items():
        most = parse_quantity(whole)
        # A limit of 0 is none, as for container runtimes.
        if is_pod_level(name) and most and not 0 < parse_quantity(limits.get(name, "0")) <= most:
            limits[name] = whole
    return limits


def shared_limits(spec: Mapping[str, Any]) -> list[str]:
    """Limits of the whole Pod that its containers could pass together though each one keeps its own."""
    held = {
        kind: [{"resources": {"limits": effective_limits(spec, each)}, **_policy(each)} for each in given]
        for kind in ("initContainers", "containers")
        if (given := spec.get(kind))
    }
    together = container_totals(held, "limits")
    return [
        name
        for name, whole in amounts_of(spec, "limits").items()
        if name in _HELD and 0 < parse_quantity(whole) < parse_quantity(together.get(name, "0"))
    ]


def _policy(container: Mapping[str, Any]) -> dict[str, Any]:
    return {"restartPolicy": container.get("restartPolicy")}
