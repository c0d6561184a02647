"""EndpointSlices: the addresses behind each Service that has a selector.

Source: k8s.io/endpointslice `reconciler.go`, `utils.go`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from chalkcompute.local.controllers.actions import Action, Create, Delete, Update, perform
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.objects import Key, format_time, is_deleting, key_of, owner_reference
from chalkcompute.local.controllers.pods import is_finished, is_ready
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["EndpointSliceController", "endpoint_of", "ports_of", "reconcile"]

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def ports_of(service: Manifest, pod: Manifest) -> list[dict[str, Any]]:
    """The Service's ports as this Pod has them; a named `targetPort` that it lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target_port(port, pod)
        if number is None:
            continue
        entry = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def _target_port(port: Mapping[str, Any], pod: Manifest) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    if target.isdigit():
        return int(target)
    protocol = port.get("protocol", "TCP")
    for container in pod["spec"]["containers"]:
        for candidate in container.get("ports") or ():
            if candidate.get("name") == target and candidate.get("protocol", "TCP") == protocol:
                return int(candidate["containerPort"])
    return None


def endpoint_of(service: Manifest, pod: Manifest) -> dict[str, Any]:
    """One endpoint."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    meta = pod["metadata"]
    endpoint: dict[str, Any] = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": anyway or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }
    if pod["spec"].get("nodeName"):
        endpoint["nodeName"] = pod["spec"]["nodeName"]
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    return endpoint


def reconcile(
    service: Manifest, pods: Sequence[Manifest], slices: Sequence[Manifest], now: datetime
) -> list[Action]:
    """Bring the slices of a Service up to date. Pure.

    One slice for every distinct set of ports: more than one only where Pods give a name other numbers.
    """
    actions: list[Action] = []
    spare = sorted(slices, key=lambda s: str(s["metadata"]["name"]))
    for content in _wanted(service, pods):
        existing = next((s for s in spare if _ports_key(s) == _ports_key(content)), None)
        if existing is None and spare:
            existing = spare[0]
        if existing is None:
            actions.append(Create(_new_slice(service, content, now)))
            continue
        spare.remove(existing)
        labels = {**(existing["metadata"].get("labels") or {}), **_labels(service)}
        if service["spec"].get("clusterIP") != "None":
            labels.pop(HEADLESS, None)
        current = {k: existing.get(k) or [] for k in content}
        if content != current or labels != existing["metadata"].get("labels"):
            annotations = {**(existing["metadata"].get("annotations") or {}), TRIGGER_TIME: format_time(now)}
            meta = {**existing["metadata"], "labels": labels, "annotations": annotations}
            actions.append(Update({**existing, **content, "metadata": meta}))
    return [*actions, *(Delete(s) for s in spare)]


def _wanted(service: Manifest, pods: Sequence[Manifest]) -> list[dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for pod in sorted(pods, key=lambda p: str(p["metadata"]["name"])):
        address = (pod.get("status") or {}).get("podIP")
        if not address or is_finished(pod) or ip_address(address).version != 4:
            continue
        group = {"ports": ports_of(service, pod), "endpoints": []}
        groups.setdefault(_ports_key(group), group)["endpoints"].append(endpoint_of(service, pod))
    return list(groups.values()) or [{"ports": [], "endpoints": []}]


def _ports_key(content: Mapping[str, Any]) -> str:
    return json.dumps(content.get("ports") or [], sort_keys=True)


def _labels(service: Manifest) -> dict[str, str]:
    """The Service's labels, and the controller's own."""
    labels = dict(service["metadata"].get("labels") or {})
    labels[SERVICE_NAME] = service["metadata"]["name"]
    labels[MANAGED_BY] = CONTROLLER
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels


def _new_slice(service: Manifest, content: dict[str, Any], now: datetime) -> Manifest:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{name}-",
            "namespace": namespace,
            "labels": _labels(service),
            "annotations": {TRIGGER_TIME: format_time(now)},
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        **content,
    }


class EndpointSliceController:
    """Keeps the EndpointSlices of Services with a selector."""

    name = "endpointslice"
    kinds = ("Service", "Pod", "EndpointSlice")

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._selectors: dict[Key, Mapping[str, str]] = {}

    def keys(self, change: Change) -> Iterator[Key]:
        """The Service itself, of a slice, or those that select a Pod (or did)."""
        namespace = change.obj["metadata"]["namespace"]
        if change.kind == "Service":
            self._selectors.pop(key_of(change.obj), None)
            if change.type != "DELETED" and change.obj["spec"].get("selector"):
                self._selectors[key_of(change.obj)] = change.obj["spec"]["selector"]
            yield key_of(change.obj)
        elif change.kind == "EndpointSlice":
            labels = change.obj["metadata"].get("labels") or {}
            if labels.get(MANAGED_BY) == CONTROLLER and SERVICE_NAME in labels:
                yield namespace, labels[SERVICE_NAME]
        elif _matters(change):
            either = [o["metadata"].get("labels") or {} for o in (change.obj, change.old) if o is not None]
            for key, selector in self._selectors.items():
                if key[0] == namespace and any(selector.items() <= labels.items() for labels in either):
                    yield key

    def sync(self, key: Key) -> float | None:
        service = find(self._api, "Service", key)
        if service is None or is_deleting(service) or not service["spec"].get("selector"):
            return None  # the slices of a Service that is gone fall to the garbage collector
        namespace, name = key
        pods = self._api.list("Pod", namespace, labels=service["spec"]["selector"])
        ours = {SERVICE_NAME: name, MANAGED_BY: CONTROLLER}
        slices = [s for s in self._api.list("EndpointSlice", namespace, labels=ours) if not is_deleting(s)]
        perform(self._api, reconcile(service, pods, slices, self._clock()))
        return None


def _matters(change: Change) -> bool:
    """Whether a Pod changed in what endpoints show of it."""
    if change.old is None or change.type != "MODIFIED":
        return True
    return _facts(change.obj) != _facts(change.old)


def _facts(pod: Manifest) -> tuple[object, ...]:
    status = pod.get("status") or {}
    return (
        pod["metadata"].get("labels"),
        is_deleting(pod),
        is_finished(pod),
        is_ready(pod),
        status.get("podIP"),
        pod["spec"].get("nodeName"),
    )
