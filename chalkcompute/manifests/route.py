"""The HTTPRoute of a group, and the grant that lets it point into KEDA's namespace."""

from __future__ import annotations

from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Placement, Profile
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["http_route", "leaves_interceptor", "reference_grant"]

_GATEWAY_GROUP = "gateway.networking.k8s.io"


def http_route(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The HTTPRoute `<name>`: its one host, all paths, to the replicas or to KEDA's interceptor.

    `sectionName` is always there: without it the route would also attach to a plain HTTP listener.
    """
    gateway = placement.gateway
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [_backend(spec, placement)],
    }
    if gateway.request_timeout:
        # Gateways have a limit of their own for a whole response (15 s in Envoy); 0s lifts it.
        rule["timeouts"] = {"request": "0s"}
    return {
        "apiVersion": f"{_GATEWAY_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": placement.metadata(spec.name, group=spec.name, tags=spec.tags),
        "spec": {
            "parentRefs": [
                {
                    "group": _GATEWAY_GROUP,
                    "kind": "Gateway",
                    "name": gateway.name,
                    "namespace": gateway.namespace,
                    "sectionName": gateway.section_name,
                }
            ],
            "hostnames": [placement.host(spec.name)],
            "rules": [rule],
        },
    }


def _backend(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    if spec.mode != "keda":
        return {"name": spec.name, "port": spec.port}
    profile = placement.profile
    return {
        "name": profile.keda_interceptor_service,
        "namespace": profile.keda_namespace,
        "port": profile.keda_interceptor_port,
    }


def leaves_interceptor(spec: ScalingGroupSpec, before: Manifest | None, profile: Profile) -> bool:
    """Whether the route `before` leads to KEDA's interceptor, and that of `spec` will not."""
    rules = before["spec"].get("rules") or () if before is not None else ()
    service = (profile.keda_namespace, profile.keda_interceptor_service)
    return spec.mode != "keda" and any(
        (ref.get("namespace"), ref["name"]) == service
        for rule in rules
        for ref in rule.get("backendRefs") or ()
    )


def reference_grant(placement: Placement) -> Manifest:
    """The ReferenceGrant `chalk-<namespace>` in KEDA's namespace.

    One for each namespace of ours, shared by its groups: nothing can own it across namespaces, so no group's
    delete takes it away. v1beta1 is what every Gateway API since 0.6 serves.
    """
    profile = placement.profile
    return {
        "apiVersion": f"{_GATEWAY_GROUP}/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {
            "name": labels.grant_name(placement.namespace),
            "namespace": profile.keda_namespace,
            "labels": labels.shared_labels(placement.environment),
        },
        "spec": {
            "from": [{"group": _GATEWAY_GROUP, "kind": "HTTPRoute", "namespace": placement.namespace}],
            "to": [{"group": "", "kind": "Service", "name": profile.keda_interceptor_service}],
        },
    }
