"""The Deployment of a group: its replicas, how they roll over and how they drain."""

from __future__ import annotations

import math

from chalkcompute.manifests import labels
from chalkcompute.manifests.literals import literal
from chalkcompute.manifests.mounted import pod_volumes, volume_mounts
from chalkcompute.manifests.placement import PORT_NAME, Placement, Profile
from chalkcompute.manifests.secret import versions
from chalkcompute.spec import Gpu, ScalingGroupSpec
from chalkcompute.spec.images import tag_moves
from chalkcompute.spec.probes import ReadinessProbe
from chalkcompute.spec.secrets import SecretRef
from chalkcompute.types import Manifest

__all__ = ["CONTAINER", "deployment"]

CONTAINER = "app"

_DRAIN_SECONDS = 5  # endpoints are withdrawn asynchronously; a SIGTERM at once would race them
_STOP_SECONDS = 30  # what a process has after SIGTERM, Kubernetes' own default
_PROGRESS_DEADLINE_SECONDS = 600
_PROGRESS_DEADLINE_GPU_SECONDS = 1800  # a node has to boot, and an image of 20 GB to come
_REVISION_HISTORY = 3

_DEFAULT_CPU = ("100m", "1")
_DEFAULT_MEMORY = ("256Mi", "1Gi")


def deployment(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    """The Deployment `<name>`.

    `spec.replicas` is there in fixed mode only: where an autoscaler sets it, applying it would undo the
    autoscaler, and no conflict would say so.
    """
    gpu = _gpu(spec)
    body: Manifest = {
        "revisionHistoryLimit": _REVISION_HISTORY,
        "progressDeadlineSeconds": _progress_deadline(spec),
        "minReadySeconds": 0,
        "selector": {"matchLabels": labels.selector(placement.group_id)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1 if gpu else "25%"},
        },
        "template": {
            "metadata": _pod_metadata(spec, placement),
            "spec": _pod(spec, gpu, placement.profile),
        },
    }
    if spec.mode == "fixed":
        body = {"replicas": spec.min_replicas, **body}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": placement.metadata(spec.name, group=spec.name, tags=spec.tags),
        "spec": body,
    }


def _pod_metadata(spec: ScalingGroupSpec, placement: Placement) -> Manifest:
    metadata: Manifest = {"labels": labels.pod_labels(spec.name, placement.group_id, spec.tags)}
    if known := versions(spec):
        metadata["annotations"] = {labels.SECRETS_ANNOTATION: known}
    return metadata


def _gpu(spec: ScalingGroupSpec) -> Gpu | None:
    return None if spec.gpu is None else Gpu.parse(spec.gpu)


def _pod(spec: ScalingGroupSpec, gpu: Gpu | None, profile: Profile) -> Manifest:
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": _drain_seconds(spec) + _STOP_SECONDS,
        "containers": [_container(spec, gpu, profile)],
    }
    if volumes := pod_volumes(spec):
        pod["volumes"] = volumes
    if gpu is not None:
        # Clusters without the ExtendedResourceToleration admission (AKS) need it said.
        pod["tolerations"] = [toleration.to_manifest() for toleration in profile.gpu_tolerations]
        if gpu.type is not None:
            pod["nodeSelector"] = {profile.gpu_node_selector_key: gpu.type}
    return pod


def _container(spec: ScalingGroupSpec, gpu: Gpu | None, profile: Profile) -> Manifest:
    container: Manifest = {
        "name": CONTAINER,
        "image": spec.image,
        # The server's own default, said: defaulted once, it would stay when the tag changes.
        "imagePullPolicy": "Always" if tag_moves(spec.image) else "IfNotPresent",
        "ports": [{"name": PORT_NAME, "containerPort": spec.port, "protocol": "TCP"}],
        "resources": _resources(spec, gpu, profile),
        "readinessProbe": _readiness(spec),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["NET_RAW"]}},
    }
    if spec.startup_timeout_seconds is not None:
        container["startupProbe"] = _startup(spec, spec.startup_timeout_seconds)
    if spec.entrypoint is not None:
        container["command"] = [literal(item) for item in spec.entrypoint]
    if spec.args is not None:
        container["args"] = [literal(item) for item in spec.args]
    if spec.working_dir is not None:
        container["workingDir"] = spec.working_dir
    if spec.env or spec.secrets:
        container["env"] = [{"name": name, "value": literal(value)} for name, value in spec.env.items()]
        container["env"] += [_secret_variable(ref) for ref in spec.secrets]
    if mounts := volume_mounts(spec):
        container["volumeMounts"] = mounts
    if drain := _drain_seconds(spec):
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": drain}}}
    return container


def _secret_variable(ref: SecretRef) -> Manifest:
    """Key by key, no `envFrom`: that skips silently what cannot be a variable."""
    return {"name": ref.env, "valueFrom": {"secretKeyRef": {"name": ref.secret, "key": ref.key}}}


def _drain_seconds(spec: ScalingGroupSpec) -> int:
    return _DRAIN_SECONDS if spec.shutdown_delay_seconds is None else spec.shutdown_delay_seconds


def _resources(spec: ScalingGroupSpec, gpu: Gpu | None, profile: Profile) -> Manifest:
    """Request and limit: equal where given, the defaults for each resource that was not."""
    cpu = _DEFAULT_CPU if spec.cpu is None else (spec.cpu, spec.cpu)
    memory = _DEFAULT_MEMORY if spec.memory is None else (spec.memory, spec.memory)
    extended = {} if gpu is None else {profile.gpu_resource_name: str(gpu.count)}
    return {
        "requests": {"cpu": cpu[0], "memory": memory[0], **extended},
        "limits": {"cpu": cpu[1], "memory": memory[1], **extended},
    }


def _progress_deadline(spec: ScalingGroupSpec) -> int:
    """A replica that starts for as long as it may is no rollout that is stuck."""
    usual = _PROGRESS_DEADLINE_SECONDS if spec.gpu is None else _PROGRESS_DEADLINE_GPU_SECONDS
    return usual + (spec.startup_timeout_seconds or 0)


def _probe(spec: ScalingGroupSpec) -> ReadinessProbe:
    return spec.readiness_probe or ReadinessProbe.tcp()


def _readiness(spec: ScalingGroupSpec) -> Manifest:
    probe = _probe(spec)
    found = {**_action(probe, spec.port), "failureThreshold": probe.failure_threshold}
    # The default is left to the server: no group from before the field was there rolls out anew.
    return found if probe.success_threshold == 1 else {**found, "successThreshold": probe.success_threshold}


def _startup(spec: ScalingGroupSpec, seconds: int) -> Manifest:
    """Asks what the readiness probe asks, until it first succeeds; only then does that one begin.

    The first question comes at once, so that so many failures take a period less than as many periods: one
    more than fits into the time, or a replica that needs just that long would be killed. A question that
    gets no answer takes its timeout, and the next one waits for it: the period is no shorter, or as many
    failures would take many times as long.
    """
    probe = _probe(spec)
    timeout = min(probe.timeout_seconds, seconds)
    period = max(min(probe.period_seconds, seconds), timeout)
    times = {"periodSeconds": period, "timeoutSeconds": timeout}
    return {**_action(probe, spec.port), **times, "failureThreshold": math.ceil(seconds / period) + 1}


def _action(probe: ReadinessProbe, port: int) -> Manifest:
    action: Manifest
    if probe.kind == "http":
        action = {"httpGet": {"path": probe.path, "port": PORT_NAME, "scheme": "HTTP"}}
    elif probe.kind == "grpc":
        # A gRPC probe takes a number, no port name; an empty service asks for the server as a whole.
        action = {"grpc": {"port": port, "service": probe.service}}
    else:
        action = {"tcpSocket": {"port": PORT_NAME}}
    return {**action, "periodSeconds": probe.period_seconds, "timeoutSeconds": probe.timeout_seconds}
