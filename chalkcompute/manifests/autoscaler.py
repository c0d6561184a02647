"""What sets the replica count: a HorizontalPodAutoscaler, or KEDA's InterceptorRoute and ScaledObject."""

from __future__ import annotations

from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Placement
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["IDLE_SECONDS", "horizontal_pod_autoscaler", "interceptor_route", "scaled_object"]

_CONCURRENCY = 100  # requests in flight that one replica is thought to carry; KEDA's own default
_COLD_START_SECONDS = 300  # a request waits that long for the first replica; KEDA's default is for ever
_LONGEST_HOLD_SECONDS = 3600  # nobody waits for longer, while every request held takes memory
IDLE_SECONDS = 300  # KEDA's own default of `cooldownPeriod`


def horizontal_pod_autoscaler(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The HorizontalPodAutoscaler `<name>`.

    Without a target `metrics` is left out: the API server then fills in 80 % CPU, the cluster default.
    """
    body: Manifest = {
        "scaleTargetRef": _target(spec),
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
    }
    if spec.target_cpu_utilization_percentage is not None:
        target = {"type": "Utilization", "averageUtilization": spec.target_cpu_utilization_percentage}
        body["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if spec.scaling_interval_seconds is not None:
        body["behavior"] = _behavior(spec.scaling_interval_seconds)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": placement.metadata(spec.name, group=spec.name, tags=spec.tags),
        "spec": body,
    }


def interceptor_route(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The InterceptorRoute `<name>`: holds requests until a replica is ready, and counts them.

    For as long as a replica may take to start, where that is longer than usual: else no request that wakes a
    slow one would ever be answered by it.
    """
    held = min(max(_COLD_START_SECONDS, spec.startup_timeout_seconds or 0), _LONGEST_HOLD_SECONDS)
    return {
        "apiVersion": "http.keda.sh/v1beta1",
        "kind": "InterceptorRoute",
        "metadata": placement.metadata(spec.name, group=spec.name, tags=spec.tags),
        "spec": {
            "target": {"service": labels.vip_name(spec.name), "portName": placement.ports.name(spec.port)},
            "rules": [{"hosts": [placement.host(spec.name)]}],
            "scalingMetric": {"concurrency": {"targetValue": _CONCURRENCY}},
            "timeouts": {"readiness": f"{held}s"},
        },
    }


def scaled_object(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The ScaledObject `<name>`, to be applied after the InterceptorRoute it names.

    Found without it, KEDA would fall back to a CPU metric and never leave zero.
    """
    scaler = {"scalerAddress": placement.profile.keda_scaler_address, "interceptorRoute": spec.name}
    triggers: list[Manifest] = [{"type": "external-push", "metadata": scaler}]
    if spec.target_cpu_utilization_percentage is not None:
        value = str(spec.target_cpu_utilization_percentage)
        triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": value}})
    # The default name, `keda-hpa-<name>`, may be too long for a label.
    autoscaler: Manifest = {"name": spec.name}
    idle = IDLE_SECONDS if spec.idle_timeout_seconds is None else spec.idle_timeout_seconds
    body: Manifest = {
        "scaleTargetRef": _target(spec),
        "minReplicaCount": 0,
        "maxReplicaCount": spec.max_replicas,
        "cooldownPeriod": idle,
        # Else what is new, or was under another autoscaler until now, would lose its replicas at once.
        "initialCooldownPeriod": idle,
        "advanced": {"horizontalPodAutoscalerConfig": autoscaler},
        "triggers": triggers,
    }
    if spec.scaling_interval_seconds is not None:
        autoscaler["behavior"] = _behavior(spec.scaling_interval_seconds)
        body["pollingInterval"] = spec.scaling_interval_seconds
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": placement.metadata(spec.name, group=spec.name, tags=spec.tags),
        "spec": body,
    }


def _target(spec: ScalingGroupSpec) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name}


def _behavior(seconds: int) -> Manifest:
    """The server's default steps, at most one in that many seconds.

    How often an autoscaler looks is a flag of the cluster; how often it may act is this. Stabilization
    windows stay at their defaults, for they delay rather than pace.
    """
    return {
        "scaleUp": {
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": seconds},
                {"type": "Pods", "value": 4, "periodSeconds": seconds},
            ],
        },
        "scaleDown": {
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": seconds}],
        },
    }
