"""What KEDA's own admission webhook refuses of a ScaledObject, because of it or of other objects.

Source: kedacore/keda `apis/keda/v1alpha1/scaledobject_webhook.go`, `scaledobject_types.go` and
`scaletriggers_types.go` (2.17 and later).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalkcompute.local.api.failures import not_found
from chalkcompute.local.api.store import Store
from chalkcompute.local.apimachinery.kinds import by_api_version
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.keda_autoscaler import (
    TRANSFER_ANNOTATION,
    autoscaler_config,
    autoscaler_name,
)
from chalkcompute.local.ports import Manifest

__all__ = ["check_scaled_object"]

_WEBHOOK = "vscaledobject.kb.io"
_OF_RESOURCES = ("cpu", "memory")
_LABEL_MAX = 63
_MOST_REPLICAS = 100  # maxReplicaCount where none is said
_NOT_CHECKED = "validations.keda.sh/hpa-ownership"


def check_scaled_object(obj: Manifest, old: Manifest | None, store: Store, *, dry_run: bool) -> None:
    """Let a new or changed ScaledObject pass, or refuse it.

    Args:
        obj: As it would be stored.
        old: As it is stored, or None.
        store: All other objects.
        dry_run: KEDA does not look at requests for CPU and memory on dry run: the workload may not exist.

    Raises:
        StatusError: 403, or 404 for a workload that does not exist.
    """
    if old is not None and _loses_finalizer(obj, old):
        return
    target = _target(obj)
    if target not in ("apps/v1.Deployment", "apps/v1.ReplicaSet"):
        raise _denied(_no_match(obj))
    namespace = obj["metadata"]["namespace"]
    if not dry_run:
        _check_resource_triggers(obj, store)
    _check_others(obj, target, store.items("ScaledObject", namespace))
    _check_autoscalers(obj, target, store.items("HorizontalPodAutoscaler", namespace))
    _check_counts(obj["spec"])
    _check_fallback(obj["spec"])
    _check_names(obj)
    _check_triggers(obj["spec"].get("triggers") or [])


def _denied(why: str) -> StatusError:
    return StatusError(403, "Forbidden", f'admission webhook "{_WEBHOOK}" denied the request: {why}')


def _loses_finalizer(obj: Manifest, old: Manifest) -> bool:
    fewer = len(obj["metadata"].get("finalizers") or ()) < len(old["metadata"].get("finalizers") or ())
    return fewer and obj.get("spec") == old.get("spec")


def _target(obj: Manifest) -> str:
    """`apps/v1.Deployment`: what a `scaleTargetRef` names, of a ScaledObject or of an autoscaler."""
    reference = obj["spec"].get("scaleTargetRef") or {}
    return f"{reference.get('apiVersion') or 'apps/v1'}.{reference.get('kind') or 'Deployment'}"


def _no_match(obj: Manifest) -> str:
    version, _, kind = _target(obj).rpartition(".")
    return f'no matches for kind "{kind}" in version "{version}"'


def _target_name(obj: Manifest) -> str:
    return str((obj["spec"].get("scaleTargetRef") or {}).get("name", ""))


def _check_resource_triggers(obj: Manifest, store: Store) -> None:
    triggers = obj["spec"].get("triggers") or []
    for trigger in triggers:
        resource = trigger.get("type")
        if resource not in _OF_RESOURCES:
            continue
        wanted = (trigger.get("metadata") or {}).get("containerName")
        for container in _containers(obj, store):
            if wanted and container["name"] != wanted:
                continue
            if not _asks_for(container, resource):
                raise _denied(
                    f"the scaledobject has a {resource} trigger but the container {container['name']} "
                    f"doesn't have the {resource} request defined"
                )
        only = all(other.get("type") in _OF_RESOURCES for other in triggers)
        if only and not obj["spec"].get("minReplicaCount"):
            raise _denied(
                "scaledobject has only cpu/memory triggers AND minReplica is 0 "
                "(scale to zero doesn't work in this case)"
            )


def _containers(obj: Manifest, store: Store) -> list[dict[str, Any]]:
    version, _, name = _target(obj).rpartition(".")
    kind = by_api_version(version, name)
    assert kind is not None  # checked before
    workload = store.get(kind.kind, obj["metadata"]["namespace"], _target_name(obj))
    if workload is None:
        missing = not_found(kind, _target_name(obj))
        raise StatusError(404, missing.reason, _denied(missing.message).message, details=missing.details)
    containers: list[dict[str, Any]] = workload["spec"]["template"]["spec"].get("containers") or []
    return containers if name == "Deployment" else []  # KEDA looks into these and StatefulSets only


def _asks_for(container: dict[str, Any], resource: str) -> bool:
    resources = container.get("resources") or {}
    said = [(resources.get(part) or {}).get(resource) for part in ("requests", "limits")]
    return any(value is not None and parse_quantity(value) > 0 for value in said)


def _check_others(obj: Manifest, target: str, others: Iterable[Manifest]) -> None:
    for other in others:
        name = other["metadata"]["name"]
        if name == obj["metadata"]["name"]:
            continue
        if _target(other) == target and _target_name(other) == _target_name(obj):
            raise _denied(
                f"the workload '{_target_name(obj)}' of type '{target}' is already managed by the "
                f"ScaledObject '{name}'"
            )
        if autoscaler_name(other) == autoscaler_name(obj):
            raise _denied(f"the HPA '{autoscaler_name(obj)}' is already managed by the ScaledObject '{name}'")


def _check_autoscalers(obj: Manifest, target: str, autoscalers: Iterable[Manifest]) -> None:
    for autoscaler in autoscalers:
        metadata = autoscaler["metadata"]
        if (metadata.get("annotations") or {}).get(_NOT_CHECKED) == "false":
            continue
        if _target(autoscaler) != target or _target_name(autoscaler) != _target_name(obj):
            continue
        owners = [(o["kind"], o["name"]) for o in metadata.get("ownerReferences") or ()]
        if ("ScaledObject", obj["metadata"]["name"]) in owners:
            continue
        workload = f"workload '{_target_name(obj)}' of type '{target}'"
        if (obj["metadata"].get("annotations") or {}).get(TRANSFER_ANNOTATION) != "true":
            raise _denied(f"the {workload} is already managed by the hpa '{metadata['name']}'")
        if autoscaler_config(obj).get("name") != metadata["name"]:
            raise _denied(
                f"the existing hpa '{metadata['name']}' for {workload} must be specified by name in advanced "
                "settings to enable ownership transfer"
            )


def _check_counts(spec: dict[str, Any]) -> None:
    least = spec.get("minReplicaCount")
    least = 0 if least is None else max(least, 1)
    most = spec.get("maxReplicaCount")
    most = _MOST_REPLICAS if most is None else most
    idle = spec.get("idleReplicaCount")
    if least > most:
        raise _denied(f"MinReplicaCount={least} must be less than MaxReplicaCount={most}")
    if idle is not None and idle >= least:
        raise _denied(f"IdleReplicaCount={idle} must be less than MinReplicaCount={least}")


def _check_fallback(spec: dict[str, Any]) -> None:
    fallback = spec.get("fallback")
    if fallback is None:
        return
    threshold, replicas = fallback["failureThreshold"], fallback["replicas"]
    if threshold < 0 or replicas < 0:
        raise _denied(
            f"FailureThreshold={threshold} & Replicas={replicas} must both be greater than or equal to 0"
        )
    for trigger in spec.get("triggers") or []:
        average = (trigger.get("metricType") or "AverageValue") == "AverageValue"
        if trigger.get("type") not in _OF_RESOURCES and average:
            return
    raise _denied(
        "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the "
        "fallback to be enabled"
    )


def _check_names(obj: Manifest) -> None:
    name, autoscaler = obj["metadata"]["name"], autoscaler_name(obj)
    if len(name) > _LABEL_MAX:
        raise _denied(
            f'scaledobject name "{name}" is {len(name)} characters long; must be no more than {_LABEL_MAX} '
            'characters because it is used as the "scaledobject.keda.sh/name" label value'
        )
    if len(autoscaler) > _LABEL_MAX:
        raise _denied(
            f'HPA name "{autoscaler}" derived from scaledobject is {len(autoscaler)} characters long; must '
            f"be no more than {_LABEL_MAX} characters; set spec.advanced.horizontalPodAutoscalerConfig.name "
            "to a shorter name or shorten the scaledobject name"
        )


def _check_triggers(triggers: list[dict[str, Any]]) -> None:
    if not triggers:
        raise _denied("no triggers defined in the ScaledObject/ScaledJob")
    seen: set[str] = set()
    for trigger in triggers:
        if trigger.get("useCachedMetrics") and trigger.get("type") in (*_OF_RESOURCES, "cron"):
            raise _denied(f'property "useCachedMetrics" is not supported for "{trigger["type"]}" scaler')
        name = trigger.get("name")
        if name and name in seen:
            raise _denied(
                f'triggerName "{name}" is defined multiple times in the ScaledObject/ScaledJob, but it must '
                "be unique"
            )
        seen.add(name or "")
