"""Defaults of Pods and Pod templates.

Source: k8s.io/kubernetes `pkg/apis/core/v1/defaults.go`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.pod_resources import default_pod_resources

__all__ = ["default_pod", "default_template"]

_FILE_MODE = 420  # 0644
_VOLUMES_WITH_MODE = ("configMap", "secret", "projected", "downwardAPI")


def default_template(template: dict[str, Any]) -> None:
    """Fill in a Pod template, in place."""
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))


def default_pod(pod: dict[str, Any]) -> None:
    """Fill in a Pod, in place: what a template has, and requests that follow limits."""
    spec = pod.setdefault("spec", {})
    _pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in _containers(spec):
        resources = container.get("resources") or {}
        for name, value in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, value)
    default_pod_resources(spec)
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def _pod_spec(spec: dict[str, Any]) -> None:
    for name, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        if not spec.get(name):
            spec[name] = value
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("securityContext", {})
    for container in _containers(spec):
        _container(container, bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        c for field in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(field) or []
    ]


def _container(container: dict[str, Any], host_network: bool) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = _pull_policy(container.get("image", ""))
    container.setdefault("resources", {})
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    for port in container.get("ports") or []:
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None and not reference.get("apiVersion"):
            reference["apiVersion"] = "v1"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is not None:
            _probe(probe)
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and hook.get("httpGet") is not None:
            _http_get(hook["httpGet"])


def _pull_policy(image: str) -> str:
    """`Always` where the tag is `latest`, said or unsaid."""
    name, at, _ = image.partition("@")
    last = name.rpartition("/")[2]
    _, colon, tag = last.partition(":")
    if at and not colon:
        return "IfNotPresent"
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _probe(probe: dict[str, Any]) -> None:
    for name, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(name):
            probe[name] = value
    if probe.get("httpGet") is not None:
        _http_get(probe["httpGet"])
    if probe.get("grpc") is not None:
        probe["grpc"].setdefault("service", "")


def _http_get(action: dict[str, Any]) -> None:
    if not action.get("path"):
        action["path"] = "/"
    if not action.get("scheme"):
        action["scheme"] = "HTTP"


def _volume(volume: dict[str, Any]) -> None:
    if not any(name != "name" for name in volume):
        volume["emptyDir"] = {}
    for name in _VOLUMES_WITH_MODE:
        if volume.get(name) is not None:
            volume[name].setdefault("defaultMode", _FILE_MODE)
    if volume.get("hostPath") is not None:
        volume["hostPath"].setdefault("type", "")
    sources = (volume.get("projected") or {}).get("sources") or []
    for source in sources:
        if source.get("serviceAccountToken") is not None:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    for origin in ((volume.get("downwardAPI") or {}), *(s.get("downwardAPI") or {} for s in sources)):
        for item in origin.get("items") or []:
            if item.get("fieldRef") is not None and not item["fieldRef"].get("apiVersion"):
                item["fieldRef"]["apiVersion"] = "v1"
