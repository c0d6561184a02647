"""What becomes of an object between decoding and storing: parts an endpoint may not write, generation.

Source: the `strategy.go` of each kind in k8s.io/kubernetes `pkg/registry`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.defaults import copied
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.schema import field_schema

__all__ = ["prepare_create", "prepare_update"]

# What a new object's `status` is, whatever the client sent.
_FIRST_STATUS: dict[str, dict[str, Any]] = {
    "Namespace": {"phase": "Active"},
    "Pod": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
    "HorizontalPodAutoscaler": {"desiredReplicas": 0, "currentMetrics": None},
}
_SINGLE_STACK = (("ipFamilies", ["IPv4"]), ("ipFamilyPolicy", "SingleStack"))


def prepare_create(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """A new object: no status of the client's, generation 1."""
    out: dict[str, Any] = copied(obj)
    metadata = out.setdefault("metadata", {})
    if kind.generation:
        metadata["generation"] = 1
    else:
        metadata.pop("generation", None)
    if kind.kind == "Node":
        return out
    if kind.custom:
        out.pop("status", None)
        declared = field_schema(kind).fields.get("status")
        if declared is not None and declared.default is not None:
            out["status"] = copied(declared.default)
    elif kind.status:
        out["status"] = copied(_FIRST_STATUS.get(kind.kind, {}))
    if kind.kind == "Service":
        _addresses(out)
    return out


def prepare_update(
    kind: Kind, new: dict[str, Any], old: dict[str, Any], subresource: str = ""
) -> dict[str, Any]:
    """A changed object with only what the endpoint may change, and the generation that follows.

    Args:
        kind: The kind.
        new: The object asked for, defaulted.
        old: The stored object.
        subresource: "" for the object, `status` or `scale`.
    """
    if subresource == "status" and kind.status:
        return _status_update(kind, new, old)
    out: dict[str, Any] = copied(new)
    if kind.status:
        _restore(out, old, "status")
    if kind.kind == "Service":
        _keep_addresses(out, old)
        _addresses(out)
    if kind.kind == "PersistentVolumeClaim":
        _restore_inside(out, old, "spec", "volumeName")
    _count(kind, out, old)
    return out


def _status_update(kind: Kind, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Only `status` is taken; of the metadata what the kind's strategy lets through."""
    out: dict[str, Any] = copied(old)
    if new.get("status") is None:
        out.pop("status", None)
    else:
        out["status"] = copied(new["status"])
    metadata = out["metadata"]
    given = new.get("metadata") or {}
    if not kind.custom:
        for name in ("annotations", "finalizers"):
            if given.get(name):
                metadata[name] = copied(given[name])
            else:
                metadata.pop(name, None)
    if "managedFields" in given:
        metadata["managedFields"] = copied(given["managedFields"])
    return out


def _restore(out: dict[str, Any], old: dict[str, Any], name: str) -> None:
    if name in old:
        out[name] = copied(old[name])
    else:
        out.pop(name, None)


def _restore_inside(out: dict[str, Any], old: dict[str, Any], parent: str, name: str) -> None:
    """Keep a field that the cluster has filled in when the client leaves it out."""
    value = (old.get(parent) or {}).get(name)
    if value and not (out.get(parent) or {}).get(name):
        out.setdefault(parent, {})[name] = copied(value)


def _count(kind: Kind, out: dict[str, Any], old: dict[str, Any]) -> None:
    metadata = out["metadata"]
    before = (old.get("metadata") or {}).get("generation")
    if not kind.generation:
        metadata.pop("generation", None)
        return
    metadata["generation"] = (before or 0) + 1 if _asked(kind, out) != _asked(kind, old) else before or 1


def _asked(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """The part whose change counts as a new generation: everything but metadata and status."""
    if kind.kind == "EndpointSlice":
        labels = (obj.get("metadata") or {}).get("labels")
        return {**{k: v for k, v in obj.items() if k != "metadata"}, "labels": labels}
    ignored = ("metadata", "status", "apiVersion", "kind")
    asked = {name: value for name, value in obj.items() if name not in ignored}
    if kind.kind == "Pod":  # bound by the scheduler, beside this strategy (BindingREST)
        asked["spec"] = {name: value for name, value in (obj.get("spec") or {}).items() if name != "nodeName"}
    deleting = (obj.get("metadata") or {}).get("deletionTimestamp")
    return {**asked, "deletionTimestamp": deleting}


def _keep_addresses(out: dict[str, Any], old: dict[str, Any]) -> None:
    """A Service keeps its addresses when an update leaves them out."""
    spec, before = out.setdefault("spec", {}), old.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
        if not spec.get(name) and before.get(name):
            spec[name] = copied(before[name])


def _addresses(out: dict[str, Any]) -> None:
    spec = out.setdefault("spec", {})
    if spec.get("type") == "ExternalName":
        return
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    for name, value in _SINGLE_STACK:
        if not spec.get(name):
            spec[name] = copied(value)
