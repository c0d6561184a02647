"""Fixed counts and ranges, and the way from one to the other without losing a replica."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.harness import Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]


def hpa(kubernetes: Kubernetes, namespace: str, name: str) -> dict[str, object] | None:
    status, body = kubernetes.request(
        "get", f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}"
    )
    return body if status == 200 else None


def replicas(kubernetes: Kubernetes, namespace: str, name: str) -> int:
    return int(kubernetes.deployment(namespace, name)["spec"]["replicas"])


def test_a_range_is_a_horizontal_pod_autoscaler(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("range", "--min-replicas=1", "--max-replicas=3", "--target-cpu=70", "--scaling-interval=30")
    found = hpa(kubernetes, namespace, "range")
    assert found is not None
    spec = found["spec"]
    assert isinstance(spec, dict)
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert spec["behavior"]["scaleUp"]["policies"][0]["periodSeconds"] == 30
    group = chalk.sg("get", "range", "-o", "json").json()
    assert (group["replicas"]["min"], group["replicas"]["max"]) == (1, 3)


def test_from_fixed_to_a_range_and_back_keeps_the_live_count(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk.serve("mode", "--replicas=3", "--cpu=10m", "--memory=64Mi")
    before = {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")}
    chalk.serve("mode", "--min-replicas=2", "--max-replicas=5", "--cpu=10m", "--memory=64Mi")
    assert replicas(kubernetes, namespace, "mode") == 3
    assert {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")} == before
    assert hpa(kubernetes, namespace, "mode") is not None
    chalk.serve("mode", "--replicas=4", "--cpu=10m", "--memory=64Mi")
    assert hpa(kubernetes, namespace, "mode") is None
    assert replicas(kubernetes, namespace, "mode") == 4
    assert before <= {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "mode")}


def test_a_deploy_keeps_what_an_autoscaler_decided(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    flags = ["--min-replicas=1", "--max-replicas=4", "--cpu=10m", "--memory=64Mi"]
    chalk.serve("kept", *flags)
    status, body = kubernetes.request(
        "patch",
        f"/apis/apps/v1/namespaces/{namespace}/deployments/kept/scale",
        {"spec": {"replicas": 2}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, body
    chalk.serve("kept", *flags, "--env", "A=1")
    assert replicas(kubernetes, namespace, "kept") >= 1
    assert chalk.sg("get", "kept", "-o", "json").json()["revision"] == 2


def test_scaling_up_and_down_a_fixed_count(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("fixed", "--replicas=1")
    (first,) = kubernetes.pods(namespace, "fixed")
    chalk.serve("fixed", "--replicas=3")
    pods = {p["metadata"]["uid"] for p in kubernetes.pods(namespace, "fixed")}
    assert len(pods) == 3
    assert first["metadata"]["uid"] in pods, "a replica count alone restarts nothing"
    chalk.serve("fixed", "--replicas=1")
    eventually(lambda: len(kubernetes.pods(namespace, "fixed")) == 1, "one replica is left")


def test_scale_to_zero_needs_what_wakes_it(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    served, _ = kubernetes.request("get", "/apis/http.keda.sh/v1beta1")
    if served == 200:
        chalk.serve("sleepy", "--min-replicas=0", "--max-replicas=2", "--no-wait", code=None)
        return
    refused = chalk.serve("sleepy", "--min-replicas=0", "--max-replicas=2", code=2)
    assert "KEDA" in refused.err
    assert "min" in refused.err
    assert kubernetes.group_objects(namespace, "sleepy") == []
