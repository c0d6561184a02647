"""What sets a group's replica count and how that does, out of live objects. Pure; `now` is a parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.autoscaler import CPU, IN_FLIGHT, AutoscalerCondition, AutoscalerInfo, ScaleEvent
from chalkcompute.manifests import labels
from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.autoscaler import IDLE_SECONDS
from chalkcompute.manifests.live import FORBIDDEN, UNASKED, UNSERVED, LiveGroup, Unasked
from chalkcompute.manifests.pods import Pod, condition, seconds_since
from chalkcompute.manifests.scale_events import scale_events
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Manifest

__all__ = [
    "INSTALL_METRICS",
    "KedaTrouble",
    "autoscaler_info",
    "awaits_keda",
    "is_group_scaler",
    "keda_trouble",
    "paused_by",
]

INSTALL_METRICS = (
    "kubectl apply -f "
    "https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml"
)
_YOUNG_SECONDS = 120.0
"""Metrics servers measure over up to a minute, and autoscalers look every 15 s: what has not run for so long
need not be measured yet."""
_ANSWER_SECONDS = 60.0  # a controller that has not looked at a new object by then does not run
_KEDA_SECONDS = 30.0
_SAME_SECONDS = 30.0  # `lastScaleTime` and the Event about it are written one after the other
_PAUSES = tuple(f"autoscaling.keda.sh/{name}" for name in ("paused", "paused-replicas", "paused-scale-out"))
_PAUSED_SCALE_IN = "autoscaling.keda.sh/paused-scale-in"

_NO_REQUEST = re.compile(r"missing request for (\S+) in container (\S+)")
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


def autoscaler_info(live: LiveGroup, now: datetime) -> AutoscalerInfo | None:
    """The autoscaler of a group; None where it has none, or nobody asked."""
    mode = live.record.spec.mode
    if mode == "hpa" and live.hpa is not UNASKED:
        return _of_hpa(live, live.hpa, now)
    if mode == "keda" and live.scaled_object is not UNASKED:
        return _of_keda(live, live.scaled_object, now)
    return None


def is_group_scaler(hpa: Manifest, group_id: str, name: str) -> bool:
    """Whether a HorizontalPodAutoscaler is the group's own, or the one that KEDA made for it."""
    owners = hpa["metadata"].get("ownerReferences") or ()
    return labels.is_owned_by(hpa, group_id) or any(
        owner.get("kind") == "ScaledObject" and owner.get("name") == name for owner in owners
    )


def _of_hpa(live: LiveGroup, hpa: Manifest | Unasked | None, now: datetime) -> AutoscalerInfo:
    spec, kind = live.record.spec, "HorizontalPodAutoscaler"
    asked = spec.target_cpu_utilization_percentage
    if isinstance(hpa, Unasked) or hpa is None:
        target = {} if asked is None else {CPU: float(asked)}
        lacking = (
            f"there is no {kind} `{spec.name}`, so nothing scales the group: deploy again, that makes it"
        )
        return AutoscalerInfo(
            kind,
            target=target,
            current=dict.fromkeys(target),
            blind=lacking if hpa is None else None,
            message=f"the {kind} may not be read with this credential" if hpa is FORBIDDEN else None,
        )
    status = hpa.get("status") or {}
    blind, message = _sight(hpa, live, now)
    target, current = _metrics(hpa)
    at, why = _last_scale(parse_time(status.get("lastScaleTime")), _events(live))
    return AutoscalerInfo(
        kind,
        target=target,
        target_is_default=asked is None and CPU in target,
        current=current,
        current_replicas=_count(hpa, "currentReplicas"),
        desired_replicas=_desired(hpa),
        last_scale_at=at,
        last_scale_reason=why,
        blind=blind,
        message=message,
        conditions=_conditions(hpa),
    )


def _of_keda(live: LiveGroup, found: Manifest | Unasked | None, now: datetime) -> AutoscalerInfo:
    scaled: Manifest = {} if isinstance(found, Unasked) or found is None else found
    hpa: Manifest = {} if isinstance(live.hpa, Unasked) or live.hpa is None else live.hpa
    status, made = scaled.get("status") or {}, hpa.get("status") or {}
    state = _state(live, scaled)
    trouble = keda_trouble(live, now)
    blind = f"{trouble.text}: {trouble.next}" if trouble else None
    message: str | None = None
    if found is FORBIDDEN:
        message = "the ScaledObject may not be read with this credential"
    elif blind is None and state == "awake" and hpa and not _saw_it_asleep(hpa):
        blind, message = _sight(hpa, live, now)
    target, current = _metrics(hpa) if hpa else _asked_of_keda(live)
    if state == "asleep" or _saw_it_asleep(hpa):
        current = dict.fromkeys(target)
    at, why = _last_scale(parse_time(made.get("lastScaleTime")), _events(live))
    idle = (scaled.get("spec") or {}).get("cooldownPeriod", IDLE_SECONDS) if scaled else None
    return AutoscalerInfo(
        "ScaledObject",
        target=target,
        current=current,
        current_replicas=_count(hpa, "currentReplicas"),
        desired_replicas=None if state == "asleep" else _desired(hpa),
        last_scale_at=at,
        last_scale_reason=why,
        blind=blind,
        message=message,
        state=state,
        idle_timeout_seconds=idle,
        last_active_at=parse_time(status.get("lastActiveTime")),
        conditions=(*_conditions(scaled), *_conditions(hpa)),
    )


def _saw_it_asleep(hpa: Manifest) -> bool:
    """Whether KEDA's autoscaler has not looked since the group woke: it is off while there is no replica."""
    return condition(hpa, "ScalingActive").get("reason") == "ScalingDisabled"


def _count(hpa: Manifest, field: str) -> int | None:
    """A count of the status; it is 0 until a controller has looked, which nobody has counted."""
    status = hpa.get("status") or {}
    return status.get(field) if status.get("conditions") else None


def _desired(hpa: Manifest) -> int | None:
    """The count that it wants. It takes none to zero: 0 says that it is off, or has not measured yet."""
    return None if _saw_it_asleep(hpa) else _count(hpa, "desiredReplicas") or None


def _state(live: LiveGroup, scaled: Manifest) -> str | None:
    if paused_by(scaled):
        return "paused"
    if condition(scaled, "Fallback").get("status") == "True":
        return "fallback"
    deployment = live.own_deployment
    if deployment is None:
        return None
    return "awake" if deployment["spec"].get("replicas", 1) else "asleep"


def paused_by(scaled: Manifest) -> str | None:
    """The annotation of a ScaledObject that keeps KEDA from starting replicas, or None."""
    annotations = (scaled.get("metadata") or {}).get("annotations") or {}
    for name in _PAUSES:
        if annotations.get(name, "false") != "false":
            return name
    paused = condition(scaled, "Paused").get("status") == "True"
    return _PAUSES[0] if paused and _PAUSED_SCALE_IN not in annotations else None


@dataclass(frozen=True, slots=True)
class KedaTrouble:
    """Why KEDA does not scale a group.

    Attributes:
        text: What is wrong.
        next: What to do.
        reason: Reason of the condition, or None.
        said: What KEDA says of it, or "".
    """

    text: str
    next: str
    reason: str | None = None
    said: str = ""


def awaits_keda(live: LiveGroup) -> bool:
    """Whether KEDA has yet to take up the group's ScaledObject, or says that it cannot."""
    found = live.scaled_object
    if isinstance(found, Unasked) or found is None or live.record.spec.mode != "keda" or paused_by(found):
        return False
    return condition(found, "Ready").get("status") != "True"


def keda_trouble(live: LiveGroup, now: datetime) -> KedaTrouble | None:
    """What keeps KEDA from scaling a group; None where nothing does, or nobody asked."""
    found, name = live.scaled_object, live.record.name
    if found is UNSERVED:
        return KedaTrouble(
            "the cluster does not serve KEDA's ScaledObjects any more",
            "have KEDA and its HTTP add-on installed again, then deploy again",
        )
    if isinstance(found, Unasked) or live.record.spec.mode != "keda":
        return None
    if found is None:
        if live.record.operation is not None or live.own_deployment is None:
            return None  # a deploy is under way, or says itself what it lacks
        return KedaTrouble(f"the ScaledObject `{name}` does not exist", "deploy again: that makes it")
    if annotation := paused_by(found):
        return KedaTrouble(
            f"KEDA is told not to scale the group: its ScaledObject has the annotation `{annotation}`",
            f"take it away (`kubectl annotate scaledobject {name} {annotation}-`)",
            reason="Paused",
        )
    ready = condition(found, "Ready")
    age = live.seconds_for(parse_time(found["metadata"].get("creationTimestamp")), now)
    if ready.get("status") == "True" or age < _KEDA_SECONDS:
        return None
    said, reason = str(ready.get("message") or "").strip().rstrip("."), ready.get("reason")
    if ready.get("status") != "False":
        text = "KEDA has not looked at the ScaledObject"
        return KedaTrouble(text, "see that its operator runs (`kubectl get pods -n keda`)", reason, said)
    advice = (
        "correct what KEDA names; its operator's log says more (`kubectl -n keda logs deploy/keda-operator`)"
    )
    return KedaTrouble(
        f"KEDA cannot scale the group: {said or reason or 'it does not say why'}", advice, reason, said
    )


def _sight(hpa: Manifest, live: LiveGroup, now: datetime) -> tuple[str | None, str | None]:
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
    if condition(hpa, "ScalingLimited").get("reason") == "TooManyReplicas":
        return (
            None,
            f"it would have more replicas than `max_replicas` ({live.record.spec.max_replicas}) allows",
        )
    least = max(live.record.spec.min_replicas, 1)
    if able.get("reason") == "ScaleDownStabilized" and (_count(hpa, "desiredReplicas") or 0) > least:
        return (
            None,
            "it takes replicas away only when the load has been lower for a while (5 minutes by default)",
        )
    return None, None


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
    if re.search(_UNMEASURED, text) and (why := _not_yet(active, live, now)):
        return None, why
    if "Metric" in reason:
        for pattern, meaning in _BLIND:
            if re.search(pattern, text):
                return meaning, None
    return f"it cannot work: {_said(active)}", None


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


def _metrics(hpa: Manifest) -> tuple[dict[str, float], dict[str, float | None]]:
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


def _asked_of_keda(live: LiveGroup) -> tuple[dict[str, float], dict[str, float | None]]:
    """The targets that are known without KEDA's HorizontalPodAutoscaler."""
    asked = live.record.spec.target_cpu_utilization_percentage
    target = {} if asked is None else {CPU: float(asked)}
    return target, dict.fromkeys(target)


def _events(live: LiveGroup) -> Sequence[ScaleEvent]:
    return scale_events(live.scaler_events or (), live.record.name)


def _last_scale(at: datetime | None, events: Sequence[ScaleEvent]) -> tuple[datetime | None, str | None]:
    """When the count was last changed, and why as far as an Event still says."""
    newest = events[-1] if events else None
    if newest is not None and (at is None or newest.at > at):
        return newest.at, newest.reason or None
    near = [event for event in events if at and abs((event.at - at).total_seconds()) <= _SAME_SECONDS]
    return at, (near[-1].reason or None) if near else None


def _conditions(obj: Manifest) -> tuple[AutoscalerCondition, ...]:
    return tuple(
        AutoscalerCondition(
            str(found.get("type") or ""),
            str(found.get("status") or ""),
            str(found.get("reason") or ""),
            str(found.get("message") or ""),
        )
        for found in (obj.get("status") or {}).get("conditions") or ()
    )
