"""Whether a Pod fits a Node, and the words for why not. Pure.

Source: k8s.io/kubernetes `pkg/scheduler/framework/plugins` and `FitError`; the texts are what
`kubectl describe` shows and what diagnosis reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from chalkcompute.local.apimachinery.pod_resources import pod_requests
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.controllers.claims import claims_of
from chalkcompute.local.controllers.objects import is_deleting
from chalkcompute.local.controllers.pods import is_finished
from chalkcompute.local.ports import Manifest

__all__ = ["Placed", "Refused", "place", "requests_of"]

AFFINITY = "node(s) didn't match Pod's node affinity/selector"
TAINTED = "node(s) had untolerated taint(s)"
CORDONED = "node(s) were unschedulable"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
ONE_POD = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
_NO_VICTIMS = "No preemption victims found for incoming pod."
_NOT_HELPFUL = "Preemption is not helpful for scheduling."
_NO_CLAIMS: Mapping[str, Manifest] = MappingProxyType({})
_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class Placed:
    """The Pod goes to this node."""

    node: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No node takes the Pod; the message is the scheduler's."""

    message: str


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Why one node does not take a Pod, and whether evicting others could change that."""

    reasons: tuple[str, ...]
    preemptible: bool = False


def place(
    pod: Manifest,
    nodes: Sequence[Manifest],
    bound: Iterable[Manifest],
    claims: Mapping[str, Manifest] = _NO_CLAIMS,
) -> Placed | Refused:
    """Find a node: the first that fits.

    Args:
        pod: A Pod without a node.
        nodes: Every Node.
        bound: Pods that have a node; finished ones take nothing.
        claims: PersistentVolumeClaims of the Pod's namespace, by name.
    """
    if not nodes:
        return Refused("no nodes available to schedule pods")
    if (missing := _unready_claim(pod, claims)) is not None:
        return Refused(_refusal(len(nodes), missing, Counter({_NOT_HELPFUL: len(nodes)})))
    running = [other for other in bound if not is_finished(other)]
    misfits = []
    for node in nodes:
        name = node["metadata"]["name"]
        misfit = _misfit(pod, node, [p for p in running if p["spec"].get("nodeName") == name], claims)
        if misfit is None:
            return Placed(name)
        misfits.append(misfit)
    return Refused(_fit_error(misfits))


def _unready_claim(pod: Manifest, claims: Mapping[str, Manifest]) -> str | None:
    """The first claim that cannot be mounted: the plugin VolumeBinding, before any node is looked at."""
    for name in claims_of(pod):
        claim = claims.get(name)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if is_deleting(claim):
            return f'persistentvolumeclaim "{name}" is being deleted'
        if (claim.get("status") or {}).get("phase") != "Bound":
            return UNBOUND
    return None


def _fit_error(misfits: Sequence[_Misfit]) -> str:
    reasons = Counter(reason for misfit in misfits for reason in misfit.reasons)
    why = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    preemption = Counter(_NO_VICTIMS if misfit.preemptible else _NOT_HELPFUL for misfit in misfits)
    return _refusal(len(misfits), why, preemption)


def _refusal(total: int, why: str, preemption: Mapping[str, int]) -> str:
    what = ", ".join(sorted(f"{count} {text}" for text, count in preemption.items()))
    head = f"0/{total} nodes are available:"
    return f"{head} {why}. no new claims to deallocate, preemption: {head} {what}"


def _misfit(
    pod: Manifest, node: Manifest, others: Sequence[Manifest], claims: Mapping[str, Manifest]
) -> _Misfit | None:
    """The first filter that says no, in the scheduler's order."""
    tolerations = pod["spec"].get("tolerations") or ()
    if node["spec"].get("unschedulable") and not _tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return _Misfit((CORDONED,))
    taints = [t for t in node["spec"].get("taints") or () if t["effect"] in ("NoSchedule", "NoExecute")]
    if any(not _tolerated(taint, tolerations) for taint in taints):
        return _Misfit((TAINTED,))
    if not _matches(pod, node):
        return _Misfit((AFFINITY,))
    namespace = pod["metadata"].get("namespace")
    taken = {n for p in others if p["metadata"].get("namespace") == namespace for n in claims_of(p)}
    for name in taken.intersection(claims_of(pod)):
        if "ReadWriteOncePod" in claims[name]["spec"].get("accessModes", ()):
            return _Misfit((ONE_POD,), preemptible=True)
    return _resources_misfit(pod, node, others)


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        toleration.get("effect") in (None, "", taint["effect"])
        and toleration.get("key") in (None, "", taint["key"])
        and (
            toleration.get("operator") == "Exists"
            or (toleration.get("key") and toleration.get("value", "") == taint.get("value", ""))
        )
        for toleration in tolerations
    )


def _matches(pod: Manifest, node: Manifest) -> bool:
    """`nodeSelector` and the required node affinity."""
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    selector: Mapping[str, str] = pod["spec"].get("nodeSelector") or {}
    if not selector.items() <= labels.items():
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_holds(e, labels) for e in term.get("matchExpressions") or ())
        and all(_holds(e, fields) for e in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator if value is not None and value.lstrip("-").isdigit():
            bound = int(values[0])
            return int(value) > bound if operator == "Gt" else int(value) < bound
    return False


def requests_of(pod: Manifest) -> dict[str, Decimal]:
    """What a Pod asks for, in the resources' own units."""
    return {name: parse_quantity(amount) for name, amount in pod_requests(pod["spec"]).items()}


def _resources_misfit(pod: Manifest, node: Manifest, others: Sequence[Manifest]) -> _Misfit | None:
    stated = (node.get("status") or {}).get("allocatable") or {}
    allocatable = {resource: parse_quantity(str(amount)) for resource, amount in stated.items()}
    used: dict[str, Decimal] = {}
    for other in others:
        for resource, amount in requests_of(other).items():
            used[resource] = used.get(resource, Decimal(0)) + amount
    reasons, helpful = [], True
    if len(others) + 1 > allocatable.get("pods", Decimal(0)):
        reasons.append("Too many pods")
    for resource, amount in requests_of(pod).items():
        there = allocatable.get(resource, Decimal(0))
        if amount and used.get(resource, Decimal(0)) + amount > there:
            reasons.append(f"Insufficient {resource}")
            helpful = helpful and amount <= there
    return _Misfit(tuple(reasons), preemptible=helpful) if reasons else None
