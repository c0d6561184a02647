"""What `call()` asks of the cluster: whether there is hope, how new the group is, what to trust."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec, Status
from chalkcompute.errors import ConfigError, ForbiddenError, ServerBusyError, UnreachableError
from chalkcompute.manifests.record import Record
from chalkcompute.service.outlook import YOUTH, is_asleep, is_hopeless, youth_left
from chalkcompute.service.read import find_record
from chalkcompute.service.scope import Scope, World
from chalkcompute.settings import Settings
from chalkcompute.times import rfc3339

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


def test_a_group_that_may_sleep_is_asleep_without_a_ready_replica(
    cluster: ApiCluster, record: Record
) -> None:
    dozing = replace(record, spec=replace(record.spec, min_replicas=0))
    assert not is_asleep(cluster, record)
    assert is_asleep(cluster, dozing)
    cluster.set_status("Deployment", "web", {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1})
    assert not is_asleep(cluster, dozing)


def test_a_group_that_the_cluster_does_not_tell_of_is_not_taken_to_sleep(
    reconnect: Reconnect, record: Record
) -> None:
    _, failing = reconnect(fail={("get", "Deployment"): ForbiddenError("no", status=403)})
    assert not is_asleep(failing, replace(record, spec=replace(record.spec, min_replicas=0)))


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


class ColdGateway(http.server.BaseHTTPRequestHandler):
    """Answers as an Envoy that has no replica, or no route."""

    def do_GET(self) -> None:
        status, body = (503, b"no healthy upstream") if self.path == "/cold" else (404, b"")
        self.send_response_only(status)
        self.send_header("Server", "envoy")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""


@pytest.fixture
def gateway_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ColdGateway)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_call_asks_the_cluster_only_when_the_gateway_refuses(
    cluster: ApiCluster, clock: Clock, world: World, spec: ScalingGroupSpec, gateway_port: int
) -> None:
    settings = Settings(
        gateway=("kube-system", "gw"),
        gateway_section="http",
        gateway_port=gateway_port,
        gateway_address="127.0.0.1",
        ca_file=Path(certifi.where()),
    )
    client = ChalkClient.over(cluster, settings, world)
    client.create_scaling_group(spec)
    cluster.calls.clear()
    assert client.call("web", "/unknown", method="GET").status_code == 404
    assert clock.seconds == YOUTH
    assert cluster.calls[:3] == [("get", "ConfigMap"), ("get", "Deployment"), ("get", "HTTPRoute")]
    assert len(cluster.calls) <= 3 + 5, "the youth once, the status once"
    clock.sleep(60)
    fail(cluster)
    cluster.calls.clear()
    began = clock.seconds
    assert client.call("web", "/cold", method="GET").status_code == 503
    assert 10 <= clock.seconds - began < 15
    began = clock.seconds
    assert client.call("web", "/cold", method="GET", cold_start_timeout=0).status_code == 503
    assert clock.seconds == began


def test_authorities_that_cannot_be_read(
    client: ChalkClient, cluster: ApiCluster, record: Record, world: World, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no certificate in PEM form"):
        client.call("web")  # the annotation of this Gateway says `PEM`, and nothing more
    absent = ChalkClient.over(cluster, Settings(ca_file=tmp_path / "absent.pem"), world)
    with pytest.raises(ConfigError, match="CHALK_CA_FILE"):
        absent.call("web")
