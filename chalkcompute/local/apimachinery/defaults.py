"""What an API server fills in where the client said nothing.

Source: k8s.io/kubernetes `pkg/apis/*/v*/defaults.go`; custom kinds take the defaults of their schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalkcompute.local.apimachinery.default_pods import default_pod, default_template
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.schema import Schema, field_schema

__all__ = ["copied", "default"]


def default(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """A copy of `obj` with its defaults; the same again when nothing is missing."""
    out: dict[str, Any] = copied(obj)
    if kind.custom:
        _structural(field_schema(kind), out)
    elif fill := _BY_KIND.get(kind.kind):
        fill(out)
    return out


def copied(value: Any) -> Any:
    """A deep copy of JSON data."""
    if isinstance(value, dict):
        return {name: copied(child) for name, child in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def _structural(schema: Schema, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            if schema.element is not None:
                _structural(schema.element, item)
        return
    if not isinstance(value, dict):
        return
    for name, child in schema.fields.items():
        if name == "metadata":
            continue
        if value.get(name) is None and child.default is not None:
            value[name] = copied(child.default)
        if name in value:
            _structural(child, value[name])
    if schema.element is not None:
        for child_value in value.values():
            _structural(schema.element, child_value)


def _deployment(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_template(spec.setdefault("template", {}))
    obj.setdefault("status", {})


def _replica_set(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    template = spec.setdefault("template", {})
    default_template(template)
    labels = template["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)
    obj.setdefault("status", {})


def _service(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        config.setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or []:
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    external = spec["type"] in ("NodePort", "LoadBalancer")
    if external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _autoscaler(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if (behavior := spec.get("behavior")) is not None:
        pods = {"type": "Pods", "value": 4, "periodSeconds": 15}
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        up = behavior.setdefault("scaleUp", {})
        up.setdefault("stabilizationWindowSeconds", 0)
        _scaling_rules(up, [pods, percent])
        _scaling_rules(behavior.setdefault("scaleDown", {}), [percent])
    status = obj.setdefault("status", {})
    status.setdefault("desiredReplicas", 0)
    status.setdefault("currentMetrics", None)


def _scaling_rules(rules: dict[str, Any], policies: list[dict[str, Any]]) -> None:
    rules.setdefault("selectPolicy", "Max")
    if rules.get("policies") is None:  # an empty list stays, and is refused
        rules["policies"] = [dict(policy) for policy in policies]


def _secret(obj: dict[str, Any]) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"


def _namespace(obj: dict[str, Any]) -> None:
    metadata = obj.setdefault("metadata", {})
    if name := metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": name}
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _claim(obj: dict[str, Any]) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _event(obj: dict[str, Any]) -> None:
    obj.setdefault("eventTime", None)
    obj.setdefault("reportingComponent", "")
    obj.setdefault("reportingInstance", "")


def _endpoint_slice(obj: dict[str, Any]) -> None:
    for port in obj.get("ports") or []:
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


_BY_KIND: dict[str, Callable[[dict[str, Any]], None]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Pod": default_pod,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "Secret": _secret,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _claim,
    "Event": _event,
    "EndpointSlice": _endpoint_slice,
}
