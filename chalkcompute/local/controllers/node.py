"""This machine as a Node, and the Pods of machines that it is no longer."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalkcompute.local.apimachinery.quantity import canonical_quantity
from chalkcompute.local.controllers.actions import Action, Delete, Update, perform
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.objects import Key, find_condition, format_time, key_of
from chalkcompute.local.controllers.pods import is_ready
from chalkcompute.local.gpus import GPU_RESOURCE, Gpu, accelerator_label, product_label
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["NodeController", "NodeFacts", "node_of", "this_machine", "withdraw_readiness"]

MANAGER = "kubelet"
MAX_PODS = 1000  # a local convenience; the kubelet's own default is 110
GPU_TYPE_LABEL = "cloud.google.com/gke-accelerator"
_GPU_LABELS = (GPU_TYPE_LABEL, "nvidia.com/gpu.present", "nvidia.com/gpu.product", "nvidia.com/gpu.count")
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}  # GOARCH
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
_READINESS = ("Ready", "ContainersReady")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a Node says of a machine.

    Attributes:
        name: Node name, a DNS name in lower case.
        cpu: Cores.
        memory: Bytes.
        gpus: Number of NVIDIA GPUs.
        gpu_type: Their type as GKE labels it (`nvidia-l4`), or "".
        gpu_product: Their type as NVIDIA's GPU operator labels it (`NVIDIA-L4`), or "".
        arch: GOARCH: `amd64`, `arm64`.
        os: GOOS: `linux`, `darwin`.
        kernel: Kernel version.
        os_image: Name of the operating system for people.
        runtime: `containerRuntimeVersion`, `name://version`.
        kubelet: `kubeletVersion`.
        address: Internal address.
        labels: More labels.
    """

    name: str
    cpu: int
    memory: int
    gpus: int = 0
    gpu_type: str = ""
    gpu_product: str = ""
    arch: str = "amd64"
    os: str = "linux"
    kernel: str = ""
    os_image: str = ""
    runtime: str = "chalk://0.1.0"
    kubelet: str = "v1.36.2"
    address: str = "127.0.0.1"
    labels: Mapping[str, str] = field(default_factory=dict)


def this_machine(*, name: str | None = None, gpus: Sequence[Gpu] = ()) -> NodeFacts:
    """The facts of the machine that this runs on.

    Args:
        name: Node name; the host name by default.
        gpus: Its GPUs; where they differ, the first one's type is the Node's.
    """
    host = re.sub(r"[^a-z0-9.-]+", "-", (name or platform.node()).lower()).strip("-.") or "localhost"
    return NodeFacts(
        name=host[:63].rstrip("-."),
        cpu=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=len(gpus),
        gpu_type=accelerator_label(gpus[0].model) if gpus else "",
        gpu_product=product_label(gpus[0].model) if gpus else "",
        arch=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        os=platform.system().lower(),
        kernel=platform.release(),
        os_image=_os_image(),
    )


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:  # not Linux, or a system without os-release
        return f"{platform.system()} {platform.release()}"


def node_of(facts: NodeFacts, known: Manifest | None, now: datetime) -> Manifest:
    """The Node with its status. Pure; a condition keeps its times while it stays as it is."""
    capacity = {
        "cpu": str(facts.cpu),
        "memory": canonical_quantity(f"{facts.memory // 1024}Ki"),
        "pods": str(MAX_PODS),
    }
    if facts.gpus:
        capacity[GPU_RESOURCE] = str(facts.gpus)
    labels = {
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/os": facts.os,
        "kubernetes.io/arch": facts.arch,
        **_gpu_labels(facts),
    }
    base: Manifest = known or {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.name},
        "spec": {},
    }
    kept = {k: v for k, v in (base["metadata"].get("labels") or {}).items() if k not in _GPU_LABELS}
    meta = {**base["metadata"], "labels": {**kept, **labels, **facts.labels}}
    status = {
        **(base.get("status") or {}),
        "capacity": capacity,
        "allocatable": dict(capacity),
        "conditions": _conditions(base.get("status") or {}, format_time(now)),
        "addresses": [
            {"type": "InternalIP", "address": facts.address},
            {"type": "Hostname", "address": facts.name},
        ],
        "nodeInfo": _node_info(facts),
    }
    return {**base, "metadata": meta, "status": status}


def _gpu_labels(facts: NodeFacts) -> dict[str, str]:
    """As GKE and NVIDIA's GPU operator label nodes; what is not known of the GPUs is left out."""
    if not facts.gpus:
        return {}
    values = (facts.gpu_type, "true", facts.gpu_product, str(facts.gpus))
    return {label: value for label, value in zip(_GPU_LABELS, values, strict=True) if value}


def _conditions(known: Manifest, now: str) -> list[dict[str, Any]]:
    conditions = []
    for kind, status, reason, message in _CONDITIONS:
        old = find_condition(known, kind)
        if old is not None and old["status"] == status:
            conditions.append(old)
            continue
        times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
        conditions.append({"type": kind, "status": status, **times, "reason": reason, "message": message})
    return conditions


def _node_info(facts: NodeFacts) -> dict[str, str]:
    return {
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
        "kernelVersion": facts.kernel,
        "osImage": facts.os_image,
        "containerRuntimeVersion": facts.runtime,
        "kubeletVersion": facts.kubelet,
        "kubeProxyVersion": "",
        "operatingSystem": facts.os,
        "architecture": facts.arch,
    }


def strays(node_name: str, nodes: list[Manifest], pods: list[Manifest]) -> list[Action]:
    """Nodes that this machine was called before, and Pods bound to them, which nothing runs. Pure."""
    gone = [Delete(node) for node in nodes if node["metadata"]["name"] != node_name]
    lost = [
        Delete(pod, grace_seconds=0)
        for pod in pods
        if pod["spec"].get("nodeName") not in (None, "", node_name)
    ]
    return [*gone, *lost]


def without_readiness(pod: Manifest, now: str) -> Manifest:
    """A Pod whose processes have ended with the daemon that ran them. Pure."""
    status = pod["status"]
    conditions = [
        {**c, "status": "False", "lastTransitionTime": now} if c["type"] in _READINESS else c
        for c in status["conditions"]
    ]
    containers = [{**c, "ready": False} for c in status.get("containerStatuses") or ()]
    return {**pod, "status": {**status, "conditions": conditions, "containerStatuses": containers}}


def withdraw_readiness(api: Api, clock: Clock) -> None:
    """Take back what a daemon before this one said of Pods, before anybody can read it.

    As the node lifecycle controller does for a node that is gone; what became of them the kubelet says.
    """
    now = format_time(clock())
    ready = [pod for pod in api.list("Pod") if is_ready(pod)]
    perform(api, [Update(without_readiness(pod, now), "status") for pod in ready], manager=MANAGER)


class NodeController:
    """Keeps the one Node. No heartbeat: daemon and Node live and die together."""

    name = "node"
    kinds = ("Node",)

    def __init__(self, api: Api, facts: NodeFacts, clock: Clock) -> None:
        self._api = api
        self._facts = facts
        self._clock = clock

    def register(self) -> None:
        """Make the Node be there and true."""
        key = ("", self._facts.name)
        known = find(self._api, "Node", key)
        node = node_of(self._facts, known, self._clock())
        if known is None:
            known = self._api.create(node, manager=MANAGER)
            node = node_of(self._facts, known, self._clock())
        if node["metadata"] != known["metadata"]:
            perform(self._api, [Update(node)], manager=MANAGER)
            node = node_of(self._facts, self._api.get("Node", self._facts.name), self._clock())
        if node["status"] != known.get("status"):
            perform(self._api, [Update(node, "status")], manager=MANAGER)
        perform(self._api, strays(self._facts.name, self._api.list("Node"), self._api.list("Pod")))

    def keys(self, change: Change) -> Iterator[Key]:
        yield key_of(change.obj)

    def sync(self, key: Key) -> float | None:
        self.register()
        return None
