"""Whether an object may be stored: 422 with a cause for every field that is wrong.

Source: k8s.io/kubernetes `pkg/apis/*/validation`, and the schemas of custom kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.validation.autoscaling import check_autoscaler
from chalkcompute.local.apimachinery.validation.config import (
    check_config_change,
    check_config_map,
    check_secret,
    check_secret_change,
)
from chalkcompute.local.apimachinery.validation.custom import check_custom
from chalkcompute.local.apimachinery.validation.metadata import check_metadata, check_metadata_change
from chalkcompute.local.apimachinery.validation.pods import check_pod, check_pod_change
from chalkcompute.local.apimachinery.validation.problems import Problems
from chalkcompute.local.apimachinery.validation.services import check_service, check_service_change
from chalkcompute.local.apimachinery.validation.storage import check_claim, check_claim_change
from chalkcompute.local.apimachinery.validation.workloads import (
    check_deployment,
    check_replica_set,
    check_selector_change,
)

__all__ = ["validate_create", "validate_update"]

_CHECKS: dict[str, Callable[[dict[str, Any], Problems], None]] = {
    "ConfigMap": check_config_map,
    "Secret": check_secret,
    "Deployment": check_deployment,
    "ReplicaSet": check_replica_set,
    "Pod": check_pod,
    "Service": check_service,
    "PersistentVolumeClaim": check_claim,
}
_CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any], Problems], None]] = {
    "ConfigMap": check_config_change,
    "Secret": check_secret_change,
    "Deployment": check_selector_change,
    "ReplicaSet": check_selector_change,
    "Pod": check_pod_change,
    "Service": check_service_change,
    "PersistentVolumeClaim": check_claim_change,
}


def validate_create(kind: Kind, obj: dict[str, Any]) -> None:
    """Whether a new object is valid.

    Raises:
        StatusError: 422 Invalid.
    """
    problems = Problems()
    check_metadata(kind, obj.get("metadata") or {}, problems)
    _check(kind, obj, problems)
    problems.raise_for(kind, obj)


def validate_update(kind: Kind, new: dict[str, Any], old: dict[str, Any], subresource: str = "") -> None:
    """Whether a stored object may become `new`.

    Raises:
        StatusError: 422 Invalid.
    """
    problems = Problems()
    metadata = new.get("metadata") or {}
    check_metadata(kind, metadata, problems)
    check_metadata_change(metadata, old.get("metadata") or {}, problems)
    changed = "spec" not in new or new.get("spec") != old.get("spec")
    if changed and subresource != "status":
        _check(kind, new, problems, old)
    if subresource == "" and (check := _CHANGES.get(kind.kind)):
        check(new, old, problems)
    problems.raise_for(kind, new)


def _check(kind: Kind, obj: dict[str, Any], problems: Problems, old: dict[str, Any] | None = None) -> None:
    if kind.custom:
        check_custom(kind, obj, problems)
    elif kind.kind == "HorizontalPodAutoscaler":  # which may keep what a new one may not have
        check_autoscaler(obj, problems, old)
    elif check := _CHECKS.get(kind.kind):
        check(obj, problems)
