"""`list`, `get`, `delete`, `manifests`."""

from __future__ import annotations

import json

import pytest
import yaml

from chalkcompute import AutoscalerCondition, AutoscalerInfo
from chalkcompute.errors import ChalkError, ConnectionConfigError, UnreachableError
from chalkcompute.types import Cause, ReplicaCounts, Status, Verdict
from tests.cli.conftest import Invoke
from tests.cli.memory_client import NOW, MemoryClient, a_group
from tests.conftest import Golden

SPEC = {
    "name": "inference",
    "image": "my-registry/my-inference-server:v1",
    "cpu": "4",
    "memory": None,
    "gpu": None,
    "env": {"LOG_LEVEL": "INFO"},
    "entrypoint": ["python", "-c", "print('a b')"],
    "target_cpu_utilization_percentage": 70,
    "from_the_future": [1],
}


@pytest.fixture
def groups(client: MemoryClient) -> MemoryClient:
    verdict = Verdict(Cause.UNSCHEDULABLE, "no node has 4000 cores", next="ask for less", terminal=False)
    client.groups = {
        "inference": a_group(spec=SPEC),
        "agents": a_group(
            "agents",
            status=Status.RUNNING,
            tags={"team": "web", "tier": "1"},
            replicas=ReplicaCounts(2, 1, 1, 1, 20),
            verdict=verdict,
            status_message="waiting for a node",
        ),
    }
    return client


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name", "url"])
def test_list(invoke: Invoke, groups: MemoryClient, golden: Golden, output: str) -> None:
    result = invoke("scaling-group", "list", "-o", output)
    golden(f"cli/list.{output}.txt", result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name", "url"])
def test_get(invoke: Invoke, groups: MemoryClient, golden: Golden, output: str) -> None:
    golden(f"cli/get.{output}.txt", invoke("scaling-group", "get", "--name=inference", "-o", output).stdout)


def test_get_shows_the_verdict(invoke: Invoke, groups: MemoryClient) -> None:
    shown = invoke("sg", "get", "agents").stdout
    assert "Unschedulable: no node has 4000 cores" in shown
    assert "Next: ask for less" in shown


def test_list_of_nothing(invoke: Invoke) -> None:
    table = invoke("sg", "list")
    assert (table.stdout, "no scaling groups" in table.stderr) == ("", True)
    assert json.loads(invoke("sg", "list", "-o", "json").stdout) == {"schema": 1, "scaling_groups": []}


def test_list_filters_by_tag_and_adds_deleted(invoke: Invoke, groups: MemoryClient) -> None:
    assert invoke("sg", "list", "-l", "team=web,tier=1", "-o", "name").stdout == "agents\n"
    assert invoke("sg", "list", "-l", "team=web", "-l", "tier=2", "-o", "name").stdout == ""
    invoke("sg", "delete", "agents")
    assert invoke("sg", "list", "-o", "name").stdout == "inference\n"
    assert invoke("sg", "list", "--all", "-o", "name").stdout == "inference\nagents\n"


def test_table_format_is_tabulates(invoke: Invoke, groups: MemoryClient) -> None:
    assert "|-----" in invoke("sg", "list", "--table-format=github").stdout
    assert "<table>" in invoke("sg", "list", env={"CHALK_TABLE_FORMAT": "html"}).stdout


AUTOSCALERS = {
    "range": AutoscalerInfo(
        "HorizontalPodAutoscaler",
        target={"cpu_utilization_percentage": 70.0},
        current={"cpu_utilization_percentage": 91.0},
        current_replicas=2,
        desired_replicas=3,
        last_scale_at=NOW,
        last_scale_reason="cpu resource utilization (percentage of request) above target",
        conditions=(AutoscalerCondition("ScalingActive", "True", "ValidMetricFound", "it works"),),
    ),
    "blind": AutoscalerInfo(
        "HorizontalPodAutoscaler",
        target={"cpu_utilization_percentage": 80.0},
        target_is_default=True,
        current={"cpu_utilization_percentage": None},
        current_replicas=1,
        desired_replicas=1,
        blind="it cannot see CPU use, for the cluster serves no `metrics.k8s.io`: install metrics-server",
    ),
    "keda": AutoscalerInfo(
        "ScaledObject",
        target={"requests_in_flight": 100.0, "cpu_utilization_percentage": 70.0},
        current={"requests_in_flight": 2.5, "cpu_utilization_percentage": 12.0},
        current_replicas=1,
        desired_replicas=1,
        last_scale_at=NOW,
        last_scale_reason="a request woke it",
        state="awake",
        idle_timeout_seconds=60,
        last_active_at=NOW,
    ),
    "asleep": AutoscalerInfo(
        "ScaledObject",
        target={"requests_in_flight": 100.0},
        current={"requests_in_flight": None},
        desired_replicas=0,
        last_scale_at=NOW,
        last_scale_reason="it was idle",
        state="asleep",
        idle_timeout_seconds=60,
    ),
    "unmeasured": AutoscalerInfo(
        "HorizontalPodAutoscaler",
        target={"cpu_utilization_percentage": 80.0},
        target_is_default=True,
        current={"cpu_utilization_percentage": None},
        current_replicas=3,
        message="no measurement while no replica is ready",
    ),
    "hidden": AutoscalerInfo(
        "HorizontalPodAutoscaler", message="the HorizontalPodAutoscaler may not be read with this credential"
    ),
}


@pytest.mark.parametrize("which", AUTOSCALERS)
def test_get_shows_the_autoscaler(invoke: Invoke, client: MemoryClient, golden: Golden, which: str) -> None:
    client.groups["inference"] = a_group(autoscaler=AUTOSCALERS[which], replicas=ReplicaCounts(2, 2, 2, 0, 5))
    golden(f"cli/get.autoscaler-{which}.txt", invoke("sg", "get", "inference").stdout)
    found = json.loads(invoke("sg", "get", "inference", "-o", "json").stdout)["autoscaler"]
    assert found == AUTOSCALERS[which].to_dict()


def test_one_that_has_no_url(invoke: Invoke, client: MemoryClient) -> None:
    client.groups["inference"] = a_group(web_url=None)
    assert "no URL" in invoke("sg", "get", "inference", "-o", "url", code=1).stderr
    assert invoke("sg", "list", "-o", "url").stdout == ""


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_by_name_twice_or_by_id(invoke: Invoke, groups: MemoryClient, verb: str) -> None:
    assert "two names" in invoke("sg", verb, "inference", "--name=agents", code=2).stderr
    assert "say which one" in invoke("sg", verb, code=2).stderr
    assert "both a name and" in invoke("sg", verb, "x", "--id=1", code=2).stderr
    assert "`ghost` not found" in invoke("sg", verb, "--name=ghost", code=3).stderr
    invoke("sg", verb, "inference", "--name=inference")
    invoke("sg", verb, f"--id={groups.groups['agents'].id}")


def test_delete_says_what_went_and_what_stays(invoke: Invoke, groups: MemoryClient, golden: Golden) -> None:
    result = invoke("scaling-group", "delete", "--name=inference")
    golden("cli/delete.txt", f"--- stdout\n{result.stdout}--- stderr\n{result.stderr}")


def test_delete_output_formats(invoke: Invoke, groups: MemoryClient) -> None:
    gone = json.loads(invoke("sg", "delete", "inference", "-o", "json").stdout)
    assert (gone["schema"], gone["name"], gone["target"]["namespace"]) == (1, "inference", "abc123")
    assert gone["removed"] == ["HTTPRoute/inference", "Deployment/inference"]
    assert invoke("sg", "delete", "agents", "-o", "name").stdout == "agents\n"


def test_a_quiet_delete_prints_what_programs_asked_for(invoke: Invoke, client: MemoryClient) -> None:
    for output, stdout in (((), ""), (("-o", "wide"), ""), (("-o", "name"), "inference\n")):
        client.groups["inference"] = a_group()
        result = invoke("sg", "delete", "inference", "-q", *output)
        assert (result.stdout, result.stderr) == (stdout, "")


def test_a_quiet_look_prints_all_the_same(invoke: Invoke, groups: MemoryClient) -> None:
    assert "inference" in invoke("sg", "list", "-q").stdout
    assert "inference" in invoke("sg", "get", "inference", "-q").stdout


AMBIGUOUS = {"A": "1e3", "B": "0o17", "C": "y", "D": "on", "E": "1_000", "F": "-5", "G": "null", "H": "a: b"}


def test_manifests_are_yaml_documents(invoke: Invoke, client: MemoryClient, golden: Golden) -> None:
    flags = [f"--env={key}={value}" for key, value in AMBIGUOUS.items()]
    result = invoke("sg", "manifests", "inference", "--image=a:b", *flags)
    golden("cli/manifests.txt", result.stdout)
    service, deployment = yaml.safe_load_all(result.stdout)
    assert (service["kind"], deployment["kind"]) == ("Service", "Deployment")
    assert deployment["spec"]["env"] == AMBIGUOUS
    assert [verb for verb, _ in client.calls] == ["manifests"]


@pytest.mark.parametrize("hint", ["start one with `chalk local up`", None])
@pytest.mark.parametrize("kind", [ConnectionConfigError, UnreachableError])
def test_manifests_without_a_cluster_say_how_to_need_none(
    invoke: Invoke, client: MemoryClient, kind: type[ChalkError], hint: str | None
) -> None:
    client.fail["manifests"] = kind("no cluster", hint=hint)
    said = invoke("sg", "manifests", "inference", "--image=a:b", code=5).stderr
    assert "give `--gateway`, `--gateway-domain` and `--environment`: then no cluster is asked" in said
    assert (hint or "") in said


def test_manifests_hand_on_where_they_are_for(invoke: Invoke, client: MemoryClient) -> None:
    where = ("--gateway=infra/gw", "--gateway-domain=gw.chalk.ai", "--environment=abc123")
    result = invoke("sg", "manifests", "inference", "--image=a:b", "-o", "json", *where)
    assert [o["kind"] for o in json.loads(result.stdout)["items"]] == ["Service", "Deployment"]
    assert client.settings == [
        {"gateway": "infra/gw", "gateway_domain": "gw.chalk.ai", "environment": "abc123"}
    ]
