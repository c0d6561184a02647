"""One step for a ScaledObject: what to make, what to write, how many replicas. Pure.

Source: kedacore/keda `controllers/keda/scaledobject_controller.go`, but for one thing: where the
InterceptorRoute is missing, KEDA makes an autoscaler on CPU that never leaves zero; here `Ready` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chalkcompute.local.controllers import keda_status
from chalkcompute.local.controllers.actions import Action, Create, Delete, Emit, Update
from chalkcompute.local.controllers.keda_autoscaler import (
    TRANSFER_ANNOTATION,
    autoscaler,
    autoscaler_name,
    brought_up_to_date,
)
from chalkcompute.local.controllers.keda_scaling import Scaling, ScalingRules, decide, is_true, scaling_rules
from chalkcompute.local.controllers.keda_triggers import TriggerError, Triggers, read_triggers
from chalkcompute.local.controllers.objects import controller_of, created_at, find_condition
from chalkcompute.local.controllers.scaling import replicas_of
from chalkcompute.local.measures import RouteTraffic
from chalkcompute.local.ports import Manifest

__all__ = ["Observed", "Outcome", "reconcile", "target_reference"]

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
_PAUSED = ("True", "ScaledObjectPaused", "ScaledObject is paused")
_UNPAUSED = ("False", "ScaledObjectUnpaused", "pause annotation removed for ScaledObject")
_PUSH_SCALER = "externalPushScaler"  # how KEDA names a trigger of that type without a name of its own


@dataclass(frozen=True, slots=True)
class Observed:
    """What a step looks at.

    Attributes:
        scaled_object: With its finalizer and label.
        target: Its workload, or None.
        autoscaler: The HorizontalPodAutoscaler of the name that it should have, or None.
        before: The one of another name that it made before, or None.
        routes: The InterceptorRoutes that its triggers name, as far as they are there.
        traffic: Requests of those that have any.
        woken: Whether a request has just said that it waits.
    """

    scaled_object: Manifest
    target: Manifest | None
    autoscaler: Manifest | None = None
    before: Manifest | None = None
    routes: Mapping[str, Manifest] = field(default_factory=dict)
    traffic: Mapping[str, RouteTraffic] = field(default_factory=dict)
    woken: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do, in this order.

    Attributes:
        replicas: Count to set on the workload, or None.
        scaled: The Event that tells of it.
        actions: What else to do.
        again: In how many seconds to look again, or None.
    """

    replicas: int | None = None
    scaled: Emit | None = None
    actions: tuple[Action, ...] = ()
    again: float | None = None


class _CheckError(Exception):
    """The ScaledObject cannot be acted upon."""


def target_reference(scaled_object: Manifest) -> tuple[str, str]:
    """Kind and name of the workload."""
    reference = scaled_object["spec"]["scaleTargetRef"]
    return reference.get("kind") or "Deployment", reference["name"]


def reconcile(seen: Observed, now: datetime) -> Outcome:
    """The next step."""
    obj = seen.scaled_object
    rules = scaling_rules(obj)
    annotations = obj["metadata"].get("annotations") or {}
    try:
        if seen.target is None:
            kind, name = target_reference(obj)
            raise _CheckError(
                "ScaledObject doesn't have correct scaleTargetRef specification: "
                f'{kind}.apps "{name}" not found'
            )
        if PAUSED_REPLICAS in annotations or is_true(annotations.get(PAUSED)):
            return _paused(seen, seen.target)
        triggers = _checked(seen)
    except _CheckError as error:
        return _failed(obj, str(error), rules)
    return _served(seen, seen.target, triggers, rules, now)


def _checked(seen: Observed) -> Triggers:
    failing = "failed to ensure HPA is correctly created for ScaledObject"
    obj = seen.scaled_object
    if (obj["spec"].get("advanced") or {}).get("scalingModifiers"):
        raise _CheckError(f"{failing}: the local cluster does not evaluate advanced.scalingModifiers")
    try:
        triggers = read_triggers(obj, seen.routes)
    except TriggerError as error:
        raise _CheckError(f"{failing}: {error}") from error
    if seen.autoscaler is not None and not _may_write(obj, seen.autoscaler):
        name = seen.autoscaler["metadata"]["name"]
        raise _CheckError(
            f'{failing}: horizontalpodautoscalers.autoscaling "{name}" already exists, and is not its own'
        )
    return triggers


def _may_write(obj: Manifest, found: Manifest) -> bool:
    owner = controller_of(found)
    if owner is not None:
        return bool(owner["uid"] == obj["metadata"]["uid"])
    return (obj["metadata"].get("annotations") or {}).get(TRANSFER_ANNOTATION) == "true"


def _failed(obj: Manifest, why: str, rules: ScalingRules) -> Outcome:
    status = keda_status.with_conditions(
        obj.get("status") or {}, Ready=("False", keda_status.FAILED, why), Active=keda_status.UNKNOWN
    )
    before = find_condition(obj.get("status") or {}, "Ready") or {}
    told = () if before.get("message") == why else (Emit(obj, "Warning", keda_status.FAILED, why),)
    return Outcome(actions=(*_status_update(obj, status), *told), again=rules.polling)


def _paused(seen: Observed, target: Manifest) -> Outcome:
    """KEDA's hands off: no autoscaler, and the count that the annotation says, if it says one."""
    obj, current = seen.scaled_object, replicas_of(target)
    text = (obj["metadata"].get("annotations") or {}).get(PAUSED_REPLICAS)
    status = keda_status.with_target(obj.get("status") or {}, target, current)
    status.pop("pausedReplicaCount", None)
    wanted = None
    if text is not None:
        if not text.isdigit():
            raise _CheckError(f"annotation {PAUSED_REPLICAS}: `{text}` is not a number")
        wanted = status["pausedReplicaCount"] = int(text)
    status = keda_status.with_conditions(status, Ready=(*keda_status.READY[:2], _PAUSED[2]), Paused=_PAUSED)
    own = [hpa for hpa in (seen.autoscaler, seen.before) if hpa is not None and _may_write(obj, hpa)]
    return Outcome(
        replicas=wanted if wanted != current else None,
        actions=(*(Delete(hpa) for hpa in own), *_status_update(obj, status)),
    )


def _served(
    seen: Observed, target: Manifest, triggers: Triggers, rules: ScalingRules, now: datetime
) -> Outcome:
    obj, old = seen.scaled_object, seen.scaled_object.get("status") or {}
    traffic = [seen.traffic[name] for name in triggers.routes if name in seen.traffic]
    active = seen.woken or triggers.always_active or any(each.in_flight > 0 for each in traffic)
    current = replicas_of(target)
    moment = keda_status.last_active(old, *(each.active_at for each in traffic), now if active else None)
    scaling = decide(
        rules,
        current,
        active=active,
        last_active=moment,
        created=created_at(obj),
        seen=min((now, *(each.timestamp for each in traffic))),
    )
    status = keda_status.with_target(old, target, current)
    status = keda_status.with_triggers(status, triggers, autoscaler_name(obj))
    status = keda_status.with_last_active(status, moment, active=active)
    status.pop("pausedReplicaCount", None)
    changed = {"Ready": keda_status.READY, "Active": scaling.condition}
    if not (rules.scale_in and rules.scale_out):
        changed["Paused"] = _PAUSED
    elif (find_condition(old, "Paused") or {}).get("status") == "True":
        changed["Paused"] = _UNPAUSED
    status = keda_status.with_conditions(status, **changed)
    return Outcome(
        replicas=scaling.replicas,
        scaled=_told(obj, status, current, scaling),
        actions=(
            *_autoscaler_actions(seen, target, triggers, rules),
            *_status_update(obj, status),
            *_started(obj, triggers),
        ),
        again=scaling.again,
    )


def _autoscaler_actions(
    seen: Observed, target: Manifest, triggers: Triggers, rules: ScalingRules
) -> tuple[Action, ...]:
    wanted = autoscaler(seen.scaled_object, target, triggers, rules)
    if seen.autoscaler is not None:
        changed = brought_up_to_date(seen.autoscaler, wanted)
        return () if changed is None else (Update(changed),)
    if seen.before is not None and _may_write(seen.scaled_object, seen.before):
        return Delete(seen.before), Create(wanted)
    return (Create(wanted),)


def _status_update(obj: Manifest, status: Manifest) -> tuple[Action, ...]:
    return () if status == obj.get("status") else (Update({**obj, "status": status}, "status"),)


def _started(obj: Manifest, triggers: Triggers) -> tuple[Emit, ...]:
    """The Events of one that becomes ready."""
    if (find_condition(obj.get("status") or {}, "Ready") or {}).get("status") == "True":
        return ()
    built = (Emit(obj, "Normal", "KEDAScalersStarted", f"Scaler {kind} is built") for kind in triggers.types)
    return (
        *built,
        Emit(obj, "Normal", "KEDAScalersStarted", "Started scalers watch"),
        Emit(obj, "Normal", "ScaledObjectReady", "ScaledObject is ready for scaling"),
    )


def _told(obj: Manifest, status: Manifest, current: int, scaling: Scaling) -> Emit | None:
    if scaling.replicas is None:
        return None
    workload = f"{status['scaleTargetKind']} {obj['metadata']['namespace']}/{target_reference(obj)[1]}"
    counts = f"from {current} to {scaling.replicas}"
    if scaling.replicas < current:
        return Emit(obj, "Normal", "KEDAScaleTargetDeactivated", f"Deactivated {workload} {counts}")
    if scaling.condition[0] != "True":
        return None  # KEDA brings a count back to its minimum without a word
    names = [
        t.get("name") or _PUSH_SCALER for t in obj["spec"]["triggers"] if t.get("type") == "external-push"
    ]
    cause = ";".join(names) or "cpuMemoryScaler"
    return Emit(
        obj, "Normal", "KEDAScaleTargetActivated", f"Scaled {workload} {counts}, triggered by {cause}"
    )
