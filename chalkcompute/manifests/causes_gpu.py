"""Why no node takes a replica that asks for GPUs, and what to ask for instead: out of the nodes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.gpu_offers import (
    GPU_TYPE_LABELS,
    Asked,
    GpuNode,
    Likeness,
    Offer,
    offers,
    only_the_count,
    taint_text,
    untolerated,
)
from chalkcompute.manifests.live import FORBIDDEN, LiveGroup, Rollout, Unasked
from chalkcompute.manifests.pods import Pod

__all__ = ["GpuShortage", "gpu_shortage"]

_SHOWN = 10  # nodes, or types of GPU: the rest are counted
_TYPES_SHOWN = 3


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
    key, kind = next(iter(pod.node_selector.items()), (None, None))
    tolerations = (pod.manifest.get("spec") or {}).get("tolerations") or ()
    asked = Asked(resource, int(amount(pod.requests[resource]) or 0), tolerations, key, kind)
    if live.nodes is FORBIDDEN:
        return _rollout_needs_one(asked, progress, text) or GpuShortage(
            "",
            "the nodes may not be read with this credential: ask whoever runs the cluster which GPUs they "
            f"have and which label says so; where none does, give only the count: `--gpu={asked.count}`",
        )
    if isinstance(live.nodes, Unasked):
        return _rollout_needs_one(asked, progress, text)
    nodes = [GpuNode.of(manifest, resource) for manifest in live.nodes]
    with_gpus = [node for node in nodes if node.gpus]
    found = (
        (_unfit(with_gpus, asked) if with_gpus else _no_gpus(nodes, resource))
        or _rollout_needs_one(asked, progress, text)
        or _in_use(with_gpus, asked, text)
    )
    if found is None:
        return None
    keys = tuple(dict.fromkeys((*([key] if key else []), *GPU_TYPE_LABELS)))
    lines = [node.described(keys) for node in with_gpus]
    more = (f"and {len(lines) - _SHOWN} more",) if len(lines) > _SHOWN else ()
    return GpuShortage(found.lacking, found.next, (*lines[:_SHOWN], *more))


def _is_extended(resource: str) -> bool:
    return "/" in resource and not resource.startswith("kubernetes.io/")


def _no_gpus(nodes: Sequence[GpuNode], resource: str) -> GpuShortage:
    labelled = [node for node in nodes if any(key in node.labels for key in GPU_TYPE_LABELS)]
    if labelled:
        return GpuShortage(
            f"`{labelled[0].name}` has the label of a GPU and offers no `{resource}`",
            "wait if the node is new; else its driver or device plugin does not run: ask whoever runs it",
        )
    who = {0: "there is no node, and so no", 1: "the only node has no"}.get(
        len(nodes), f"none of the {len(nodes)} nodes has a"
    )
    return GpuShortage(
        f"{who} GPU (`{resource}`)",
        "add a node with GPUs (a cluster autoscaler may be doing that already), or deploy without `gpu`",
    )


def _unfit(nodes: Sequence[GpuNode], asked: Asked) -> GpuShortage | None:
    """No node would take the replica even if none of its GPUs were in use."""
    unlike = _other_resource(nodes, asked) or _other_type(nodes, asked)
    fitting = [node for node in nodes if asked.key is None or node.labels.get(asked.key) == asked.kind]
    few = _too_few(fitting, asked) if unlike is None else None
    kept = _kept_away(fitting, asked) if unlike is None and few is None else None
    lacking = unlike or few or kept
    if lacking is None:
        return None
    found = offers(nodes, asked)
    best = found[0]
    # What else stands in the way to the best offer, so that nobody learns of it by the next deploy only.
    if best.count < asked.count and few is None:
        named = best.kind is not None and best.likeness is not Likeness.OTHER
        lacking += f"; none {f'of the type `{best.kind}` ' if named else ''}has more than {best.count}"
    taints = sorted(map(taint_text, untolerated(best.node, asked.tolerations)))
    if taints and kept is None:
        lacking += f"; `{best.node.name}` keeps the replica away by the taint {_listed(taints)}"
    return GpuShortage(lacking, _advice(found, nodes, asked))


def _other_resource(nodes: Sequence[GpuNode], asked: Asked) -> str | None:
    if any(asked.resource in node.gpus for node in nodes):
        return None
    others = sorted({name for node in nodes for name in node.gpus})
    return f"none offers `{asked.resource}`; what they offer is {_listed(others)}"


def _other_type(nodes: Sequence[GpuNode], asked: Asked) -> str | None:
    """The type that was asked for is none that the nodes have, or they name it by another label."""
    offering = [node for node in nodes if asked.resource in node.gpus]
    key, kind = asked.key, asked.kind
    if key is None or any(node.labels.get(key) == kind for node in offering):
        return None
    by_label: dict[str, list[GpuNode]] = {}
    for node in offering:
        label = next((each for each in (key, *GPU_TYPE_LABELS) if node.labels.get(each)), None)
        if label is not None:
            by_label.setdefault(label, []).append(node)
    ours = _values(by_label.pop(key, ()), key)
    text = f"none has the label `{key}`"
    if ours:
        text = f"none has the label `{key}={kind}`; its values on the nodes are {_listed(ours)}"
    elif not by_label:
        return f"{text}, nor another that says its GPU"
    who = "others say it" if ours else "they say their GPU"
    for label in GPU_TYPE_LABELS:
        if label in by_label:
            text += f"; {who} by `{label}`: {_listed(_values(by_label[label], label))}"
            who = "others say it"
    return text


def _too_few(nodes: Sequence[GpuNode], asked: Asked) -> str | None:
    most = max((node.gpus.get(asked.resource, 0) for node in nodes), default=0)
    if most >= asked.count:
        return None
    return f"none has {asked.count} of `{asked.resource}`: the most that one has is {most}"


def _kept_away(nodes: Sequence[GpuNode], asked: Asked) -> str | None:
    """Every node that would do has a taint that the pod does not tolerate."""
    large = [node for node in nodes if node.gpus.get(asked.resource, 0) >= asked.count]
    kept = [untolerated(node, asked.tolerations) for node in large]
    if not large or not all(kept):
        return None
    named = sorted({taint_text(taint) for taints in kept for taint in taints})
    return f"those that have the GPU keep the replica away by the taint {_listed(named)}"


def _advice(found: Sequence[Offer], nodes: Sequence[GpuNode], asked: Asked) -> str:
    """What to ask for instead: each of it would be taken by a node."""
    if found[0].likeness is Likeness.SAME and not found[0].waits_for:
        found = found[:1]
    told = "; or ".join(offer.sentence() for offer in found[:_TYPES_SHOWN])
    if len(found) > _TYPES_SHOWN:
        told += f"; or another of the {len(found)} types"
    if asked.kind is not None and all(offer.kind is not None for offer in found):
        bare = only_the_count(nodes, asked)
        told += f"; or only the count: `--gpu={bare.gpu}`" if bare is not None else ""
    if found[0].count < asked.count:
        told += f"; or add a node with {asked.count}"
    return told


def _rollout_needs_one(asked: Asked, progress: Rollout, text: str) -> GpuShortage | None:
    """New replicas wait for the GPUs that the old ones keep until the new ones are ready."""
    if not progress.old_ready or f"Insufficient {asked.resource}" not in text:
        return None
    extra = "one extra GPU" if asked.count == 1 else f"{asked.count} extra GPUs on one node"
    return GpuShortage(
        f"the rollout needs {extra}, for the earlier replicas keep theirs until the new ones are ready",
        "add a node with a free GPU, or deploy with fewer replicas first",
    )


def _in_use(nodes: Sequence[GpuNode], asked: Asked, text: str) -> GpuShortage | None:
    if f"Insufficient {asked.resource}" not in text:
        return None
    total = sum(node.gpus.get(asked.resource, 0) for node in nodes)
    return GpuShortage(
        f"{asked.count} of `{asked.resource}` is asked for, and too many of the {total} that there are, are "
        "in use",
        "add a node with GPUs (a cluster autoscaler may be doing that already), or scale another group down",
    )


def _values(nodes: Sequence[GpuNode], key: str) -> list[str]:
    return sorted({node.labels[key] for node in nodes if node.labels.get(key)})


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(f"`{value}`" for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
