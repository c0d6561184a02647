"""Waiting: over as soon as the outcome is certain, either way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import Cause, ChalkClient, Progress, ScalingGroupInfo, ScalingGroupSpec, Status
from chalkcompute.errors import (
    ApiError,
    ClusterError,
    ConflictError,
    DeployFailedError,
    ForbiddenError,
    NotFoundError,
    ServerBusyError,
    UnreachableError,
    WaitTimeoutError,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock


class Controller:
    """Plays the controllers of the cluster, one step at a time."""

    def __init__(self, cluster: ApiCluster, clock: Clock) -> None:
        self.cluster = cluster
        self.clock = clock

    def stamp(self) -> str:
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def pod(self, name: str, state: dict[str, Any], *, ready: bool = False, restarts: int = 0) -> None:
        """Make a pod of the current revision, or change it."""
        deployment = self.cluster.api.get("Deployment", "web", "default")
        template = deployment["spec"]["template"]
        if self.cluster.seen("Pod", name) is None:
            meta = {
                "name": name,
                "namespace": "default",
                "labels": {**template["metadata"]["labels"], "pod-template-hash": name.split("-")[1]},
            }
            self.cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
        if "running" in state and not state["running"]:
            state = {"running": {"startedAt": self.stamp()}}
        status = {
            "phase": "Running" if "running" in state else "Pending",
            "startTime": self.stamp(),
            "conditions": [
                {"type": "Ready", "status": str(ready)},
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "nginx:1",
                    "imageID": "",
                    "ready": ready,
                    "restartCount": restarts,
                    "state": state,
                }
            ],
        }
        self.cluster.set_status("Pod", name, status)

    def deployment(self, *, updated: int = 1, ready: int = 0, total: int | None = None) -> None:
        obj = self.cluster.api.get("Deployment", "web", "default")
        status = {
            "observedGeneration": obj["metadata"]["generation"],
            "replicas": updated if total is None else total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        self.cluster.set_status("Deployment", "web", status)

    def route(self, accepted: str = "True", reason: str = "Accepted") -> None:
        obj = self.cluster.api.get("HTTPRoute", "web", "default")
        conditions = [
            {
                "type": kind,
                "status": accepted if kind == "Accepted" else "True",
                "reason": reason if kind == "Accepted" else "ResolvedRefs",
                "message": "because",
                "lastTransitionTime": self.stamp(),
                "observedGeneration": obj["metadata"]["generation"],
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        ref = {"name": "gw", "namespace": "kube-system", "sectionName": "https"}
        parent = {"parentRef": ref, "controllerName": "example.com/gateway", "conditions": conditions}
        self.cluster.set_status("HTTPRoute", "web", {"parents": [parent]})

    def up(self) -> None:
        self.pod("web-1-a", {"running": {}}, ready=True)
        self.deployment(ready=1)


@pytest.fixture
def controller(cluster: ApiCluster, clock: Clock, client: ChalkClient, spec: ScalingGroupSpec) -> Controller:
    client.create_scaling_group(spec)
    return Controller(cluster, clock)


def test_available_after_all_that_it_takes(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, clock: Clock
) -> None:
    cluster.after = [
        lambda: controller.pod("web-1-a", {"waiting": {"reason": "ContainerCreating"}}),
        controller.deployment,
        lambda: controller.pod("web-1-a", {"running": {}}),
        controller.up,
        controller.route,
    ]
    steps: list[Progress] = []
    info = client.wait_scaling_group("web", on_progress=steps.append)
    assert info.status is Status.AVAILABLE
    assert cluster.after == []
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["scheduling", "pulling", "starting", "routing", "done"]
    assert all(a != b for a, b in pairwise(steps))
    assert steps[-1].ready == steps[-1].desired == 1
    assert clock.seconds < 10


def test_running_does_not_wait_for_readiness_nor_ready_for_all(
    client: ChalkClient, cluster: ApiCluster, controller: Controller
) -> None:
    cluster.after = [
        controller.deployment,
        lambda: controller.pod("web-1-a", {"running": {}}),
        lambda: pytest.fail("waited too long"),
    ]
    assert client.wait_scaling_group("web", until="running").status is Status.RUNNING
    cluster.after = [controller.route, controller.up]
    assert client.wait_scaling_group("web", until="ready").ready_replicas == 1


def test_old_replicas_do_not_count(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, spec: ScalingGroupSpec, clock: Clock
) -> None:
    controller.up()
    controller.route()
    client.wait_scaling_group("web")
    client.create_scaling_group(replace(spec, image="nginx:2"))
    controller.route()
    for until in ("running", "ready", "available"):
        with pytest.raises(WaitTimeoutError):
            client.wait_scaling_group("web", until=until, timeout=3)
    clock.sleep(1)
    controller.pod("web-2-a", {"waiting": {"reason": "ContainerCreating"}})
    controller.deployment(updated=1, ready=1, total=2)
    with pytest.raises(WaitTimeoutError):
        client.wait_scaling_group("web", until="ready", timeout=3)
    cluster.after = [
        lambda: controller.pod("web-2-a", {"running": {}}, ready=True),
        lambda: controller.deployment(updated=1, ready=2, total=2),
    ]
    assert client.wait_scaling_group("web", until="ready").status is Status.RUNNING


def test_a_replica_that_falls_over_at_once_is_no_success(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, clock: Clock
) -> None:
    controller.up()
    controller.route()
    naps = iter([lambda: controller.pod("web-1-a", {"waiting": {"reason": "CrashLoopBackOff"}}, restarts=1)])

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        next(naps, lambda: None)()

    world = replace(client._session.world(), sleep=sleep)
    other = ChalkClient.over(cluster, client._session.settings(), world)
    cluster.after = [lambda: controller.deployment(ready=0)]
    with pytest.raises((DeployFailedError, WaitTimeoutError)):
        other.wait_scaling_group("web", timeout=5)


def test_a_verdict_ends_it_at_once(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, clock: Clock
) -> None:
    controller.deployment()
    message = 'couldn\'t parse image name "nginx:1"'
    controller.pod("web-1-a", {"waiting": {"reason": "InvalidImageName", "message": message}})
    with pytest.raises(DeployFailedError) as caught:
        client.wait_scaling_group("web")
    assert caught.value.verdict.cause is Cause.INVALID_IMAGE
    assert caught.value.info.status is Status.FAILED
    assert caught.value.exit_code == 6
    assert clock.seconds == 0


def test_a_refused_route_is_a_verdict(client: ChalkClient, controller: Controller) -> None:
    controller.up()
    controller.route("False", "NotAllowedByListeners")
    with pytest.raises(DeployFailedError) as caught:
        client.wait_scaling_group("web", timeout=200)
    assert caught.value.verdict.cause is Cause.ROUTE_NOT_ACCEPTED


def test_time_runs_out_with_what_stood_in_the_way(
    client: ChalkClient, controller: Controller, clock: Clock
) -> None:
    start = clock.seconds
    with pytest.raises(WaitTimeoutError, match=r"not available after 20 s") as caught:
        client.wait_scaling_group("web", timeout=20)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.info.name == "web"
    assert 20 <= clock.seconds - start < 25


def test_zero_replicas_by_intent_is_success(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, clock: Clock
) -> None:
    cluster.with_keda()
    client.create_scaling_group(replace(spec, min_replicas=0))
    cluster.merge("Deployment", "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
    controller = Controller(cluster, clock)
    controller.deployment(updated=0)
    controller.route()
    ready = {"type": "Ready", "status": "True", "reason": "ScaledObjectReady", "message": ""}
    cluster.after = [lambda: cluster.set_status("ScaledObject", "web", {"conditions": [ready]})]
    assert client.wait_scaling_group("web", until="running").status is Status.SCALED_TO_ZERO
    assert cluster.after == [], "before KEDA was ready, nothing would have woken it"


@pytest.fixture
def serving(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, clock: Clock
) -> Callable[[], None]:
    """A group that may sleep has a replica that serves, and KEDA has not looked at it; makes KEDA look."""
    cluster.with_keda()
    client.create_scaling_group(replace(spec, min_replicas=0))
    controller = Controller(cluster, clock)
    controller.up()
    controller.route()
    ready = {"type": "Ready", "status": "True", "reason": "ScaledObjectReady", "message": ""}
    return lambda: cluster.set_status("ScaledObject", "web", {"conditions": [ready]})


def test_a_replica_that_serves_is_not_enough_until_keda_scales_the_group(
    client: ChalkClient, cluster: ApiCluster, serving: Callable[[], None]
) -> None:
    said: list[Progress] = []
    cluster.after = [lambda: None, serving]
    assert client.wait_scaling_group("web", on_progress=said.append).status is Status.AVAILABLE
    assert cluster.after == []
    assert "waiting for KEDA to take up the ScaledObject" in {progress.message for progress in said}
    assert client.wait_scaling_group("web", timeout=1).status is Status.AVAILABLE


@pytest.mark.usefixtures("serving")
def test_keda_that_does_not_run_is_what_a_deploy_ends_with(client: ChalkClient) -> None:
    assert client.wait_scaling_group("web", until="ready", timeout=1).ready_replicas == 1
    with pytest.raises(WaitTimeoutError, match=r"serves, but .* 5 s: waiting for KEDA to take up"):
        client.wait_scaling_group("web", timeout=5)
    with pytest.raises(WaitTimeoutError, match=r"serves, but .* KEDA has not looked at") as caught:
        client.wait_scaling_group("web", timeout=45)
    assert caught.value.verdict is not None
    assert caught.value.verdict.cause is Cause.AUTOSCALER_NOT_READY
    assert "operator runs" in (caught.value.hint or "")


@pytest.mark.usefixtures("serving")
def test_a_pause_is_nothing_to_wait_for(client: ChalkClient, cluster: ApiCluster) -> None:
    pause = {"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}}
    cluster.merge("ScaledObject", "web", pause, "default")
    assert client.wait_scaling_group("web", timeout=1).status is Status.AVAILABLE


def test_a_group_that_goes_away_meanwhile(
    client: ChalkClient, cluster: ApiCluster, controller: Controller
) -> None:
    def delete() -> None:
        client.delete_scaling_group("web")

    cluster.after = [delete]
    with pytest.raises(NotFoundError, match="was deleted"):
        client.wait_scaling_group("web", timeout=30)


@pytest.mark.parametrize("outage", [10, 60])
@pytest.mark.parametrize("verb", ["get Deployment", "get ConfigMap", "list Pod"])
@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("connection refused"),
        ApiError("etcdserver: leader changed", status=500),
        ServerBusyError("slow down", status=429),
    ],
)
def test_an_api_server_that_is_away_for_a_moment(
    client: ChalkClient,
    cluster: ApiCluster,
    controller: Controller,
    clock: Clock,
    outage: int,
    verb: str,
    error: ClusterError,
) -> None:
    controller.up()
    controller.route()
    over = clock.seconds + outage

    class Flaky:
        def __getattr__(self, verb: str) -> Any:
            return getattr(cluster, verb)

        def get(self, kind: str, *args: Any, **kwargs: Any) -> Any:
            if f"get {kind}" == verb and clock.seconds < over:
                raise error
            return cluster.get(kind, *args, **kwargs)

        def list(self, kind: str, *args: Any, **kwargs: Any) -> Any:
            if f"list {kind}" == verb and clock.seconds < over:
                raise error
            return cluster.list(kind, *args, **kwargs)

    flaky: Any = Flaky()
    other = ChalkClient.over(flaky, client._session.settings(), client._session.world())
    if outage < 30:
        assert other.wait_scaling_group("web").status is Status.AVAILABLE
    else:
        with pytest.raises(type(error)):
            other.wait_scaling_group("web")


def outcome(cluster: ApiCluster, revision: int = 1) -> dict[str, str]:
    obj = cluster.seen("ConfigMap", labels.revision_name("web", revision))
    assert obj is not None
    found: dict[str, str] = obj["metadata"].get("annotations") or {}
    return found


def test_a_revision_remembers_how_its_wait_ended(
    client: ChalkClient, cluster: ApiCluster, controller: Controller
) -> None:
    assert outcome(cluster) == {}
    with pytest.raises(WaitTimeoutError):
        client.wait_scaling_group("web", timeout=2)
    assert outcome(cluster) == {"chalk.ai/outcome": "timed-out"}
    controller.pod("web-1-a", {"waiting": {"reason": "InvalidImageName", "message": "no"}})
    controller.deployment()
    with pytest.raises(DeployFailedError) as caught:
        client.wait_scaling_group("web")
    noted = outcome(cluster)
    assert noted["chalk.ai/outcome"] == "failed"
    assert json.loads(noted["chalk.ai/post-mortem"]) == caught.value.verdict.to_dict()
    controller.up()
    controller.route()
    client.wait_scaling_group("web")
    assert outcome(cluster) == {"chalk.ai/outcome": "available"}


def test_list_knows_a_failed_deploy_until_the_next_one(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, spec: ScalingGroupSpec
) -> None:
    controller.pod("web-1-a", {"waiting": {"reason": "InvalidImageName", "message": "no"}})
    controller.deployment()
    before = cluster.seen("ConfigMap", labels.record_name("web"))
    with pytest.raises(DeployFailedError) as caught:
        client.wait_scaling_group("web")
    after = cluster.seen("ConfigMap", labels.record_name("web"))
    assert before is not None
    assert after is not None
    assert Record.from_manifest(after).written_at == Record.from_manifest(before).written_at

    def listed() -> ScalingGroupInfo:
        (info,) = client.list_scaling_groups().scaling_groups
        return info

    assert listed().status is Status.FAILED
    assert listed().verdict == caught.value.verdict
    client.create_scaling_group(replace(spec, image="nginx:2"))
    assert (listed().status, listed().verdict) == (Status.PENDING, None)
    with pytest.raises(DeployFailedError):
        client.wait_scaling_group("web")
    controller.up()
    controller.route()
    assert (listed().status, listed().verdict) == (Status.AVAILABLE, None)
    client.wait_scaling_group("web")
    cleared = cluster.seen("ConfigMap", labels.record_name("web"))
    assert cleared is not None
    assert "annotations" not in cleared["metadata"]


def test_an_outcome_that_cannot_be_noted_fails_nothing(
    controller: Controller, reconnect: Callable[..., tuple[ChalkClient, Any]]
) -> None:
    refusal = ForbiddenError("configmaps is forbidden", status=403, reason="Forbidden")
    client, _ = reconnect(fail={("merge", "ConfigMap"): refusal})
    controller.up()
    controller.route()
    assert client.wait_scaling_group("web").status is Status.AVAILABLE


def test_a_revision_deployed_meanwhile_is_not_judged_by_another(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, spec: ScalingGroupSpec
) -> None:
    def deploy() -> None:
        client.create_scaling_group(replace(spec, image="nginx:2"))

    cluster.after = [deploy]
    with pytest.raises(WaitTimeoutError):
        client.wait_scaling_group("web", timeout=3)
    assert outcome(cluster, 1) == {}
    assert outcome(cluster, 2) == {"chalk.ai/outcome": "timed-out"}


def test_a_deploy_is_not_judged_by_a_later_one(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, spec: ScalingGroupSpec
) -> None:
    first = client.get_scaling_group("web")

    def deploy() -> None:
        client.create_scaling_group(replace(spec, image="nginx:2"))
        controller.up()
        controller.route()

    cluster.after = [deploy]
    with pytest.raises(ConflictError, match=r"revision 1 of .* was replaced by revision 2"):
        client.wait_scaling_group("web", timeout=30, deployed=first)
    assert client.wait_scaling_group("web").revision == 2


def test_a_deploy_is_not_judged_by_another_group_of_its_name(
    client: ChalkClient, cluster: ApiCluster, controller: Controller, spec: ScalingGroupSpec
) -> None:
    first = client.get_scaling_group("web")

    def start_anew() -> None:
        client.delete_scaling_group("web")
        client.create_scaling_group(spec)

    cluster.after = [start_anew]
    with pytest.raises(NotFoundError, match="another one of that name"):
        client.wait_scaling_group("web", timeout=30, deployed=first)


@pytest.mark.parametrize(
    ("state", "restarts", "phase"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, 0, "pulling"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, 0, "pulling"),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, 1, "starting"),
        ({"terminated": {"exitCode": 1}}, 0, "starting"),
        ({"waiting": {"reason": "CreateContainerError"}}, 0, "starting"),
        ({"running": {}}, 0, "starting"),
    ],
)
def test_phases(
    client: ChalkClient, controller: Controller, state: dict[str, Any], restarts: int, phase: str
) -> None:
    controller.pod("web-1-a", state, restarts=restarts)
    controller.deployment()
    steps: list[Progress] = []
    with pytest.raises(WaitTimeoutError):
        client.wait_scaling_group("web", timeout=1, on_progress=steps.append)
    assert {step.phase for step in steps} == {phase}


def test_another_image_in_its_place_is_said(
    client: ChalkClient, cluster: ApiCluster, controller: Controller
) -> None:
    controller.up()
    controller.route()
    pod = cluster.api.get("Pod", "web-1-a", "default")
    pod["metadata"]["annotations"] = {"chalk.ai/image-substituted": "Python 3.11 is used instead"}
    cluster.api.update(pod, manager="kubelet")
    for info in (client.wait_scaling_group("web"), client.get_scaling_group("web")):
        assert info.status is Status.AVAILABLE
        assert info.status_message == "Python 3.11 is used instead"
        assert info.warnings == ("Python 3.11 is used instead",)
        assert info.to_dict()["warnings"] == ["Python 3.11 is used instead"]


def test_events_are_asked_for_only_while_it_is_not_complete(
    client: ChalkClient, cluster: ApiCluster, controller: Controller
) -> None:
    controller.up()
    controller.route()
    cluster.calls.clear()
    client.wait_scaling_group("web")
    assert ("list", "Event") not in cluster.calls
    assert labels.record_name("web") == "chalk-sg-web"
