"""The HorizontalPodAutoscaler that KEDA makes for a ScaledObject. Pure.

Source: kedacore/keda `controllers/keda/hpa.go`.
"""

from __future__ import annotations

import copy
from typing import Any

from chalkcompute.local.controllers.keda_objects import MANAGER
from chalkcompute.local.controllers.keda_scaling import ScalingRules
from chalkcompute.local.controllers.keda_triggers import Triggers
from chalkcompute.local.controllers.objects import owner_reference
from chalkcompute.local.ports import Manifest

__all__ = [
    "KEDA_VERSION",
    "TRANSFER_ANNOTATION",
    "autoscaler",
    "autoscaler_config",
    "autoscaler_name",
    "brought_up_to_date",
]

KEDA_VERSION = "2.18.0"
"""The release whose behaviour is followed."""

TRANSFER_ANNOTATION = "scaledobject.keda.sh/transfer-hpa-ownership"
"""`true` on a ScaledObject lets it take over the autoscaler that it names, made by somebody else."""

_EXCLUDED_LABELS = "scaledobject.keda.sh/hpa-excluded-labels"
_LABEL_MAX = 63


def autoscaler_config(scaled_object: Manifest) -> dict[str, Any]:
    """`advanced.horizontalPodAutoscalerConfig`, {} where there is none."""
    return (scaled_object["spec"].get("advanced") or {}).get("horizontalPodAutoscalerConfig") or {}


def autoscaler_name(scaled_object: Manifest) -> str:
    """`advanced.horizontalPodAutoscalerConfig.name`, else `keda-hpa-<name>`."""
    name = scaled_object["metadata"]["name"]
    return str(autoscaler_config(scaled_object).get("name") or f"keda-hpa-{name}")


def autoscaler(
    scaled_object: Manifest, target: Manifest, triggers: Triggers, rules: ScalingRules
) -> Manifest:
    """As it should be.

    Args:
        scaled_object: Whose.
        target: The workload.
        triggers: What its metrics are.
        rules: Its counts; an autoscaler knows none below one.
    """
    meta, name = scaled_object["metadata"], autoscaler_name(scaled_object)
    excluded = (meta.get("annotations") or {}).get(_EXCLUDED_LABELS, "").split(",")
    labels = {
        "app.kubernetes.io/name": name[:_LABEL_MAX].rstrip("-."),
        "app.kubernetes.io/version": KEDA_VERSION,
        "app.kubernetes.io/part-of": meta["name"],
        "app.kubernetes.io/managed-by": MANAGER,
        **{key: value for key, value in (meta.get("labels") or {}).items() if key not in excluded},
    }
    spec: dict[str, Any] = {
        "minReplicas": max(rules.minimum, 1),
        "maxReplicas": rules.maximum,
        "metrics": copy.deepcopy(list(triggers.metrics)),
        "scaleTargetRef": {
            "apiVersion": target["apiVersion"],
            "kind": target["kind"],
            "name": target["metadata"]["name"],
        },
    }
    if behavior := _behavior(scaled_object, rules):
        spec["behavior"] = behavior
    made: Manifest = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(scaled_object)],
        },
        "spec": spec,
    }
    if meta.get("annotations"):
        made["metadata"]["annotations"] = dict(meta["annotations"])
    return made


def _behavior(scaled_object: Manifest, rules: ScalingRules) -> dict[str, Any]:
    behavior: dict[str, Any] = copy.deepcopy(autoscaler_config(scaled_object).get("behavior") or {})
    for direction in behavior.values():
        if (direction or {}).get("policies") == []:
            del direction["policies"]  # Go's `omitempty`: an API server refuses an empty list
    if not rules.scale_in:
        behavior.setdefault("scaleDown", {})["selectPolicy"] = "Disabled"
    if not rules.scale_out:
        behavior.setdefault("scaleUp", {})["selectPolicy"] = "Disabled"
    return behavior


def brought_up_to_date(live: Manifest, wanted: Manifest) -> Manifest | None:
    """The live autoscaler with what it should say, or None when it says so already.

    What the API server filled in, or somebody else wrote beside it, is no difference.
    """
    changed = {**live, "metadata": {**live["metadata"]}, "spec": wanted["spec"]}
    same = _covers(live["spec"], wanted["spec"]) and ("behavior" in live["spec"]) == (
        "behavior" in wanted["spec"]
    )
    for field in ("labels", "annotations"):
        said, here = wanted["metadata"].get(field) or {}, live["metadata"].get(field) or {}
        same = same and said.items() <= here.items()
        if said:
            changed["metadata"][field] = {**here, **said}
    if wanted["metadata"]["ownerReferences"] != live["metadata"].get("ownerReferences"):
        same = False
        changed["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"]
    return None if same else changed


def _covers(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; lists are as long as wanted."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            name in live and _covers(live[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(_covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)
