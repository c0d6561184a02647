"""What the verdict on GPUs advises: taken as printed, a node of those that were seen takes the replica."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.manifests import render
from chalkcompute.manifests.diagnose import diagnose
from chalkcompute.manifests.gpu_nodes import Toleration, tolerations
from chalkcompute.manifests.gpu_offers import GPU_TYPE_LABELS
from chalkcompute.manifests.placement import Profile
from chalkcompute.types import Manifest, Verdict
from tests.properties import examples
from tests.unit.manifests.manifests_builders import (
    GROUP_ID,
    NOW,
    a_condition,
    a_deployment,
    a_live,
    a_placement,
    a_spec,
)

TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
USUAL = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
LEAVING = {"key": "ToBeDeletedByClusterAutoscaler", "value": "1764563000", "effect": "NoSchedule"}
PASSING = (CORDON, LEAVING)
MESSAGE = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
GKE, PRODUCT, EKS = GPU_TYPE_LABELS[:3]
AKS = GPU_TYPE_LABELS[-1]


def a_node(
    name: str, count: int, labels: Any = None, taints: Any = (), resource: str = "nvidia.com/gpu"
) -> Manifest:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": {"cpu": "8", **({resource: str(count)} if count else {})}},
    }


def pod_spec(gpu: str, profile: Profile | None = None) -> Manifest:
    placement = a_placement(profile=profile or Profile())
    objects = render(a_spec(gpu=gpu), placement)
    found: Manifest = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
    return found


def verdict_on(gpu: str, nodes: list[Manifest], profile: Profile | None = None) -> Verdict:
    pod = {
        "metadata": {
            "name": "inference-1",
            "creationTimestamp": "2026-11-23T11:20:00Z",
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID, "pod-template-hash": "new"},
        },
        "spec": pod_spec(gpu, profile),
        "status": {
            "phase": "Pending",
            "conditions": [a_condition("PodScheduled", "False", "Unschedulable", message=MESSAGE)],
        },
    }
    live = a_live(
        a_spec(gpu=gpu), deployment=a_deployment(replicas=1, updated=1, total=1), pods=[pod], nodes=nodes
    )
    verdict = diagnose(live, NOW)
    assert verdict is not None
    return verdict


def takes(node: Manifest, pod: Manifest) -> bool:
    """The scheduler's filters of labels, taints and extended resources."""
    labels, offered = node["metadata"]["labels"], node["status"]["allocatable"]
    wanted = pod["containers"][0]["resources"]["requests"]
    gpus = {name: int(count) for name, count in wanted.items() if "/" in name}
    tolerated = [
        (t["key"], t.get("value") if t["operator"] == "Equal" else None, t["effect"])
        for t in pod["tolerations"]
    ]
    return (
        (pod.get("nodeSelector") or {}).items() <= labels.items()
        and all(int(offered.get(name, 0)) >= count for name, count in gpus.items())
        and all(
            any((t["key"], value, t["effect"]) in tolerated for value in (t.get("value"), None))
            for t in node["spec"]["taints"]
        )
    )


def advised(verdict: Verdict, gpu: str, now: Profile | None = None) -> list[tuple[Manifest, str]]:
    """The pods of each alternative that the verdict names, and the node that must get well first, or ""."""
    found = []
    for alternative in (verdict.next or "").split("; or "):
        if alternative.startswith(("add ", "another ")):
            continue
        settings = dict(re.findall(r"CHALK_GPU_(\w+)=(\S+)", alternative))
        profile = now or Profile()
        if key := settings.pop("NODE_SELECTOR_KEY", None):
            profile = replace(profile, gpu_node_selector_key=key)
        if name := settings.pop("RESOURCE_NAME", None):
            profile = replace(profile, gpu_resource_name=name)
        if taints := settings.pop("TOLERATIONS", None):
            profile = replace(profile, gpu_taints=tolerations("X", taints))
        assert not settings
        given_gpu = re.search(r"`--gpu=([^`]+)`", alternative)
        waits = re.search(r"once `([^`]+)` has lost the taint", alternative)
        found.append((pod_spec(given_gpu[1] if given_gpu else gpu, profile), waits[1] if waits else ""))
    return found


def well(node: Manifest) -> Manifest:
    taints = [taint for taint in node["spec"]["taints"] if taint not in PASSING]
    return {**node, "spec": {"taints": taints}}


LABELS = st.dictionaries(
    st.sampled_from((GKE, PRODUCT, EKS, AKS)),
    st.sampled_from(
        ("nvidia-l4", "NVIDIA-L4", "l4", "a10g", "nvidia", "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB")
    ),
    max_size=2,
)
TAINTS = (
    TAINT,
    USUAL,
    {"key": "alone", "effect": "NoExecute"},
    {"key": "amd.com/gpu", "effect": "NoSchedule"},
)
NODES = st.lists(
    st.tuples(
        st.integers(0, 4),
        LABELS,
        st.lists(st.sampled_from((*TAINTS, *PASSING)), max_size=2, unique_by=lambda t: str(t["key"])),
        st.sampled_from(("nvidia.com/gpu", "nvidia.com/gpu", "amd.com/gpu")),
    ),
    min_size=1,
    max_size=4,
)
PROFILES = st.builds(
    Profile,
    gpu_node_selector_key=st.sampled_from((GKE, GKE, PRODUCT)),
    gpu_resource_name=st.sampled_from(("nvidia.com/gpu", "nvidia.com/gpu", "amd.com/gpu")),
    gpu_taints=st.sampled_from(
        ((), (), (Toleration("sku"),), (Toleration("sku", value="gpu"), Toleration("nvidia.com/gpu")))
    ),
)


@given(NODES, st.sampled_from(("nvidia-l4:1", "nvidia-l4:2", "l4:3", "nvidia-a100-80gb:1", "2")), PROFILES)
@examples(400)
def test_what_is_advised_is_taken_by_a_node_that_was_seen(
    parts: list[Any], gpu: str, profile: Profile
) -> None:
    nodes = [a_node(f"n{number}", *part) for number, part in enumerate(parts)]
    if any(takes(well(node), pod_spec(gpu, profile)) for node in nodes):
        return  # it is in use, has no memory, or is unwell: the scheduler's words say so
    if not any("/gpu" in name for node in nodes for name in node["status"]["allocatable"]):
        return
    verdict = verdict_on(gpu, nodes, profile)
    pods = advised(verdict, gpu, profile)
    assert pods, verdict.next
    for pod, waits in pods:
        # What waits for a node is taken by that one without its taint; the rest is taken at once.
        able = [well(node) for node in nodes if node["metadata"]["name"] == waits] if waits else nodes
        assert any(takes(node, pod) for node in able), verdict.next
        assert not {t["key"] for t in pod["tolerations"]} & {t["key"] for t in PASSING}, verdict.next
    if all(waits for _, waits in pods):  # only where nothing can be had at once
        with_gpus = [node for node in nodes if len(node["status"]["allocatable"]) > 1]
        assert all(well(node) != node for node in with_gpus), verdict.next


@pytest.mark.parametrize(
    ("gpu", "nodes", "said", "advice"),
    [
        (  # what was asked for, by another name, before what comes first in the alphabet
            "nvidia-l4:2",
            [a_node("a", 4, {EKS: "a10g"}), a_node("b", 1, {EKS: "l4"})],
            f"by `{EKS}`: `a10g`, `l4`; none of the type `l4` has more than 1",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={EKS} and give `--gpu=l4:1`; or only the count: `--gpu=2`; "
            "or add a node with 2",
        ),
        (
            "nvidia-a100:1",
            [a_node("a", 8, {PRODUCT: "NVIDIA-A100-SXM4-40GB"}), a_node("b", 1, {PRODUCT: "NVIDIA-L4"})],
            "`NVIDIA-A100-SXM4-40GB`, `NVIDIA-L4`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give `--gpu=NVIDIA-A100-SXM4-40GB:1`; or only "
            "the count: `--gpu=1`",
        ),
        (  # none is the one: all are named
            "nvidia-h100:1",
            [a_node("a", 4, {GKE: "nvidia-l4"}), a_node("b", 1, {GKE: "nvidia-tesla-t4"})],
            f"none has the label `{GKE}=nvidia-h100`",
            "give `--gpu=nvidia-l4:1`; or give `--gpu=nvidia-tesla-t4:1`; or only the count: `--gpu=1`",
        ),
        (  # all that stands in the way at once
            "nvidia-l4:2",
            [a_node("aks", 1, {AKS: "nvidia"}, [TAINT])],
            f"by `{AKS}`: `nvidia`; none has more than 1; `aks` keeps the replica away by the "
            "taint `sku=gpu:NoSchedule`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={AKS} and CHALK_GPU_TOLERATIONS=sku=gpu:NoSchedule and give "
            "`--gpu=nvidia:1`; or add a node with 2",
        ),
        (
            "l4:2",
            [a_node("a", 1)],
            "nor another that says its GPU; none has more than 1",
            "give only the count: `--gpu=1`; or add a node with 2",
        ),
        (
            "l4:1",
            [a_node("a", 1, {PRODUCT: "AMD-MI300"}, resource="amd.com/gpu")],
            "none offers `nvidia.com/gpu`; what they offer is `amd.com/gpu`",
            f"set CHALK_GPU_RESOURCE_NAME=amd.com/gpu and CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give "
            "`--gpu=AMD-MI300:1`",
        ),
        (  # a type that another label names
            "nvidia-l4:2",
            [a_node("a", 1, {GKE: "nvidia-tesla-t4"}), a_node("b", 1, {PRODUCT: "NVIDIA-L4"})],
            f"its values on the nodes are `nvidia-tesla-t4`; others say it by `{PRODUCT}`: `NVIDIA-L4`; none "
            "of the type `NVIDIA-L4` has more than 1",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give `--gpu=NVIDIA-L4:1`; or add a node with 2",
        ),
        (  # several of the model: the choice is not made by the alphabet
            "nvidia-a100:1",
            [
                a_node("a", 1, {PRODUCT: "NVIDIA-A100-SXM4-40GB"}),
                a_node("b", 1, {PRODUCT: "NVIDIA-A100-SXM4-80GB"}),
                a_node("c", 7, {PRODUCT: "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}),
            ],
            f"they say their GPU by `{PRODUCT}`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give `--gpu=NVIDIA-A100-SXM4-40GB:1`; or set "
            f"CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give `--gpu=NVIDIA-A100-SXM4-80GB:1`; or only",
        ),
        (  # half the memory is another type
            "nvidia-a100-80gb:1",
            [a_node("a", 1, {GKE: "nvidia-a100-40gb"}), a_node("b", 1, {GKE: "nvidia-h100-80gb"})],
            f"none has the label `{GKE}=nvidia-a100-80gb`",
            "give `--gpu=nvidia-a100-40gb:1`; or give `--gpu=nvidia-h100-80gb:1`; or only the count",
        ),
        (
            "nvidia-a100-80gb:1",
            [a_node("a", 1, {GKE: "nvidia-a100-40gb"}), a_node("b", 1, {GKE: "NVIDIA-A100-SXM4-80GB"})],
            f"none has the label `{GKE}=nvidia-a100-80gb`",
            "give `--gpu=NVIDIA-A100-SXM4-80GB:1`; or only the count",
        ),
        (
            "nvidia-l4:1",
            [
                a_node("a", 1, {EKS: "l4"}, [CORDON]),
                a_node("b", 1, {EKS: "a10g"}),
                a_node("c", 1, {EKS: "t4"}, [LEAVING]),
            ],
            "`a10g`, `l4`, `t4`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={EKS} and give `--gpu=l4:1`, once `a` has lost the taint "
            f"`{CORDON['key']}:NoSchedule`; or set CHALK_GPU_NODE_SELECTOR_KEY={EKS} and give "
            "`--gpu=a10g:1`; or only the count",
        ),
        (  # the node that has enough is cordoned, another has less
            "nvidia-l4:2",
            [a_node("a", 1, {GKE: "NVIDIA-L4"}), a_node("b", 2, {GKE: "NVIDIA-L4"}, [CORDON])],
            f"none has the label `{GKE}=nvidia-l4`",
            f"give `--gpu=NVIDIA-L4:2`, once `b` has lost the taint `{CORDON['key']}:NoSchedule`; or give "
            "`--gpu=NVIDIA-L4:1`",
        ),
        (  # the node does not tell how much memory; another type is no nearer
            "nvidia-a100-80gb:1",
            [a_node("a", 1, {EKS: "a10g"}), a_node("b", 1, {EKS: "a100"})],
            "`a100`, `a10g`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={EKS} and give `--gpu=a100:1`; or only the count",
        ),
        ("1", [], "there is no node, and so no GPU (`nvidia.com/gpu`)", "add a node with GPUs"),
    ],
)
def test_all_that_stands_in_the_way_is_told_at_once(
    gpu: str, nodes: list[Manifest], said: str, advice: str
) -> None:
    verdict = verdict_on(gpu, nodes)
    assert said in verdict.message
    assert (verdict.next or "").startswith(advice)
