"""What a HorizontalPodAutoscaler says of itself: what it measures, why it is blind, what limits it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from chalkcompute.autoscaler import CPU, IN_FLIGHT
from chalkcompute.manifests import labels
from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.live import LiveGroup
from chalkcompute.manifests.pods import Pod, condition, seconds_since
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Manifest

__all__ = ["INSTALL_METRICS", "count", "desired", "metrics", "saw_it_asleep", "sight"]

INSTALL_METRICS = (
    "kubectl apply -f "
    "https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml"
)
_YOUNG_SECONDS = 120.0
"""Metrics servers measure over up to a minute, and autoscalers look every 15 s: what has not run for so long
need not be measured yet."""
_ANSWER_SECONDS = 60.0  # a controller that has not looked at a new object by then does not run

_NO_REQUEST = re.compile(r"missing request for (\S+) in container (\S+)")
_SHARED = re.compile(r"controlled by multiple HPAs: \[([^\]]*)\]")
_UNMEASURED = r"no metrics returned|did not receive metrics"
# What the HPA controller says where it has no measurement, and what that means; the first that fits.
_BLIND: tuple[tuple[str, str], ...] = (
    (
        r"could not find the requested resource|no matches for kind",
        "it cannot see CPU use, for the cluster serves no `metrics.k8s.io`: install metrics-server "
        f"(`{INSTALL_METRICS}`)",
    ),
    (
        r"currently unable to handle the request|service unavailable|connection refused|i/o timeout",
        "it cannot see CPU use, for metrics-server does not answer: see that it runs "
        "(`kubectl -n kube-system get pods -l k8s-app=metrics-server`)",
    ),
    (
        r"is forbidden",
        "it cannot see CPU use, for the autoscaler's own account may not read `metrics.k8s.io`: ask whoever "
        "runs the cluster",
    ),
    (
        _UNMEASURED,
        "it cannot see CPU use, for metrics-server has no measurement of the replicas: look at its log "
        "(`kubectl -n kube-system logs -l k8s-app=metrics-server`)",
    ),
)


def sight(hpa: Manifest, live: LiveGroup, now: datetime) -> tuple[str | None, str | None]:
    """Why a HorizontalPodAutoscaler cannot do its work, or what is worth knowing of it otherwise."""
    able, active = condition(hpa, "AbleToScale"), condition(hpa, "ScalingActive")
    if not able and not active:
        age = live.seconds_for(parse_time(hpa["metadata"].get("creationTimestamp")), now)
        if age < _ANSWER_SECONDS:
            return None, "no measurement yet"
        return (
            "no controller has looked at the HorizontalPodAutoscaler since it was made: ask whoever runs the "
            "cluster whether kube-controller-manager runs",
            None,
        )
    if able.get("status") == "False":
        return f"it cannot set the replica count: {_said(able)}", None
    if active.get("status") == "False":
        return _inactive(active, live, now)
    return None, _limit(hpa, live)


def _limit(hpa: Manifest, live: LiveGroup) -> str | None:
    """What holds an autoscaler back that works, or None."""
    least, most = max(live.record.spec.min_replicas, 1), live.record.spec.max_replicas
    stays = (
        condition(hpa, "AbleToScale").get("reason") == "ScaleDownStabilized"
        and (count(hpa, "desiredReplicas") or 0) > least
    )
    # After a peak that asked for more than the maximum both hold: what is measured tells whether it still is.
    if condition(hpa, "ScalingLimited").get("reason") == "TooManyReplicas" and not (
        stays and _is_within_target(hpa)
    ):
        return f"it would have more replicas than `max_replicas` ({most}) allows"
    if stays:
        return "it takes replicas away only when the load has been lower for a while (5 minutes by default)"
    return None


def _is_within_target(hpa: Manifest) -> bool:
    target, current = metrics(hpa)
    return all((value := current[key]) is not None and value <= wanted for key, wanted in target.items())


def _inactive(active: Mapping[str, Any], live: LiveGroup, now: datetime) -> tuple[str | None, str | None]:
    reason, text = str(active.get("reason") or ""), str(active.get("message") or "")
    if reason == "ScalingDisabled":
        return (
            "the replica count was set to 0, which switches it off: deploy again, that brings it back",
            None,
        )
    if lacking := _NO_REQUEST.search(text):
        what = lacking[1].upper()
        return (
            f"it cannot see {what} use, for the container `{lacking[2]}` of the replicas has no {what} "
            "request: have whatever adds that container give it one",
            None,
        )
    if shared := _SHARED.search(text):
        return _told_of_others(shared[1].split(), live), None
    if re.search(_UNMEASURED, text) and (why := _not_yet(active, live, now)):
        return None, why
    if "Metric" in reason:
        for pattern, meaning in _BLIND:
            if re.search(pattern, text):
                return meaning, None
    return f"it cannot work: {_said(active)}", None


def _told_of_others(names: Sequence[str], live: LiveGroup) -> str:
    """What to say of HorizontalPodAutoscalers, `namespace/name`, that select the same replicas."""
    others = [
        name.rpartition("/")[2] for name in names
    ]  # Pods, and so what scales them, are in one namespace
    deletes = [
        f"`kubectl delete horizontalpodautoscaler {name} -n {live.record.namespace}`"
        for name in others
        if name != live.record.name
    ]
    return (
        "another HorizontalPodAutoscaler is on its replicas, so that neither works: delete it "
        f"({', '.join(deletes)})"
    )


def _not_yet(active: Mapping[str, Any], live: LiveGroup, now: datetime) -> str | None:
    """Why there need be no measurement yet, or None."""
    # Blind for a moment only: replicas that start again are measured anew.
    times = [parse_time(active.get("lastTransitionTime"))]
    if live.pods is None:
        times.append(live.record.written_at or live.record.updated_at)
    else:
        alive = [Pod(pod) for pod in live.pods if labels.is_owned_by(pod, live.record.id)]
        ready = [pod for pod in alive if pod.is_ready and not pod.is_over]
        if not ready:
            return "no measurement while no replica is ready"
        times.append(max((pod.running_since for pod in ready), key=lambda t: seconds_since(t, now)))
    young = any(t is not None and seconds_since(t, now) < _YOUNG_SECONDS for t in times)
    return "no measurement yet" if young else None


def _said(found: Mapping[str, Any]) -> str:
    text, reason = str(found.get("message") or "").strip().rstrip("."), str(found.get("reason") or "")
    return ", ".join(part for part in (reason, text) if part) or "it does not say why"


def metrics(hpa: Manifest) -> tuple[dict[str, float], dict[str, float | None]]:
    """Targets of a HorizontalPodAutoscaler, and what they are now."""
    target: dict[str, float] = {}
    current: dict[str, float | None] = {}
    answered = {_identity(m): _source(m) for m in (hpa.get("status") or {}).get("currentMetrics") or ()}
    for metric in (hpa.get("spec") or {}).get("metrics") or ():
        key, wanted = _key(metric), _source(metric).get("target") or {}
        field = next((f for f in ("averageUtilization", "averageValue", "value") if f in wanted), None)
        value = amount(wanted[field]) if field is not None else None
        if key is not None and value is not None:
            target[key] = value
            now = answered.get(_identity(metric), {}).get("current") or {}
            current[key] = amount(now.get(field))
    return target, current


def _source(metric: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = str(metric.get("type") or "")
    found = metric.get(kind[:1].lower() + kind[1:]) if kind else None
    return found if isinstance(found, Mapping) else {}


def _identity(metric: Mapping[str, Any]) -> tuple[str, str]:
    source = _source(metric)
    return str(metric.get("type")), str(source.get("name") or (source.get("metric") or {}).get("name") or "")


def _key(metric: Mapping[str, Any]) -> str | None:
    kind, name = _identity(metric)
    if kind == "External":
        return IN_FLIGHT  # the one that KEDA's HTTP add-on answers
    if kind in ("Resource", "ContainerResource") and name == "cpu":
        return CPU
    return name or None


def saw_it_asleep(hpa: Manifest) -> bool:
    """Whether KEDA's autoscaler has not looked since the group woke: it is off while there is no replica."""
    return condition(hpa, "ScalingActive").get("reason") == "ScalingDisabled"


def count(hpa: Manifest, field: str) -> int | None:
    """A count of the status; it is 0 until a controller has looked, which nobody has counted."""
    status = hpa.get("status") or {}
    return status.get(field) if status.get("conditions") else None


def desired(hpa: Manifest) -> int | None:
    """The count that it wants. It takes none to zero: 0 says that it is off, or has not measured yet."""
    return None if saw_it_asleep(hpa) else count(hpa, "desiredReplicas") or None
