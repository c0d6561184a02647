"""What GPUs nodes offer, and what a replica would have to ask for to get one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chalkcompute.manifests.amounts import amount
from chalkcompute.types import Manifest

__all__ = [
    "GPU_TYPE_LABELS",
    "Asked",
    "GpuNode",
    "Likeness",
    "Offer",
    "offers",
    "only_the_count",
    "taint_text",
    "untolerated",
]

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
_KEEPS_AWAY = ("NoSchedule", "NoExecute")
# Taints that come and go by themselves: a node that starts, fails, is cordoned, or is about to be removed.
_PASSING = re.compile(
    r"node(\.cloudprovider)?\.kubernetes\.io/.*|ToBeDeletedByClusterAutoscaler|.*/agent-not-ready"
    r"|karpenter\.sh/(disrupted|disruption|unregistered)"
)
_BRANDS = frozenset({"nvidia", "amd", "intel", "tesla", "geforce", "quadro", "rtx", "instinct"})
_PARTS_OF_ONE = frozenset({"mig", "shared"})  # in the type of a slice of a GPU, or of one that several share


@dataclass(frozen=True, slots=True)
class GpuNode:
    """What a node says of its GPUs.

    Attributes:
        name: Its name.
        labels: Its labels.
        gpus: Allocatable GPUs by resource name; none are left out.
        taints: Its taints.
    """

    name: str
    labels: Mapping[str, str]
    gpus: Mapping[str, int]
    taints: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, manifest: Manifest, asked: str) -> GpuNode:
        """Read a Node; `asked` counts as a GPU whatever its name."""
        metadata, spec = manifest["metadata"], manifest.get("spec") or {}
        found = (manifest.get("status") or {}).get("allocatable") or {}
        counts = {name: int(amount(text) or 0) for name, text in found.items()}
        gpus = {n: c for n, c in counts.items() if c and (n == asked or _GPU_RESOURCE.fullmatch(n))}
        return cls(str(metadata["name"]), metadata.get("labels") or {}, gpus, spec.get("taints") or ())

    def described(self, keys: Sequence[str]) -> str:
        """One line: its GPUs, and those labels of `keys` that it has."""
        parts = [f"{name} {count}" for name, count in sorted(self.gpus.items())]
        parts += [f"{key}={self.labels[key]}" for key in keys if key in self.labels]
        return f"node {self.name}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pod asks for.

    Attributes:
        resource: Extended resource of a GPU.
        count: How many.
        tolerations: `spec.tolerations`.
        key: Node label of the type, or None without one.
        kind: Its value, the type.
    """

    resource: str
    count: int
    tolerations: Sequence[Mapping[str, Any]] = ()
    key: str | None = None
    kind: str | None = None


class Likeness(IntEnum):
    """How near a type of GPU is to the one that is asked for, the nearest first."""

    SAME = 0
    """By whatever vendor's prefix and case."""
    VARIANT = 1
    """One of those that what is asked for may mean: `NVIDIA-A100-SXM4-40GB` for `a100`."""
    LESS_EXACT = 2
    """The node tells less than was asked for: `a100` for `nvidia-a100-80gb`."""
    OTHER = 3


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node would take a replica for.

    Attributes:
        asked: What is asked for now.
        node: The node.
        resource: Extended resource to ask for.
        count: How many, no more than the node has.
        key: Node label of the type, or None where only the count tells.
        kind: Its value.
        taints: Taints to tolerate, as `CHALK_GPU_TOLERATIONS` has them; () for those that are tolerated.
    """

    asked: Asked
    node: GpuNode
    resource: str
    count: int
    key: str | None
    kind: str | None
    taints: tuple[str, ...]

    @property
    def gpu(self) -> str:
        """The value of `--gpu`."""
        return f"{self.kind}:{self.count}" if self.kind is not None else str(self.count)

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables to set, by name."""
        found = {}
        if self.resource != self.asked.resource:
            found["CHALK_GPU_RESOURCE_NAME"] = self.resource
        if self.key is not None and self.key != self.asked.key:
            found["CHALK_GPU_NODE_SELECTOR_KEY"] = self.key
        if self.taints:
            found["CHALK_GPU_TOLERATIONS"] = ",".join(self.taints)
        return found

    @property
    def likeness(self) -> Likeness:
        """How near it is to the type that is asked for; any type is where none was."""
        if self.asked.kind is None or self.asked.kind == self.kind:
            return Likeness.SAME
        return _likeness(self.asked.kind, self.kind) if self.kind is not None else Likeness.OTHER

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Taints that the node must lose first, and that nobody should tolerate."""
        return tuple(sorted(map(taint_text, _passing(self.node))))

    def sentence(self) -> str:
        """What to do."""
        parts = [f"{name}={value}" for name, value in self.settings.items()]
        parts = [f"set {' and '.join(parts)}"] if parts else []
        once = ""
        if self.waits_for:
            once = (
                f", once `{self.node.name}` has lost the taint {', '.join(f'`{t}`' for t in self.waits_for)}"
            )
        if (self.key, self.kind, self.count) == (self.asked.key, self.asked.kind, self.asked.count):
            return " and ".join((*parts, "deploy again")) + once
        bare = "only the count: " if self.kind is None and self.asked.kind is not None else ""
        return " and ".join((*parts, f"give {bare}`--gpu={self.gpu}`")) + once


def offers(nodes: Iterable[GpuNode], asked: Asked) -> list[Offer]:
    """The best offer of each type of GPU, the best of all first.

    Where it waits for its node, the best that does not is there as well. Only those that are the most like
    the type that is asked for; the others follow where each of those waits for its node.
    """
    found: list[Offer] = []
    for offer in sorted((_offer(node, asked) for node in nodes if node.gpus), key=_rank):
        same = [each for each in found if (each.resource, each.kind) == (offer.resource, offer.kind)]
        if not same or (not offer.waits_for and all(each.waits_for for each in same)):
            found.append(offer)
    nearest = min((offer.likeness for offer in found), default=Likeness.OTHER)
    near = [offer for offer in found if offer.likeness is nearest]
    if all(offer.waits_for for offer in near):
        near += [offer for offer in found if offer.likeness is not nearest and not offer.waits_for]
    return near


def only_the_count(nodes: Iterable[GpuNode], asked: Asked) -> Offer | None:
    """An offer for the same without a type, if that takes no more than to leave it out."""
    wanted = Asked(asked.resource, asked.count, asked.tolerations)
    for offer in offers(nodes, wanted)[:1]:
        if offer.count == asked.count and not offer.settings and not offer.waits_for:
            return offer
    return None


def _offer(node: GpuNode, asked: Asked) -> Offer:
    resource = asked.resource
    if resource not in node.gpus:
        resource = max(sorted(node.gpus), key=lambda name: node.gpus[name])
    key, kind = asked.key, asked.kind
    if key is not None and node.labels.get(key) != kind:
        labels = (label for label in (key, *GPU_TYPE_LABELS) if node.labels.get(label))
        key = next(labels, None)
        kind = node.labels[key] if key is not None else None
    tolerations = asked.tolerations
    if _are_the_default(tolerations, asked.resource):  # of the resource, and so of another one if that is set
        tolerations = [{**toleration, "key": resource} for toleration in tolerations]
    taints: tuple[str, ...] = ()
    if untolerated(node, tolerations):  # the setting takes the place of the default, so that all are in it
        taints = tuple(sorted(map(taint_text, _taints_to_tolerate(node))))
    count = min(asked.count, node.gpus[resource])
    return Offer(asked, node, resource, count, key, kind, taints)


def _rank(offer: Offer) -> tuple[Any, ...]:
    return (
        offer.count < offer.asked.count,
        bool(offer.waits_for),
        len(offer.settings),
        -offer.count,
        offer.kind or "",
        offer.node.name,
    )


def _are_the_default(tolerations: Sequence[Mapping[str, Any]], resource: str) -> bool:
    """Whether no setting gives them; those that Kubernetes adds to every pod are of passing taints."""
    return all(
        (t.get("key") == resource and t.get("operator") == "Exists") or _PASSING.fullmatch(str(t.get("key")))
        for t in tolerations
    )


def _likeness(asked: str, kind: str) -> Likeness:
    wanted, told = _words(asked), _words(kind)
    if wanted == told:
        return Likeness.SAME
    if (wanted ^ told) & _PARTS_OF_ONE:
        return Likeness.OTHER
    if wanted < told:
        return Likeness.VARIANT
    return Likeness.LESS_EXACT if told < wanted else Likeness.OTHER


def _words(kind: str) -> frozenset[str]:
    """`l4` of `nvidia-l4`, `NVIDIA-L4` and `l4`; `a100`, `sxm4` and `40gb` of `NVIDIA-A100-SXM4-40GB`."""
    words = frozenset(re.split(r"[-_]", kind.lower()))
    return (words - _BRANDS) or words


def untolerated(node: GpuNode, tolerations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Taints that someone set the node aside with, and that are not tolerated."""
    return [
        taint for taint in _taints_to_tolerate(node) if not any(_tolerates(t, taint) for t in tolerations)
    ]


def _taints_to_tolerate(node: GpuNode) -> list[Mapping[str, Any]]:
    """Taints that someone set the node aside with, without those that pass."""
    passing = _passing(node)
    return [taint for taint in node.taints if taint.get("effect") in _KEEPS_AWAY and taint not in passing]


def _passing(node: GpuNode) -> list[Mapping[str, Any]]:
    return [
        taint
        for taint in node.taints
        if taint.get("effect") in _KEEPS_AWAY and _PASSING.fullmatch(str(taint.get("key")))
    ]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same_key = toleration["key"] == taint.get("key")
    exists = toleration.get("operator") == "Exists"
    return bool(same_key and (exists or (toleration.get("value") or "") == (taint.get("value") or "")))


def taint_text(taint: Mapping[str, Any]) -> str:
    """`key=value:Effect`, as `kubectl taint` writes it."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"
