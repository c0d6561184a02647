"""Why no node takes a replica that asks for GPUs, and what to ask for instead: out of the nodes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.live import FORBIDDEN, LiveGroup, Rollout, Unasked
from chalkcompute.manifests.pods import Pod
from chalkcompute.types import Manifest

__all__ = ["GPU_TYPE_LABELS", "GpuShortage", "gpu_shortage"]

GPU_TYPE_LABELS = (
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.k8s.aws/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
)
"""Node labels that say which GPU a node has: GKE, NVIDIA's operator, EKS Auto Mode, Karpenter, EKS, AKS."""

_GPU_RESOURCE = re.compile(r"(?:nvidia|amd)\.com/(?:gpu|mig-)[\w.-]*|gpu\.intel\.com/\w+|habana\.ai/gaudi")
_SHOWN = 10  # nodes, or types of GPU: the rest are counted
_KEEPS_AWAY = ("NoSchedule", "NoExecute")
_CONDITION = re.compile(r"node(\.cloudprovider)?\.kubernetes\.io/")


@dataclass(frozen=True, slots=True)
class GpuShortage:
    """What the nodes lack.

    Attributes:
        lacking: What no node has, a part of a sentence; "" where the scheduler's own words are all there is.
        next: What to do.
        nodes: What there is, one line a node that has GPUs.
    """

    lacking: str
    next: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    labels: Mapping[str, str]
    gpus: Mapping[str, int]  # allocatable, by resource name
    taints: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, manifest: Manifest, asked: str) -> _Node:
        metadata, spec = manifest["metadata"], manifest.get("spec") or {}
        found = (manifest.get("status") or {}).get("allocatable") or {}
        counts = {name: int(amount(text) or 0) for name, text in found.items()}
        gpus = {n: c for n, c in counts.items() if c and (n == asked or _GPU_RESOURCE.fullmatch(n))}
        return cls(str(metadata["name"]), metadata.get("labels") or {}, gpus, spec.get("taints") or ())

    def described(self, keys: Sequence[str]) -> str:
        parts = [f"{name} {count}" for name, count in sorted(self.gpus.items())]
        parts += [f"{key}={self.labels[key]}" for key in keys if key in self.labels]
        return f"node {self.name}: {', '.join(parts)}"


def gpu_shortage(pod: Pod, live: LiveGroup, progress: Rollout, text: str) -> GpuShortage | None:
    """What the nodes say of a pod that asks for GPUs; None where it asks for none, or nobody asked them.

    Args:
        pod: The pod that no node takes.
        live: Its group.
        progress: How far its rollout has come.
        text: What the scheduler says.
    """
    resource = next((name for name in pod.requests if _is_extended(name)), None)
    if live.record.spec.gpu is None or resource is None:
        return None
    asked = int(amount(pod.requests[resource]) or 0)
    if live.nodes is FORBIDDEN:
        return _rollout_needs_one(resource, asked, progress, text) or GpuShortage(
            "",
            "the nodes may not be read with this credential: ask whoever runs the cluster which GPUs they "
            f"have and which label says so; where none does, give only the count: `--gpu={asked}`",
        )
    if isinstance(live.nodes, Unasked):
        return _rollout_needs_one(resource, asked, progress, text)
    nodes = [_Node.of(manifest, resource) for manifest in live.nodes]
    with_gpus = [node for node in nodes if node.gpus]
    key, kind = next(iter(pod.node_selector.items()), (None, None))
    found = (
        _no_gpus(nodes, with_gpus, resource)
        or _other_type(with_gpus, resource, asked, key, kind)
        or _too_many(with_gpus, resource, asked, key, kind)
        or _kept_away(with_gpus, resource, asked, pod)
        or _rollout_needs_one(resource, asked, progress, text)
        or _in_use(with_gpus, resource, asked, text)
    )
    if found is None:
        return None
    keys = tuple(dict.fromkeys((*([key] if key else []), *GPU_TYPE_LABELS)))
    lines = [node.described(keys) for node in with_gpus]
    more = (f"and {len(lines) - _SHOWN} more",) if len(lines) > _SHOWN else ()
    return GpuShortage(found.lacking, found.next, (*lines[:_SHOWN], *more))


def _is_extended(resource: str) -> bool:
    return "/" in resource and not resource.startswith("kubernetes.io/")


def _no_gpus(nodes: Sequence[_Node], with_gpus: Sequence[_Node], resource: str) -> GpuShortage | None:
    if any(resource in node.gpus for node in with_gpus):
        return None
    if with_gpus:
        others = sorted({name for node in with_gpus for name in node.gpus})
        return GpuShortage(
            f"none offers `{resource}`; what they offer is {_listed(others)}",
            f"set CHALK_GPU_RESOURCE_NAME={others[0]} and deploy again",
        )
    labelled = [node for node in nodes if any(key in node.labels for key in GPU_TYPE_LABELS)]
    if labelled:
        return GpuShortage(
            f"`{labelled[0].name}` has the label of a GPU and offers no `{resource}`",
            "wait if the node is new; else its driver or device plugin does not run: ask whoever runs it",
        )
    count = "the only node has" if len(nodes) == 1 else f"none of the {len(nodes)} nodes has"
    no = "no" if len(nodes) == 1 else "a"
    return GpuShortage(
        f"{count} {no} GPU (`{resource}`)",
        "add a node with GPUs (a cluster autoscaler may be doing that already), or deploy without `gpu`",
    )


def _other_type(
    nodes: Sequence[_Node], resource: str, asked: int, key: str | None, kind: str | None
) -> GpuShortage | None:
    """The type that was asked for is none that the nodes have, or they name it by another label."""
    offering = [node for node in nodes if resource in node.gpus]
    if key is None or kind is None or any(node.labels.get(key) == kind for node in offering):
        return None
    if values := _values(offering, key):
        return GpuShortage(
            f"none has the label `{key}={kind}`; its values on the nodes are {_listed(values)}",
            f"ask for one of these: `--gpu={values[0]}:{asked}`",
        )
    for other in GPU_TYPE_LABELS:
        if values := _values(offering, other):
            same = next((value for value in values if value.lower() == kind.lower()), values[0])
            return GpuShortage(
                f"none has the label `{key}`; they say their GPU by `{other}`: {_listed(values)}",
                f"set CHALK_GPU_NODE_SELECTOR_KEY={other} and give `--gpu={same}:{asked}`, or only the "
                f"count: `--gpu={asked}`",
            )
    return GpuShortage(
        f"none has the label `{key}`, nor another that says its GPU", f"give only the count: `--gpu={asked}`"
    )


def _too_many(
    nodes: Sequence[_Node], resource: str, asked: int, key: str | None, kind: str | None
) -> GpuShortage | None:
    fitting = [node for node in nodes if key is None or node.labels.get(key) == kind]
    most = max((node.gpus.get(resource, 0) for node in fitting), default=0)
    if most >= asked:
        return None
    kinds = f"{kind}:" if kind else ""
    return GpuShortage(
        f"none has {asked} of `{resource}`: the most that one has is {most}",
        f"ask for no more than that, `--gpu={kinds}{most}`, or add a larger node",
    )


def _kept_away(nodes: Sequence[_Node], resource: str, asked: int, pod: Pod) -> GpuShortage | None:
    """Every node that would do has a taint that the pod does not tolerate."""
    wanted = pod.node_selector.items()
    fitting = [n for n in nodes if n.gpus.get(resource, 0) >= asked and wanted <= n.labels.items()]
    kept = [taint for node in fitting for taint in _untolerated(node, pod)]
    if not fitting or not all(_untolerated(node, pod) for node in fitting):
        return None
    # What is tolerated already is among them: the setting takes the place of the default.
    every = sorted({_taint_text(taint) for node in fitting for taint in _taints_to_tolerate(node)})
    named = _listed(sorted({_taint_text(taint) for taint in kept}))
    return GpuShortage(
        f"those that have the GPU keep the replica away by the taint {named}",
        f"set CHALK_GPU_TOLERATIONS={','.join(every)} and deploy again",
    )


def _untolerated(node: _Node, pod: Pod) -> list[Mapping[str, Any]]:
    tolerations = (pod.manifest.get("spec") or {}).get("tolerations") or ()
    return [
        taint for taint in _taints_to_tolerate(node) if not any(_tolerates(t, taint) for t in tolerations)
    ]


def _taints_to_tolerate(node: _Node) -> list[Mapping[str, Any]]:
    """Taints that someone set the node aside with, without those that say that it is unwell."""
    return [
        taint
        for taint in node.taints
        if taint.get("effect") in _KEEPS_AWAY and not _CONDITION.match(str(taint.get("key")))
    ]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same_key = toleration["key"] == taint.get("key")
    exists = toleration.get("operator") == "Exists"
    return bool(same_key and (exists or (toleration.get("value") or "") == (taint.get("value") or "")))


def _taint_text(taint: Mapping[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"


def _rollout_needs_one(resource: str, asked: int, progress: Rollout, text: str) -> GpuShortage | None:
    """New replicas wait for the GPUs that the old ones keep until the new ones are ready."""
    if not progress.old_ready or f"Insufficient {resource}" not in text:
        return None
    extra = "one extra GPU" if asked == 1 else f"{asked} extra GPUs on one node"
    return GpuShortage(
        f"the rollout needs {extra}, for the earlier replicas keep theirs until the new ones are ready",
        "add a node with a free GPU, or deploy with fewer replicas first",
    )


def _in_use(nodes: Sequence[_Node], resource: str, asked: int, text: str) -> GpuShortage | None:
    if f"Insufficient {resource}" not in text:
        return None
    total = sum(node.gpus.get(resource, 0) for node in nodes)
    return GpuShortage(
        f"{asked} of `{resource}` is asked for, and too many of the {total} that there are, are in use",
        "add a node with GPUs (a cluster autoscaler may be doing that already), or scale another group down",
    )


def _values(nodes: Sequence[_Node], key: str) -> list[str]:
    return sorted({node.labels[key] for node in nodes if node.labels.get(key)})


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(f"`{value}`" for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
