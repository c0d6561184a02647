"""The real `kubectl` against the embedded cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHALK = Path(sys.executable).parent / "chalk"

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on this machine's PATH"
)

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: python:3.12
        command: [python, -u, -m, http.server, "8000"]
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8000}]}
"""


class Kubectl:
    """`kubectl` with the kubeconfig of a cluster of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CHALK_")},
            "HOME": str(home),
            "CHALK_LOCAL_HOME": str(home / "state"),
            "KUBECONFIG": str(home / "state" / "kubeconfig"),
        }

    def chalk(self, *args: str) -> str:
        return subprocess.run(
            [str(CHALK), *args], env=self.env, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    def __call__(self, *args: str, code: int | None = 0, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", *args],
            env=self.env,
            cwd=self.home,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert code is None or done.returncode == code, (
            f"kubectl {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    runner = Kubectl(tmp_path_factory.mktemp("kubectl"))
    runner.chalk("local", "up")
    try:
        yield runner
    finally:
        runner.chalk("local", "down")


@pytest.fixture(scope="module")
def web(kubectl: Kubectl) -> Kubectl:
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    return kubectl


def test_get_draws_the_columns_people_know(web: Kubectl) -> None:
    header, row = web("get", "deployments").splitlines()[:2]
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:4] == ["web", "2/2", "2", "2"]
    pods = web("get", "pods", "-l", "app=web").splitlines()
    assert pods[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[1:4] for line in pods[1:]] == [["1/1", "Running", "0"]] * 2
    assert "web" in web("get", "all")
    assert yaml.safe_load(web("get", "deploy", "web", "-o", "yaml"))["spec"]["replicas"] == 2
    assert web("get", "nodes", "--no-headers").split()[1] == "Ready"


def test_watch_shows_what_is_there(web: Kubectl) -> None:
    shown = web("get", "pods", "-w", "--request-timeout=5s", code=None)
    assert shown.count("Running") >= 2


def test_describe_tells_events(web: Kubectl) -> None:
    described = web("describe", "deployment", "web")
    assert "ScalingReplicaSet" in described
    pod = web("get", "pods", "-l", "app=web", "-o", "name").split()[0]
    described = web("describe", pod)
    for word in ("Scheduled", "Pulled", "Started", "Running"):
        assert word in described


def test_logs(web: Kubectl) -> None:
    assert "Serving HTTP" in web("logs", "deployment/web")


def test_apply_again_changes_nothing_and_diff_is_quiet(web: Kubectl) -> None:
    before = json.loads(web("get", "deploy", "web", "-o", "json"))["metadata"]["generation"]
    web("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    web("diff", "--server-side", "-f", "-", stdin=MANIFEST)
    assert json.loads(web("get", "deploy", "web", "-o", "json"))["metadata"]["generation"] == before
    changed = MANIFEST.replace("replicas: 2", "replicas: 3")
    assert "replicas: 3" in web("diff", "--server-side", "-f", "-", code=1, stdin=changed)


def test_client_side_apply(kubectl: Kubectl) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\ndata: {a: '1'}\n"
    assert "created" in kubectl("apply", "-f", "-", stdin=config)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=config)
    assert "configured" in kubectl("apply", "-f", "-", stdin=config.replace("'1'", "'2'"))
    assert kubectl("get", "cm", "plain", "-o", "jsonpath={.data.a}") == "2"


def test_a_misspelt_field_is_refused(kubectl: Kubectl) -> None:
    wrong = MANIFEST.replace("replicas: 2", "replica: 2").replace("name: web,", "name: wrong,")
    assert "replica" in kubectl("apply", "--server-side", "-f", "-", code=1, stdin=wrong)


def test_scale_wait_delete(web: Kubectl) -> None:
    scaled = MANIFEST.replace("name: web", "name: other").replace("app: web", "app: other")
    web("apply", "-f", "-", stdin=scaled)
    assert "scaled" in web("scale", "deployment/other", "--replicas=1")
    assert "condition met" in web("wait", "--for=condition=Available", "deployment/other", "--timeout=60s")
    assert "deleted" in web("delete", "deployment/other", "--timeout=60s")
    assert "NotFound" in web("get", "deployment", "other", code=1)
    assert "deleted" in web("delete", "service", "other")


def test_the_rest_of_the_everyday_verbs(web: Kubectl) -> None:
    assert web("auth", "can-i", "create", "deployments").strip().startswith("yes")
    resources = web("api-resources")
    for kind in ("Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "EndpointSlice"):
        assert kind in resources
    assert "replicas" in web("explain", "deployment.spec")
    assert "Server Version" in web("version")
    assert "annotated" in web("annotate", "deployment", "web", "note=hello")
    assert "labeled" in web("label", "deployment", "web", "tier=front")
    before = web("get", "pods", "-l", "app=web", "-o", "name").split()
    assert "restarted" in web("rollout", "restart", "deployment/web")
    assert "successfully rolled out" in web("rollout", "status", "deployment/web", "--timeout=60s")
    # The other tests, which may come after this one where work is stolen, count its pods.
    web("wait", "--for=delete", *before, "--timeout=60s")


@pytest.fixture(scope="module")
def sleepy(kubectl: Kubectl) -> Kubectl:
    """A group of one replica or none, applied from the manifests that chalk prints."""
    apply_sleepy(kubectl, "sleepy")
    return kubectl


def apply_sleepy(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "namespace", namespace)
    flags = ["--min-replicas=0", "--max-replicas=3", "--target-cpu=70", "--cpu=100m", "--idle-timeout=1h"]
    manifests = kubectl.chalk(
        "scaling-group",
        "manifests",
        f"--namespace={namespace}",
        "--name=doze",
        "--image=python:3.12",
        "--port=8000",
        "--entrypoint=python,-m,http.server,8000",
        *flags,
    )
    applied = kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    assert "scaledobject.keda.sh/doze serverside-applied" in applied
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "so/doze", "--timeout=60s")
    before = kubectl("get", "-n", namespace, "so", "doze", "-o", "jsonpath={.metadata.generation}")
    kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    kubectl("diff", "--server-side", "-f", "-", stdin=manifests)
    assert kubectl("get", "-n", namespace, "so", "doze", "-o", "jsonpath={.metadata.generation}") == before


def test_keda_s_kinds_have_their_columns(sleepy: Kubectl) -> None:
    header, row = sleepy("get", "-n", "sleepy", "so").splitlines()
    assert header.split() == [
        *("NAME", "SCALETARGETKIND", "SCALETARGETNAME", "MIN", "MAX", "READY", "ACTIVE"),
        *("FALLBACK", "PAUSED", "TRIGGERS", "AUTHENTICATIONS", "AGE"),
    ]
    assert row.split()[:10] == [
        *("doze", "apps/v1.Deployment", "doze", "0", "3", "True", "False"),
        *("False", "Unknown", "external-push,cpu"),
    ]
    header, row = sleepy("get", "-n", "sleepy", "interceptorroutes").splitlines()
    assert header.split() == ["NAME", "TARGETSERVICE", "READY", "AGE"]
    assert row.split()[:3] == ["doze", "doze-vip", "True"]


def test_a_scaled_object_is_described_and_explained(sleepy: Kubectl) -> None:
    described = sleepy("describe", "-n", "sleepy", "scaledobject", "doze")
    for word in (
        "KEDAScalersStarted",
        "Scaler external-push is built",
        "ScaledObjectReady",
        "ScalerCooldown",
    ):
        assert word in described
    assert "cooldownPeriod" in sleepy("explain", "scaledobject.spec")
    assert "targetValue" in sleepy("explain", "interceptorroute.spec.scalingMetric.concurrency")
    resources = sleepy("api-resources", "--api-group=keda.sh", "--no-headers")
    assert resources.split() == ["scaledobjects", "so", "keda.sh/v1alpha1", "true", "ScaledObject"]


def test_its_autoscaler_is_there_and_comes_back(sleepy: Kubectl) -> None:
    path = ["-n", "sleepy", "hpa", "doze", "-o", "jsonpath={.metadata.uid}"]
    uid = sleepy("get", *path)
    sleepy("delete", "-n", "sleepy", "hpa", "doze")
    assert sleepy("wait", "-n", "sleepy", "--for=create", "hpa/doze", "--timeout=30s", code=None)
    assert sleepy("get", *path) not in ("", uid)


def test_the_webhook_of_keda_refuses(sleepy: Kubectl) -> None:
    obj = json.loads(sleepy("get", "-n", "sleepy", "so", "doze", "-o", "json"))
    obj["metadata"] = {"name": "second", "namespace": "sleepy"}
    del obj["status"]
    for flags in ([], ["--dry-run=server"]):
        refused = sleepy("create", *flags, "-f", "-", code=1, stdin=json.dumps(obj))
        assert (
            "admission webhook \"vscaledobject.kb.io\" denied the request: the workload 'doze' of type "
            "'apps/v1.Deployment' is already managed by the ScaledObject 'doze'"
        ) in refused


def test_a_scaled_object_goes_with_its_autoscaler(kubectl: Kubectl) -> None:
    apply_sleepy(kubectl, "going")  # its own: where work is stolen, tests of `sleepy` may come after this one
    kubectl("wait", "-n", "going", "--for=create", "hpa/doze", "--timeout=60s")
    assert "deleted" in kubectl("delete", "-n", "going", "so", "doze", "--timeout=60s")
    kubectl("wait", "-n", "going", "--for=delete", "hpa/doze", "--timeout=60s")
    assert "deleted" in kubectl("delete", "namespace", "going", "--timeout=60s")


BUSY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: python:3.12
        command: [python, -c, "while True: pass"]
        resources: {requests: {cpu: 50m}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 1}]}}
"""


@pytest.fixture(scope="module")
def busy(kubectl: Kubectl) -> Iterator[Kubectl]:
    kubectl("create", "namespace", "busy")
    kubectl("apply", "--server-side", "-n", "busy", "-f", "-", stdin=BUSY)
    yield kubectl
    kubectl("delete", "namespace", "busy", "--timeout=60s")


def wait_for_replicas(kubectl: Kubectl, count: int) -> None:
    for path in ("hpa/busy", "{.status.currentReplicas}"), ("deploy/busy", "{.status.readyReplicas}"):
        kubectl("wait", "-n", "busy", f"--for=jsonpath={path[1]}={count}", path[0], "--timeout=80s")


def test_a_busy_replica_gets_help_and_loses_it_again(busy: Kubectl) -> None:
    wait_for_replicas(busy, 2)
    described = busy("describe", "-n", "busy", "hpa", "busy")
    for words in (
        "New size: 2; reason: cpu resource utilization (percentage of request) above target",
        "the HPA was able to successfully calculate a replica count from cpu resource utilization",
        "TooManyReplicas",
        "2 current / 2 desired",
    ):
        assert words in described
    header, row = busy("get", "-n", "busy", "hpa").splitlines()
    assert header.split() == ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"]
    target = re.fullmatch(r"busy +Deployment/busy +cpu: (\d+)%/50% +1 +2 +2 +\S+", row)
    assert target is not None, row
    assert int(target[1]) > 50
    # One who sleeps is one too many.
    idle = BUSY.replace("while True: pass", "import time; time.sleep(3600)")
    busy("apply", "--server-side", "-n", "busy", "-f", "-", stdin=idle)
    wait_for_replicas(busy, 1)
    assert "All metrics below target" in busy("describe", "-n", "busy", "hpa", "busy")


def measured(kubectl: Kubectl) -> bool:
    """Whether every ready Pod has been measured over a window."""
    pods = kubectl("get", "pods", "-n", "busy", "--no-headers", "-o", "custom-columns=:.metadata.name")
    return set(pods.split()) == set(
        kubectl("get", "podmetrics", "-n", "busy", "-o", "jsonpath={.items[*].metadata.name}").split()
    )


def test_top_tells_what_is_used(busy: Kubectl) -> None:
    until = time.monotonic() + 80
    while not measured(busy) and time.monotonic() < until:
        time.sleep(0.5)
    pods = busy("top", "pods", "-n", "busy", "-l", "app=busy", "--containers").splitlines()
    assert pods[0].split() == ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]
    for line in pods[1:]:
        assert re.fullmatch(r"busy-\S+ +app +\d+m +\d+Mi *", line), line
    assert len(pods) > 1
    assert re.match(r"\S+ +\d+m +\d+% +\d+Mi +\d+% *$", busy("top", "nodes", "--no-headers"))
    assert "No resources found" in busy("top", "pods", "-n", "busy", "-l", "app=other")
    cpu, memory = busy("get", "podmetrics", "-n", "busy", "--no-headers").split()[1:3]
    assert re.fullmatch(r"\d+[num]?", cpu)
    assert re.fullmatch(r"\d+[KM]i", memory)


def test_metrics_are_told_of_as_available(kubectl: Kubectl) -> None:
    name = "v1beta1.metrics.k8s.io"
    heads, cells = (line.split() for line in kubectl("get", "apiservice", name).splitlines())
    assert heads == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    assert cells[:3] == [name, "Local", "True"]


def test_traffic_of_routes_is_served_as_custom_metrics(kubectl: Kubectl) -> None:
    assert "custom.metrics.k8s.io/v1beta2" in kubectl("api-versions")
    kubectl("api-resources")
    path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/httproutes.gateway.networking.k8s.io/*/"
    assert '"MetricValueList"' in kubectl("get", "--raw", f"{path}requests_per_second")
