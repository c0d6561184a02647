"""The Python surface, and groups that go from one surface to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import IMAGE, Chalk, Kubernetes

SERVE = ["python", "-m", "http.server", "8000"]


def test_deploy_wait_call_refresh_delete(client: Any, kubernetes: Kubernetes, namespace: str) -> None:
    from chalkcompute import ScalingGroup

    group = ScalingGroup(
        image=IMAGE,
        name="sdk",
        port=8000,
        entrypoint=SERVE,
        env={"LOG_LEVEL": "INFO"},
        tags={"team": "ml"},
        client=client,
    )
    assert group.id is None
    assert group.web_url is None
    assert group.deploy().wait_ready() is group
    info = group.refresh()
    assert info.status == "Available"
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


def test_call_answers_where_the_gateway_is_reachable(
    client: Any, chalk: Chalk, request: pytest.FixtureRequest
) -> None:
    from chalkcompute import ScalingGroup

    chalk.serve("called")
    group = ScalingGroup.from_name("called", client=client)
    try:
        response = group.call("/", method="GET")
    except httpx.TransportError:
        assert request.config.getoption("--real-cluster"), "the local gateway is always reachable"
        return
    assert isinstance(response, httpx.Response)
    assert response.status_code == 200
    assert "Directory listing" in response.text


def test_a_group_of_the_command_line_is_managed_from_python(client: Any, chalk: Chalk) -> None:
    from chalkcompute import ScalingGroup
    from chalkcompute.errors import NotFoundError

    chalk.serve("cross", "--replicas=2")
    group = ScalingGroup.from_name("cross", client=client)
    assert group.refresh().replicas.desired == 2
    assert ScalingGroup.from_id(str(group.id), client=client).name == "cross"
    group.deploy().wait_ready()
    assert group.revision == 1, "deploying what is recorded changes nothing"
    group.delete()
    assert chalk.sg("list", "-o", "name").out == ""
    with pytest.raises(NotFoundError):
        ScalingGroup.from_name("cross", client=client)


def test_a_group_of_python_is_managed_from_the_command_line(client: Any, chalk: Chalk) -> None:
    from chalkcompute import ScalingGroup

    ScalingGroup(image=IMAGE, name="made", port=8000, entrypoint=SERVE, client=client).deploy().wait_ready()
    same = chalk.serve("made")
    assert "unchanged" in same.out + same.err
    chalk.sg("delete", "made")
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
        group.deploy().wait_ready(timeout=100)
    assert caught.value.verdict.cause == "CrashLoop"
    assert "no weights" in str(caught.value.verdict.to_dict())
    group.delete()
