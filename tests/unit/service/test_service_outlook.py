"""What `call()` asks of the cluster: whether there is hope, and how new the group is to the gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec, Status
from chalkcompute.errors import ForbiddenError, ServerBusyError, UnreachableError
from chalkcompute.manifests.record import Record
from chalkcompute.service.outlook import YOUTH, is_hopeless, youth_left
from chalkcompute.service.read import find_record
from chalkcompute.service.scope import Scope, World
from chalkcompute.types import rfc3339

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock, FailingCluster

Reconnect = Callable[..., tuple[ChalkClient, "FailingCluster"]]


def condition(clock: Clock, kind: str, status: str = "True") -> dict[str, Any]:
    """A condition that turned so just now."""
    when = rfc3339(clock.now())
    return {"type": kind, "status": status, "reason": kind, "message": "", "lastTransitionTime": when}


def accept(cluster: ApiCluster, clock: Clock) -> None:
    ref = {"name": "gw", "namespace": "kube-system", "sectionName": "https"}
    parent = {
        "parentRef": ref,
        "controllerName": "example.com/g",
        "conditions": [condition(clock, "Accepted")],
    }
    cluster.set_status("HTTPRoute", "web", {"parents": [parent]})


def fail(cluster: ApiCluster) -> None:
    """A replica whose image cannot be."""
    deployment = cluster.api.get("Deployment", "web", "default")
    seen = {"observedGeneration": deployment["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1}
    cluster.set_status("Deployment", "web", seen)
    template = deployment["spec"]["template"]
    labels = {**template["metadata"]["labels"], "pod-template-hash": "1"}
    meta = {"name": "web-1-a", "namespace": "default", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
    waiting = {"reason": "InvalidImageName", "message": "couldn't parse image name"}
    container = {"name": "app", "image": "nginx:1", "imageID": "", "ready": False, "restartCount": 0}
    container["state"] = {"waiting": waiting}
    cluster.set_status("Pod", "web-1-a", {"phase": "Pending", "containerStatuses": [container]})


@pytest.fixture
def record(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> Record:
    client.create_scaling_group(spec)
    return find_record(cluster, "default", "web")


def test_a_group_that_failed_is_hopeless(
    client: ChalkClient, cluster: ApiCluster, record: Record, scope: Scope, world: World
) -> None:
    assert not is_hopeless(cluster, scope, "web", world=world)
    fail(cluster)
    assert client.get_scaling_group("web").status is Status.FAILED
    assert is_hopeless(cluster, scope, "web", world=world)


def test_a_group_that_is_gone_is_hopeless(
    client: ChalkClient, cluster: ApiCluster, record: Record, scope: Scope, world: World
) -> None:
    client.delete_scaling_group("web")
    assert is_hopeless(cluster, scope, "web", world=world)


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("down"),
        ForbiddenError("no", status=403, reason="Forbidden"),
        ServerBusyError("busy", status=503, reason="ServiceUnavailable"),
    ],
)
def test_a_cluster_that_does_not_tell_leaves_hope(
    record: Record, reconnect: Reconnect, scope: Scope, world: World, error: Exception
) -> None:
    _, failing = reconnect(fail={("get", "ConfigMap"): error})
    assert not is_hopeless(failing, scope, "web", world=world)


def test_youth_counts_from_the_last_change_that_a_gateway_has_to_follow(
    cluster: ApiCluster, record: Record, clock: Clock, world: World
) -> None:
    assert youth_left(cluster, record, world=world) == YOUTH
    clock.sleep(YOUTH + 60)  # the image takes its time
    assert youth_left(cluster, record, world=world) == 0
    cluster.set_status("Deployment", "web", {"conditions": [condition(clock, "Available", "False")]})
    assert youth_left(cluster, record, world=world) == 0
    cluster.set_status("Deployment", "web", {"conditions": [condition(clock, "Available")]})
    clock.sleep(5)
    assert youth_left(cluster, record, world=world) == YOUTH - 5
    accept(cluster, clock)
    clock.sleep(1)
    assert youth_left(cluster, record, world=world) == YOUTH - 1
    clock.sleep(YOUTH)
    cluster.calls.clear()
    assert youth_left(cluster, record, world=world) == 0
    assert cluster.calls == [("get", "Deployment"), ("get", "HTTPRoute")]


def test_clocks_that_differ_a_lot_make_no_group_young(
    cluster: ApiCluster, record: Record, clock: Clock, world: World
) -> None:
    ahead = World(now=lambda: clock.now() - timedelta(minutes=5))
    assert youth_left(cluster, record, world=ahead) == 0
    behind = World(now=lambda: clock.now() - timedelta(seconds=2))
    assert youth_left(cluster, record, world=behind) == YOUTH - 2


def test_youth_is_that_of_the_record_where_nothing_else_may_be_seen(
    record: Record, reconnect: Reconnect, world: World
) -> None:
    no = ForbiddenError("no", status=403, reason="Forbidden")
    _, failing = reconnect(fail={("get", "Deployment"): no, ("get", "HTTPRoute"): no})
    assert youth_left(failing, record, world=world) == YOUTH
