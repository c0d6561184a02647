"""Fixed counts and ranges, and the way from one to the other without losing a replica."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.e2e.harness import SERVER, Chalk, Kubernetes, eventually

# A replica that uses all it may use is at 100 % of its request: an autoscaler that measures has no reason
# to add replicas in the middle of a test.
FULL = "--target-cpu=100"


def hpa(kubernetes: Kubernetes, namespace: str, name: str) -> Any:
    return kubernetes.find(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}")


def replicas(kubernetes: Kubernetes, namespace: str, name: str) -> int:
    return int(kubernetes.deployment(namespace, name)["spec"]["replicas"])


def test_a_range_is_a_horizontal_pod_autoscaler(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("range", "--min-replicas=1", "--max-replicas=3", "--target-cpu=70", "--scaling-interval=30")
    found = hpa(kubernetes, namespace, "range")
    assert found is not None
    spec = found["spec"]
    assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == ("Deployment", "range")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert spec["behavior"]["scaleUp"]["policies"][0]["periodSeconds"] == 30
    group = chalk.sg("get", "range", "-o", "json").json()
    assert (group["replicas"]["min"], group["replicas"]["max"]) == (1, 3)


def test_from_fixed_to_a_range_and_back_keeps_the_live_count(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk.serve("mode", "--replicas=3")
    before = {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")}
    chalk.serve("mode", "--min-replicas=2", "--max-replicas=5", FULL)
    assert replicas(kubernetes, namespace, "mode") == 3
    assert {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")} == before
    assert hpa(kubernetes, namespace, "mode") is not None
    chalk.serve("mode", "--replicas=4")
    assert hpa(kubernetes, namespace, "mode") is None
    assert replicas(kubernetes, namespace, "mode") == 4
    assert before <= {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")}


def test_a_deploy_keeps_what_an_autoscaler_decided(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    flags = ["--min-replicas=1", "--max-replicas=4", FULL]
    chalk.serve("kept", *flags)
    status, body = kubernetes.request(
        "patch",
        f"/apis/apps/v1/namespaces/{namespace}/deployments/kept/scale",
        {"spec": {"replicas": 2}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, body
    chalk.serve("kept", *flags, "--env", "A=1")
    deployment = kubernetes.deployment(namespace, "kept")
    ours = [f for f in deployment["metadata"]["managedFields"] if f["manager"].startswith("chalk")]
    assert ours
    assert all("f:replicas" not in f["fieldsV1"].get("f:spec", {}) for f in ours)
    # Where it measures, the autoscaler may have taken the idle replica away by itself.
    rescaled = (hpa(kubernetes, namespace, "kept").get("status") or {}).get("lastScaleTime")
    assert replicas(kubernetes, namespace, "kept") == 2 or rescaled
    assert chalk.sg("get", "kept", "-o", "json").json()["revision"] == 2


def test_scaling_up_and_down_a_fixed_count(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("fixed", "--replicas=1")
    (first,) = kubernetes.pods(namespace, "fixed")
    chalk.serve("fixed", "--replicas=3")
    pods = {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "fixed")}
    assert len(pods) == 3
    assert first["metadata"]["uid"] in pods, "a replica count alone restarts nothing"
    assert chalk.sg("get", "fixed", "-o", "json").json()["replicas"]["ready"] == 3
    chalk.serve("fixed", "--replicas=1")
    assert chalk.sg("get", "fixed", "-o", "json").json()["replicas"]["desired"] == 1
    eventually(lambda: len(kubernetes.pods(namespace, "fixed")) == 1, "one replica is left")
    assert {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "fixed")} <= pods


def test_scale_to_zero_needs_what_wakes_it(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, real: bool
) -> None:
    flags = ["--min-replicas=0", "--max-replicas=2"]
    served = kubernetes.serves("keda.sh/v1alpha1", "scaledobjects") and kubernetes.serves(
        "http.keda.sh/v1beta1", "interceptorroutes"
    )
    keda = os.environ.get("CHALK_KEDA_NAMESPACE", "keda")
    interceptor = os.environ.get("CHALK_KEDA_INTERCEPTOR_SERVICE", "keda-add-ons-http-interceptor-proxy")
    if not served or kubernetes.find(f"/api/v1/namespaces/{keda}/services/{interceptor}") is None:
        assert real, "the local cluster has KEDA's kinds and its interceptor"
        refused = chalk.serve("sleepy", *flags, code=2)
        assert "KEDA" in refused.err
        assert "`--min-replicas=0`" in refused.err
        assert kubernetes.group_objects(namespace, "sleepy") == []
        return
    chalk.serve("sleepy", *flags, "--no-wait")
    objects = kubernetes.group_objects(namespace, "sleepy")
    assert {"scaledobjects/sleepy", "interceptorroutes/sleepy"} <= set(objects)
    scaled = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects/sleepy"
    spec = kubernetes.get(scaled)["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 2)

    def look() -> Any:
        group = chalk.sg("get", "sleepy", "-o", "json").json()
        verdict = group["verdict"] or {}
        # An operator that does not run is named as what is in the way.
        known = group["status"] in ("ScaledToZero", "Available") or verdict["cause"] == "AutoscalerNotReady"
        return group if known else None

    eventually(look, "the group is asleep, or the verdict says what is wrong with KEDA")
    chalk.serve("sleepy", "--replicas=1")
    assert kubernetes.find(scaled) is None
    assert replicas(kubernetes, namespace, "sleepy") == 1
    chalk.sg("delete", "sleepy")
    assert [o for o in kubernetes.group_objects(namespace, "sleepy") if "chalk-sg-hist-" not in o] == []


def test_an_autoscaler_made_by_hand_is_named_and_left_alone(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk.serve("mine", "--replicas=1")
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-hand", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mine"},
            "maxReplicas": 2,
        },
    }
    status, body = kubernetes.request("post", path, made)
    assert status == 201, body
    refused = chalk.serve("mine", "--min-replicas=1", "--max-replicas=3", FULL, code=4)
    assert "HorizontalPodAutoscaler `by-hand`" in refused.err
    assert f"kubectl delete horizontalpodautoscaler by-hand -n {namespace}" in refused.err
    assert chalk.sg("get", "mine", "-o", "json").json()["revision"] == 1
    assert hpa(kubernetes, namespace, "mine") is None
    assert kubernetes.request("delete", f"{path}/by-hand")[0] == 200
    chalk.serve("mine", "--min-replicas=1", "--max-replicas=3", FULL)
    assert hpa(kubernetes, namespace, "mine") is not None


SLOW = f"import time; time.sleep(8); {SERVER[2]}"


def test_a_slow_start_is_waited_for(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    entrypoint = json.dumps(["python", "-c", SLOW])
    slow = ["--startup-timeout=2m", "--readiness-path=/", f"--entrypoint={entrypoint}"]
    short = chalk.serve("slow", *slow, "--timeout=100")
    assert "a replica may take 120 s to start (`--startup-timeout`)" in short.err
    assert "after 100 s" in short.err
    (pod,) = kubernetes.pods(namespace, "slow")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    container = kubernetes.container(namespace, "slow")
    assert container["startupProbe"]["httpGet"] == container["readinessProbe"]["httpGet"]
    assert kubernetes.deployment(namespace, "slow")["spec"]["progressDeadlineSeconds"] == 720
    (line,) = (text for text in chalk.sg("get", "slow").out.splitlines() if "Startup timeout" in text)
    assert "120s" in line
    again = chalk.serve("slow", *slow[1:], "--startup-timeout=3m", "-o", "json", "--no-wait").json()
    assert (again["changes"], again["previous_revision"]) == (["startup_timeout_seconds"], 1)
