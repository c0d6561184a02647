"""A range of replicas under load: measured, scaled, and told.

On another cluster this needs metrics-server, and is skipped where there is none.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.harness import Chalk, Kubernetes, eventually

# Three quarters of its request, used however many replicas there are: answering needs the rest.
WORKING = """
import subprocess, sys, time
if sys.argv[1:] == ["work"]:
    while True:
        begun = time.process_time()
        while time.process_time() - begun < 0.0075:
            pass
        time.sleep(0.09)
subprocess.Popen([sys.executable, "-c", sys.orig_argv[2], "work"])
import http.server
http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)
"""


@pytest.fixture(autouse=True)
def _measured(kubernetes: Kubernetes) -> None:
    if not kubernetes.serves("metrics.k8s.io/v1beta1", "pods"):
        pytest.skip("the cluster has no metrics-server")


def usage_of(kubernetes: Kubernetes, namespace: str, name: str) -> list[Any]:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
    return kubernetes.items(path, f"chalk.ai/scaling-group={name}")


def test_a_range_grows_under_load_and_says_why(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    program = f"--entrypoint={json.dumps(['python', '-c', WORKING])}"
    chalk.serve("busy", program, "--cpu=100m", "--min-replicas=1", "--max-replicas=2", "--target-cpu=50")
    eventually(
        lambda: kubernetes.deployment(namespace, "busy")["status"].get("availableReplicas") == 2,
        "a second replica under load",
    )
    autoscaler = chalk.sg("get", "busy", "-o", "json").json()["autoscaler"]
    assert autoscaler["kind"] == "HorizontalPodAutoscaler"
    assert autoscaler["desired_replicas"] == 2
    assert autoscaler["last_scale_at"]
    assert "cpu resource utilization" in autoscaler["last_scale_reason"]
    assert autoscaler["blind"] is None
    measured = eventually(
        lambda: len(found := usage_of(kubernetes, namespace, "busy")) == 2 and found, "both are measured"
    )
    assert {c["name"] for pod in measured for c in pod["containers"]} == {
        kubernetes.container(namespace, "busy")["name"]
    }
