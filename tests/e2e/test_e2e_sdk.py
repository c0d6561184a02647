"""The Python surface, and groups that go from one surface to the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from chalkcompute.errors import UnreachableError
from tests.e2e.harness import IMAGE, SERVER, SMALL, Chalk, Kubernetes, eventually

ECHO = """
import http.server, signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.send_header("content-type", self.headers["content-type"])
        self.send_header("content-length", str(len(body)))
        self.send_header("x-path", self.path)
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_deploy_wait_call_refresh_delete(client: Any, kubernetes: Kubernetes, namespace: str) -> None:
    from chalkcompute import ScalingGroup

    group = ScalingGroup(
        image=IMAGE,
        name="sdk",
        port=8000,
        entrypoint=SERVER,
        env={"LOG_LEVEL": "INFO"},
        tags={"team": "ml"},
        client=client,
        **SMALL,
    )
    assert group.id is None
    assert group.web_url is None
    assert group.deploy().wait_ready() is group
    eventually(lambda: group.refresh().status == "Available", "the cluster counts the replica")
    info = group.refresh()
    assert info.ready_replicas == 1
    assert info.available_replicas == 1
    assert group.web_url == info.web_url
    assert info.tags == {"team": "ml"}
    first = group.id
    group.deploy()
    assert group.id == first
    assert group.revision == 1
    group.delete()
    group.delete()
    assert [o for o in kubernetes.group_objects(namespace, "sdk") if "chalk-sg-hist-" not in o] == []


def test_call_answers_where_the_gateway_is_reachable(client: Any, chalk: Chalk, real: bool) -> None:
    from chalkcompute import ScalingGroup

    chalk.serve("called", f"--entrypoint={json.dumps(['python', '-c', ECHO])}")
    group = ScalingGroup.from_name("called", client=client)
    text = {"text": "the cat sat on the mat"}
    try:
        if real:  # another controller may program its gateway a moment after it has accepted the route
            eventually(lambda: group.call("/predict", json=text).status_code == 201, "the gateway answers")
        response = group.call("/predict", method="POST", json=text, params={"n": "1"}, timeout=60.0)
    except UnreachableError:
        assert real, "the embedded gateway is always reachable"
        return
    assert isinstance(response, httpx.Response)
    assert response.status_code == 201
    assert response.json() == text
    assert response.headers["x-path"] == "/predict?n=1"
    assert str(response.url) == f"{group.web_url}/predict?n=1"


def test_a_group_of_the_command_line_is_managed_from_python(client: Any, chalk: Chalk) -> None:
    from chalkcompute import ScalingGroup
    from chalkcompute.errors import NotFoundError

    chalk.serve("cross", "--replicas=2")
    group = ScalingGroup.from_name("cross", client=client)
    assert group.refresh().replicas.desired == 2
    assert ScalingGroup.from_id(str(group.id), client=client).name == "cross"
    group.deploy().wait_ready()
    assert group.revision == 1, "deploying what is recorded changes nothing"
    chalk.serve("cross", "--replicas=1", "--tags=team=ml")
    info = group.refresh()
    assert (info.revision, info.replicas.max, info.tags) == (2, 1, {"team": "ml"})
    group.delete()
    assert chalk.sg("list", "-o", "name").out == ""
    with pytest.raises(NotFoundError):
        ScalingGroup.from_name("cross", client=client)


def test_a_group_of_python_is_managed_from_the_command_line(client: Any, chalk: Chalk) -> None:
    from chalkcompute import ScalingGroup

    made = ScalingGroup(image=IMAGE, name="made", port=8000, entrypoint=SERVER, client=client, **SMALL)
    made.deploy().wait_ready()
    same = chalk.serve("made")
    assert "unchanged" in same.out + same.err
    assert chalk.sg("get", f"--id={made.id}", "-o", "url").out.strip() == made.web_url
    chalk.serve("made", "--env=A=1")
    assert made.refresh().revision == 2
    chalk.sg("delete", "made")
    made.delete()
    assert client.list_scaling_groups().scaling_groups == ()


def test_the_listing_example_of_the_specification(
    chalk: Chalk, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chalk.serve("inference")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("CHALK_NAMESPACE", chalk.namespace)
    from chalk.client import ChalkClient

    client = ChalkClient()
    response = client.list_scaling_groups()
    seen = [(scaling_group.name, str(scaling_group.status)) for scaling_group in response.scaling_groups]
    assert seen == [("inference", "Available")]


def test_the_range_of_the_specification(
    client: Any, kubernetes: Kubernetes, namespace: str, answer: Callable[..., tuple[int, str]]
) -> None:
    from chalkcompute import ScalingGroup

    group = (
        ScalingGroup(
            image=IMAGE,
            name="inference",
            port=8000,
            entrypoint=SERVER,
            cpu="50m",
            memory="96Mi",
            min_replicas=1,
            max_replicas=3,
            target_cpu_utilization_percentage=70,
            shutdown_delay_seconds=3,
            client=client,
        )
        .deploy()
        .wait_ready()
    )
    assert group.refresh().status in ("Running", "Available")
    spec = kubernetes.get(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/inference")[
        "spec"
    ]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert kubernetes.container(namespace, "inference")["lifecycle"]["preStop"]["sleep"]["seconds"] == 3
    eventually(lambda: answer("inference")[0] == 200, "it answers")


def test_failure_carries_the_verdict(client: Any) -> None:
    from chalkcompute import ScalingGroup
    from chalkcompute.errors import DeployFailedError

    group = ScalingGroup(
        image=IMAGE,
        name="broken",
        port=8000,
        entrypoint=["python", "-c", "raise SystemExit('no weights')"],
        client=client,
    )
    with pytest.raises(DeployFailedError) as caught:
        group.deploy().wait_ready(timeout=300)
    assert caught.value.verdict.cause == "CrashLoop"
    assert "no weights" in str(caught.value.verdict.to_dict())
    group.delete()
