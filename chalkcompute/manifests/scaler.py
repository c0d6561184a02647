"""What sets a group's replica count and how that does, out of live objects. Pure; `now` is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalkcompute.autoscaler import CPU, AutoscalerCondition, AutoscalerInfo, ScaleEvent
from chalkcompute.manifests import labels
from chalkcompute.manifests.autoscaler import IDLE_SECONDS
from chalkcompute.manifests.hpa_status import count, desired, metrics, saw_it_asleep, sight
from chalkcompute.manifests.live import FORBIDDEN, UNASKED, UNSERVED, LiveGroup, Unasked
from chalkcompute.manifests.pods import condition
from chalkcompute.manifests.scale_events import scale_events
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Manifest

__all__ = [
    "KedaTrouble",
    "autoscaler_info",
    "awaits_keda",
    "is_group_scaler",
    "keda_trouble",
    "paused_by",
]

_KEDA_SECONDS = 30.0
_SAME_SECONDS = 30.0  # `lastScaleTime` and the Event about it are written one after the other
_PAUSES = tuple(f"autoscaling.keda.sh/{name}" for name in ("paused", "paused-replicas", "paused-scale-out"))
_PAUSED_SCALE_IN = "autoscaling.keda.sh/paused-scale-in"


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
        lacking = f"there is no {kind} `{spec.name}`; deploy again, that makes it"
        return AutoscalerInfo(
            kind,
            target=target,
            current=dict.fromkeys(target),
            blind=lacking if hpa is None else None,
            message=f"the {kind} may not be read with this credential" if hpa is FORBIDDEN else None,
        )
    status = hpa.get("status") or {}
    blind, message = sight(hpa, live, now)
    target, current = metrics(hpa)
    at, why = _last_scale(parse_time(status.get("lastScaleTime")), _events(live))
    return AutoscalerInfo(
        kind,
        target=target,
        target_is_default=asked is None and CPU in target,
        current=current,
        current_replicas=count(hpa, "currentReplicas"),
        desired_replicas=desired(hpa),
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
    blind = f"{trouble.text}; {trouble.next}" if trouble else None
    message: str | None = None
    if found is FORBIDDEN:
        message = "the ScaledObject may not be read with this credential"
    elif blind is None and state == "awake" and hpa and not saw_it_asleep(hpa):
        blind, message = sight(hpa, live, now)
    target, current = metrics(hpa) if hpa else _asked_of_keda(live)
    if state == "asleep" or saw_it_asleep(hpa):
        current = dict.fromkeys(target)
    at, why = _last_scale(parse_time(made.get("lastScaleTime")), _events(live))
    idle = (scaled.get("spec") or {}).get("cooldownPeriod", IDLE_SECONDS) if scaled else None
    return AutoscalerInfo(
        "ScaledObject",
        target=target,
        current=current,
        current_replicas=count(hpa, "currentReplicas"),
        desired_replicas=None if state == "asleep" else desired(hpa),
        last_scale_at=at,
        last_scale_reason=why,
        blind=blind,
        message=message,
        state=state,
        idle_timeout_seconds=idle,
        last_active_at=parse_time(status.get("lastActiveTime")),
        conditions=(*_conditions(scaled), *_conditions(hpa)),
    )


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
