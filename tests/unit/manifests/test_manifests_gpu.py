"""A group whose GPUs no node has: what the verdict says of the nodes, and of a slow start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalkcompute.manifests.diagnose import diagnose
from chalkcompute.manifests.live import FORBIDDEN, UNASKED
from chalkcompute.types import Cause, Verdict
from tests.unit.manifests.manifests_builders import GROUP_ID, NOW, a_condition, a_deployment, a_live, a_spec

GKE = "cloud.google.com/gke-accelerator"
PRODUCT = "nvidia.com/gpu.product"
NO_MATCH = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def a_node(name: str, *, labels: Any = None, taints: Any = None, **gpus: int) -> dict[str, Any]:
    offered = {resource.replace("__", "/").replace("_", "."): str(n) for resource, n in gpus.items()}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **(labels or {})}},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", **offered}},
    }


def nvidia(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return a_node(name, nvidia_com__gpu=count, **more)


def a_waiting_pod(gpu: str, text: str, name: str = "inference-new") -> dict[str, Any]:
    kind, _, count = gpu.rpartition(":")
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-11-23T11:20:00Z",
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID, "pod-template-hash": "new"},
        },
        "spec": {
            "containers": [
                {"name": "app", "resources": {"requests": {"cpu": "100m", "nvidia.com/gpu": count}}}
            ],
            "nodeSelector": {GKE: kind} if kind else {},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "status": {
            "phase": "Pending",
            "conditions": [a_condition("PodScheduled", "False", "Unschedulable", message=text)],
        },
    }


def an_old_pod() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "inference-old",
            "creationTimestamp": "2026-11-23T11:00:00Z",
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID, "pod-template-hash": "old"},
        },
        "spec": {"containers": [{"name": "app", "image": "old"}]},
        "status": {"phase": "Running", "conditions": [a_condition("Ready")]},
    }


def verdict_on(gpu: str, text: str, nodes: Any, *, updating: bool = False) -> Verdict:
    pods = [a_waiting_pod(gpu, text)]
    deployment = a_deployment(replicas=1, updated=1, total=2 if updating else 1, ready=int(updating))
    if updating:
        pods.insert(0, an_old_pod())
    verdict = diagnose(a_live(a_spec(gpu=gpu), deployment=deployment, pods=pods, nodes=nodes), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.UNSCHEDULABLE, False)
    return verdict


OURS = {GKE: "nvidia-tesla-t4"}


@pytest.mark.parametrize(
    ("gpu", "text", "nodes", "said", "advice"),
    [
        (
            "nvidia-l4:1",
            NO_MATCH,
            [nvidia("a", labels=OURS), nvidia("b", labels={GKE: "nvidia-a100"}), a_node("c")],
            f"none has the label `{GKE}=nvidia-l4`; its values on the nodes are `nvidia-a100`, `nvidia-tesla",
            "`--gpu=nvidia-a100:1`",
        ),
        (
            "nvidia-l4:2",
            NO_MATCH,
            [nvidia("a", 4, labels={PRODUCT: "NVIDIA-L4"})],
            f"none has the label `{GKE}`; they say their GPU by `{PRODUCT}`: `NVIDIA-L4`",
            f"set CHALK_GPU_NODE_SELECTOR_KEY={PRODUCT} and give `--gpu=NVIDIA-L4:2`; or only the count: "
            "`--gpu=2`",
        ),
        (
            "l4:1",
            NO_MATCH,
            [nvidia("a", labels={"eks.amazonaws.com/instance-gpu-name": "l4"})],
            "by `eks.amazonaws.com/instance-gpu-name`: `l4`",
            "CHALK_GPU_NODE_SELECTOR_KEY=eks.amazonaws.com/instance-gpu-name and give `--gpu=l4:1`",
        ),
        ("l4:1", NO_MATCH, [nvidia("a")], "nor another that says its GPU", "give only the count: `--gpu=1`"),
        (
            "1",
            NO_GPU,
            [a_node("a"), a_node("b")],
            "none of the 2 nodes has a GPU (`nvidia.com/gpu`)",
            "without `gpu`",
        ),
        (
            "l4:1",
            NO_MATCH,
            [a_node("a")],
            "the only node has no GPU (`nvidia.com/gpu`)",
            "add a node with GPUs",
        ),
        (
            "1",
            NO_GPU,
            [a_node("a", amd_com__gpu=2)],
            "none offers `nvidia.com/gpu`; what they offer is `amd.com/gpu`",
            "set CHALK_GPU_RESOURCE_NAME=amd.com/gpu",
        ),
        (
            "1",
            NO_GPU,
            [a_node("a", labels=OURS)],
            "`a` has the label of a GPU and offers no",
            "device plugin",
        ),
        (
            "nvidia-tesla-t4:8",
            NO_GPU,
            [nvidia("a", 4, labels=OURS), nvidia("b", 8)],
            "none has 8 of `nvidia.com/gpu`: the most that one has is 4",
            "`--gpu=nvidia-tesla-t4:4`",
        ),
        (
            "1",
            "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            [nvidia("a", taints=[{"key": "sku", "value": "gpu", "effect": "NoSchedule"}])],
            "keep the replica away by the taint `sku=gpu:NoSchedule`",
            "CHALK_GPU_TOLERATIONS=sku=gpu:NoSchedule",
        ),
        (
            "1",
            NO_GPU,
            [nvidia("a"), nvidia("b", 3)],
            "too many of the 4 that there are, are in use",
            "add a node",
        ),
    ],
)
def test_the_nodes_say_what_to_ask_for(gpu: str, text: str, nodes: Any, said: str, advice: str) -> None:
    verdict = verdict_on(gpu, text, nodes)
    assert said in verdict.message
    assert advice in (verdict.next or "")
    assert verdict.evidence[0].lines == (text,)


def test_the_evidence_has_the_nodes_with_gpus() -> None:
    nodes = [a_node("cpu-only"), *(nvidia(f"n{i}", labels={GKE: "nvidia-a100"}) for i in range(12))]
    _, seen = verdict_on("nvidia-l4:1", NO_MATCH, nodes).evidence
    assert seen.lines[0] == f"node n0: nvidia.com/gpu 1, {GKE}=nvidia-a100"
    assert (len(seen.lines), seen.lines[-1]) == (11, "and 2 more")


def test_the_setting_replaces_the_default_so_that_all_taints_are_in_it() -> None:
    taints = [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
    ]
    verdict = verdict_on("1", "untolerated taint(s)", [nvidia("a", taints=taints)])
    assert "by the taint `sku=gpu:NoSchedule`" in verdict.message
    assert "CHALK_GPU_TOLERATIONS=nvidia.com/gpu=present:NoSchedule,sku=gpu:NoSchedule" in (
        verdict.next or ""
    )


def test_a_node_that_is_unwell_is_not_to_be_tolerated() -> None:
    taints = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    verdict = verdict_on(
        "1", "untolerated taint {node.kubernetes.io/not-ready: }", [nvidia("a", taints=taints)]
    )
    assert "TOLERATIONS" not in (verdict.next or "")


def test_a_taint_that_is_tolerated_keeps_nobody_away() -> None:
    gpu_taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    soft = {"key": "sku", "value": "gpu", "effect": "PreferNoSchedule"}
    verdict = verdict_on("1", NO_GPU, [nvidia("a", taints=[gpu_taint, soft])])
    assert "taint" not in verdict.message
    assert "in use" in verdict.message


@pytest.mark.parametrize("nodes", [[nvidia("a")], FORBIDDEN, UNASKED])
def test_a_rollout_without_a_spare_gpu(nodes: Any) -> None:
    verdict = verdict_on("1", NO_GPU, nodes, updating=True)
    assert "the rollout needs one extra GPU" in verdict.message
    assert "1 replica of an earlier revision goes on serving" in verdict.message
    assert "add a node with a free GPU" in (verdict.next or "")


def test_nodes_that_may_not_be_read() -> None:
    verdict = verdict_on("nvidia-l4:1", NO_MATCH, FORBIDDEN)
    assert f"none has the label `{GKE}=nvidia-l4`" in verdict.message
    assert "the nodes may not be read" in (verdict.next or "")


def test_other_reasons_stay_the_schedulers() -> None:
    verdict = verdict_on("1", "0/1 nodes are available: 1 Insufficient memory.", [nvidia("a")])
    assert "not enough memory" in verdict.message


# --- a start that takes too long

STARTING = "Startup probe failed: dial tcp 10.0.0.7:8080: connect: connection refused"
PROBE = {"tcpSocket": {"port": "http"}, "periodSeconds": 5, "failureThreshold": 13}


def a_slow_pod(state: dict[str, Any], *, restarts: int = 0, ran: int = 0, code: int = 137) -> dict[str, Any]:
    pod = an_old_pod()
    pod["spec"]["containers"] = [{"name": "app", "startupProbe": PROBE, "readinessProbe": PROBE}]
    container: dict[str, Any] = {"name": "app", "started": False, "restartCount": restarts, "state": state}
    if ran:
        over = NOW - timedelta(seconds=20)
        container["lastState"] = {
            "terminated": {
                "exitCode": code,
                "reason": "Error",
                "startedAt": (over - timedelta(seconds=ran)).isoformat(),
                "finishedAt": over.isoformat(),
            }
        }
    pod["status"] = {"phase": "Running", "containerStatuses": [container], "conditions": []}
    return pod


def slow(pod: dict[str, Any], *messages: str) -> Verdict | None:
    events = [
        {"reason": "Unhealthy", "message": m, "involvedObject": {"kind": "Pod", "name": "inference-old"}}
        for m in messages
    ]
    live = a_live(a_spec(startup_timeout_seconds=60), pods=[pod], events=events)
    return diagnose(live, NOW)


def running(seconds: int) -> dict[str, Any]:
    return {"running": {"startedAt": (NOW - timedelta(seconds=seconds)).isoformat()}}


def test_a_server_that_may_still_be_starting() -> None:
    verdict = slow(a_slow_pod(running(30)), STARTING)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.NOT_LISTENING, False)
    assert "still starting, which may take 60 s" in verdict.message
    assert "`startup_timeout_seconds` (`--startup-timeout`)" in (verdict.next or "")


@pytest.mark.parametrize(("restarts", "terminal"), [(1, False), (2, True)])
def test_a_server_that_was_ended_for_it(restarts: int, terminal: bool) -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    verdict = slow(a_slow_pod(waiting, restarts=restarts, ran=62), STARTING)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.NOT_LISTENING, terminal)
    assert "did not start within the 60 s" in verdict.message
    assert "connection refused" in verdict.message
    assert "`startup_timeout_seconds` (`--startup-timeout`)" in (verdict.next or "")


def test_a_crash_while_starting_is_a_crash() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    for pod, messages in (
        (a_slow_pod(waiting, restarts=3, ran=4, code=1), (STARTING,)),
        (a_slow_pod(waiting, restarts=3, ran=62, code=1), ()),
    ):
        verdict = slow(pod, *messages)
        assert verdict is not None
        assert verdict.cause is Cause.CRASH_LOOP


def test_once_started_the_readiness_probe_speaks() -> None:
    pod = a_slow_pod(running(30))
    pod["status"]["containerStatuses"][0]["started"] = True
    verdict = slow(pod, "Readiness probe failed: HTTP probe failed with statuscode: 503")
    assert verdict is not None
    assert "answers 503" in verdict.message


def test_what_was_not_asked_of_the_nodes_is_as_before() -> None:
    verdict = verdict_on("nvidia-l4:1", NO_MATCH, UNASKED)
    assert replace(verdict, evidence=()).message.endswith(f"none has the label `{GKE}=nvidia-l4`")
