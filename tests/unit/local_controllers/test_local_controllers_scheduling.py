"""Which Pods fit the Node, and the scheduler's words when they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalkcompute.local.controllers.node import NodeFacts, node_of, strays, this_machine, withdraw_readiness
from chalkcompute.local.controllers.scheduler import is_waiting, with_scheduled_condition
from chalkcompute.local.controllers.scheduling import Placed, Refused, place, requests_of
from chalkcompute.local.gpus import Gpu

Manifest = dict[str, Any]
Make = Callable[..., Manifest]

FACTS = NodeFacts(name="node1", cpu=2, memory=4 << 30)
PREEMPTION = "no new claims to deallocate, preemption: 0/1 nodes are available:"
NO_HELP = f"{PREEMPTION} 1 Preemption is not helpful for scheduling."
NO_VICTIM = f"{PREEMPTION} 1 No preemption victims found for incoming pod."


@pytest.fixture
def node(clock: Any) -> Manifest:
    return node_of(FACTS, None, clock())


def asking(pod: Manifest, **resources: str) -> Manifest:
    requests = {name.replace("gpu", "nvidia.com/gpu"): amount for name, amount in resources.items()}
    pod["spec"]["containers"][0]["resources"] = {"requests": requests}
    return pod


def test_a_pod_goes_to_the_node(pod: Make, node: Manifest) -> None:
    assert place(asking(pod("a", node=""), cpu="2", memory="4Gi"), [node], []) == Placed("node1")


def test_without_a_node_there_is_nowhere_to_go(pod: Make) -> None:
    assert place(pod("a", node=""), [], []) == Refused("no nodes available to schedule pods")


def test_too_big_for_the_machine(pod: Make, node: Manifest) -> None:
    outcome = place(asking(pod("a", node=""), cpu="500", memory="1Ti"), [node], [])
    assert outcome == Refused(
        f"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. {NO_HELP}"
    )


def test_no_room_beside_the_others(pod: Make, node: Manifest) -> None:
    others = [asking(pod("b"), cpu="1500m")]
    outcome = place(asking(pod("a", node=""), cpu="1"), [node], others)
    assert outcome == Refused(f"0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIM}")


def test_finished_pods_and_those_elsewhere_take_no_room(pod: Make, node: Manifest) -> None:
    others = [asking(pod("b", phase="Succeeded"), cpu="2"), asking(pod("c", node="node2"), cpu="2")]
    assert place(asking(pod("a", node=""), cpu="2"), [node], others) == Placed("node1")


def test_gpus(pod: Make, node: Manifest, clock: Any) -> None:
    wanting = asking(pod("a", node=""), gpu="1")
    assert place(wanting, [node], []) == Refused(
        f"0/1 nodes are available: 1 Insufficient nvidia.com/gpu. {NO_HELP}"
    )
    facts = NodeFacts(name="node1", cpu=2, memory=4 << 30, gpus=1, gpu_type="nvidia-l4")
    with_gpu = node_of(facts, None, clock())
    wanting["spec"]["nodeSelector"] = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert place(wanting, [with_gpu], []) == Placed("node1")


def test_a_selector_that_no_node_has(pod: Make, node: Manifest) -> None:
    choosy = asking(pod("a", node=""), gpu="1")
    choosy["spec"]["nodeSelector"] = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert place(choosy, [node], []) == Refused(
        f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {NO_HELP}"
    )


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "kubernetes.io/os", "operator": "In", "values": ["linux", "darwin"]}, True),
        ({"key": "kubernetes.io/os", "operator": "NotIn", "values": ["linux"]}, False),
        ({"key": "kubernetes.io/os", "operator": "Exists"}, True),
        ({"key": "kubernetes.io/os", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["4"]}, False),
        ({"key": "absent", "operator": "Gt", "values": ["4"]}, False),
    ],
)
def test_required_node_affinity(pod: Make, node: Manifest, expression: Manifest, fits: bool) -> None:
    node["metadata"]["labels"]["cores"] = "8"
    choosy = pod("a", node="")
    terms = [{"matchExpressions": [expression]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    choosy["spec"]["affinity"] = {"nodeAffinity": required}
    assert isinstance(place(choosy, [node], []), Placed) is fits


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        (None, False),
        ({"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}, True),
        ({"key": "sku", "value": "cpu"}, False),
        ({"key": "sku", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "sku", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints(pod: Make, node: Manifest, toleration: Manifest | None, fits: bool) -> None:
    node["spec"]["taints"] = [
        {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
    ]
    candidate = pod("a", node="")
    candidate["spec"]["tolerations"] = [toleration] if toleration else []
    outcome = place(candidate, [node], [])
    if fits:
        assert outcome == Placed("node1")
    else:
        assert outcome == Refused(f"0/1 nodes are available: 1 node(s) had untolerated taint(s). {NO_HELP}")


def test_a_cordoned_node_takes_no_pods(pod: Make, node: Manifest) -> None:
    node["spec"]["unschedulable"] = True
    outcome = place(pod("a", node=""), [node], [])
    assert outcome == Refused(f"0/1 nodes are available: 1 node(s) were unschedulable. {NO_HELP}")


def test_init_containers_count_by_the_largest(pod: Make) -> None:
    wanting = pod("a")
    wanting["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    wanting["spec"]["initContainers"] = [{"name": "i", "resources": {"requests": {"cpu": "3"}}}]
    assert requests_of(wanting) == {"cpu": 3, "memory": 2**30}


def test_a_pod_is_placed_by_what_it_asks_for_as_a_whole(pod: Make, node: Manifest) -> None:
    wanting = asking(pod("a", node=""), cpu="1")
    wanting["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert place(wanting, [node], []) == Refused(f"0/1 nodes are available: 1 Insufficient cpu. {NO_HELP}")
    wanting["spec"]["resources"] = {"requests": {"cpu": "1500m"}}
    assert place(wanting, [node], []) == Placed("node1")
    other = asking(pod("b"), cpu="1")
    assert isinstance(place(wanting, [node], [other]), Refused)


def test_only_our_own_waiting_pods_are_placed(pod: Make) -> None:
    waiting, gated, foreign = pod("a", node=""), pod("b", node=""), pod("c", node="")
    gated["spec"]["schedulingGates"] = [{"name": "hold"}]
    foreign["spec"]["schedulerName"] = "other"
    assert is_waiting(waiting)
    others = [gated, foreign, pod("d"), pod("e", node="", deletionTimestamp="2026-11-23T11:22:00Z")]
    assert not any(map(is_waiting, others))


def test_the_condition_keeps_its_time_while_it_says_the_same(pod: Make) -> None:
    refused = with_scheduled_condition(pod("a", node=""), Refused("no room"), "T1")
    assert refused["status"]["conditions"][-1] == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no room",
        "observedGeneration": 1,
        "lastProbeTime": None,
        "lastTransitionTime": "T1",
    }
    assert with_scheduled_condition(refused, Refused("no room"), "T2") is refused
    other = with_scheduled_condition(refused, Refused("still no room"), "T2")
    assert other["status"]["conditions"][-1]["lastTransitionTime"] == "T1"
    placed = with_scheduled_condition(other, Placed("node1"), "T3")
    condition = placed["status"]["conditions"][-1]
    assert (condition["status"], condition["lastTransitionTime"], "reason" in condition) == (
        "True",
        "T3",
        False,
    )


def test_the_node_says_what_the_machine_is(clock: Any) -> None:
    node = node_of(FACTS, None, clock())
    assert node["status"]["allocatable"] == {"cpu": "2", "memory": "4Gi", "pods": "1000"}
    assert [(c["type"], c["status"]) for c in node["status"]["conditions"]][-1] == ("Ready", "True")
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node1"
    clock.advance(3600)
    assert node_of(FACTS, node, clock()) == node, "nothing changed, so there is nothing to write"


def test_labels_that_people_put_on_the_node_stay(clock: Any) -> None:
    node = node_of(FACTS, None, clock())
    node["metadata"]["labels"]["disk"] = "ssd"
    assert node_of(FACTS, node, clock())["metadata"]["labels"]["disk"] == "ssd"


def test_a_renamed_machine_leaves_no_stray_node_or_pod(pod: Make, node: Manifest) -> None:
    old = {**node, "metadata": {**node["metadata"], "name": "before"}}
    lost, here, unbound = pod("lost", node="before"), pod("here"), pod("unbound", node="")
    actions = strays("node1", [node, old], [lost, here, unbound])
    assert [getattr(a, "obj", None) for a in actions] == [old, lost]


def test_this_machine_is_described_with_a_name_that_a_node_may_have() -> None:
    facts = this_machine(name="My_Laptop.local", gpus=[Gpu("GPU-1", "Tesla T4"), Gpu("GPU-2", "NVIDIA L4")])
    assert (facts.name, facts.gpus, facts.gpu_type) == ("my-laptop.local", 2, "nvidia-tesla-t4")
    assert facts.gpu_product == "Tesla-T4"
    assert facts.cpu >= 1
    assert facts.memory > 1 << 20
    assert this_machine().gpus == 0


def test_labels_of_gpus_go_with_them(clock: Any) -> None:
    facts = this_machine(name="node1", gpus=[Gpu("GPU-1", "NVIDIA L4")])
    node = node_of(facts, None, clock())
    labels = {k: v for k, v in node["metadata"]["labels"].items() if "nvidia" in k or "gke" in k}
    assert labels == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.count": "1",
    }
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    node["metadata"]["labels"]["team"] = "ml"
    without = node_of(this_machine(name="node1"), node, clock())
    assert not [label for label in without["metadata"]["labels"] if "nvidia" in label or "gke" in label]
    assert without["metadata"]["labels"]["team"] == "ml"
    assert "nvidia.com/gpu" not in without["status"]["allocatable"]


def asked(amount: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "image": "i", "resources": {"requests": {"cpu": amount}}, **more}


@pytest.mark.parametrize(
    ("initial", "main", "wanted"),
    [
        ([], [asked("1"), asked("2")], 3),
        ([asked("4"), asked("1")], [asked("1"), asked("2")], 4),
        ([asked("1", restartPolicy="Always")], [asked("1")], 2),
        ([asked("1", restartPolicy="Always"), asked("4")], [asked("1")], 5),
        ([asked("4"), asked("1", restartPolicy="Always")], [asked("1")], 4),
    ],
)
def test_sidecars_count_beside_what_they_run_with(
    initial: list[dict[str, Any]], main: list[dict[str, Any]], wanted: int
) -> None:
    assert requests_of({"spec": {"initContainers": initial, "containers": main}}) == {"cpu": wanted}


def test_readiness_that_a_daemon_before_left_is_withdrawn(api: Any, clock: Any) -> None:
    """Its processes ended with it; a Pod that was not ready stays as it is."""
    for name in ("was-ready", "was-not"):
        spec = {"containers": [{"name": "app", "image": "i"}]}
        made = api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": spec,
            },
            manager="test",
        )
        value = "True" if name == "was-ready" else "False"
        conditions = [
            {"type": kind, "status": value} for kind in ("Ready", "ContainersReady", "PodScheduled")
        ]
        container = {"name": "app", "image": "i", "imageID": "", "ready": value == "True", "restartCount": 0}
        made["status"] |= {"conditions": conditions, "containerStatuses": [container]}
        api.update(made, manager="kubelet", subresource="status")
    before = api.get("Pod", "was-not", "default")
    withdraw_readiness(api, clock)
    assert api.get("Pod", "was-not", "default") == before
    status = api.get("Pod", "was-ready", "default")["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    assert [c["ready"] for c in status["containerStatuses"]] == [False]
