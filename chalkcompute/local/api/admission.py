"""What the API server adds or refuses beyond an object's own validity, because of other objects.

Source: the admission plugin NamespaceLifecycle, and the allocators of Service addresses.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping

from chalkcompute.local.api.failures import forbidden, invalid, not_found
from chalkcompute.local.api.store import Store
from chalkcompute.local.apimachinery.kinds import Kind, by_kind
from chalkcompute.local.apimachinery.status import Cause
from chalkcompute.local.ports import Manifest

__all__ = ["admit_create", "admit_delete"]

SERVICE_NETWORK = ipaddress.ip_network("10.96.0.0/16")
_IMMORTAL_NAMESPACES = ("default", "kube-system")


def admit_create(
    kind: Kind, obj: Manifest, store: Store, *, namespace_annotations: Mapping[str, str]
) -> Manifest:
    """A new object as admitted.

    Args:
        kind: Its kind.
        obj: The object, with defaults.
        store: All other objects.
        namespace_annotations: What a new Namespace gets where it does not say otherwise.

    Raises:
        StatusError: 404 for a namespace that does not exist, 403 for one that is terminating, 422
            for a Service address that is taken.
    """
    if kind.namespaced:
        _check_namespace(kind, obj, store)
    if kind.kind == "Namespace":
        return _new_namespace(obj, namespace_annotations)
    if kind.kind == "Service":
        return _with_cluster_ip(obj, store)
    return obj


def admit_delete(kind: Kind, obj: Manifest) -> None:
    """Refuse to delete the namespaces that the cluster itself lives in.

    Raises:
        StatusError: 403 Forbidden.
    """
    name = obj["metadata"]["name"]
    if kind.kind == "Namespace" and name in _IMMORTAL_NAMESPACES:
        raise forbidden(kind, name, "this namespace may not be deleted")


def _check_namespace(kind: Kind, obj: Manifest, store: Store) -> None:
    metadata = obj["metadata"]
    namespace = metadata["namespace"]
    found = store.get("Namespace", "", namespace)
    if found is None:
        raise not_found(by_kind("Namespace"), namespace)
    if "deletionTimestamp" in found["metadata"]:
        cause = Cause(
            "metadata.namespace", f"namespace {namespace} is being terminated", "NamespaceTerminating"
        )
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise forbidden(kind, metadata.get("name") or metadata.get("generateName") or "", why, cause)


def _new_namespace(obj: Manifest, annotations: Mapping[str, str]) -> Manifest:
    spec = dict(obj.get("spec") or {})
    finalizers = spec.get("finalizers") or []
    spec["finalizers"] = finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]
    metadata = obj["metadata"]
    if annotations:
        metadata = {**metadata, "annotations": {**annotations, **(metadata.get("annotations") or {})}}
    return {**obj, "spec": spec, "metadata": metadata}


def _with_cluster_ip(obj: Manifest, store: Store) -> Manifest:
    spec = dict(obj.get("spec") or {})
    if spec.get("type") == "ExternalName":
        return obj
    asked = spec.get("clusterIP")
    taken = {(service.get("spec") or {}).get("clusterIP") for service in store.items("Service")}
    if not asked:
        hosts = itertools.islice(SERVICE_NETWORK.hosts(), 9, None)  # the first few are for the system
        spec["clusterIP"] = next(str(host) for host in hosts if str(host) not in taken)
    elif asked != "None" and asked in taken:
        cause = Cause(
            "spec.clusterIPs", f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: already allocated'
        )
        raise invalid("Service", "", obj["metadata"].get("name") or "", cause)
    return {**obj, "spec": spec}
