"""The HPA controller over the real API server: what it scales, says and writes down."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.controllers.hpa import SYNC_SECONDS, AutoscalerController
from chalkcompute.local.ports import Api, Change, Manifest
from tests.unit.local_controllers.autoscaled import (
    NOW,
    Measured,
    Outside,
    Replica,
    cpu_metric,
    make_autoscaler,
    usage,
)
from tests.unit.local_controllers.conftest import Clock

KEY = ("default", "web")
BY_UTILIZATION = "cpu resource utilization (percentage of request)"


class World:
    """One Deployment `web` with its Pods, measured as the test says, and the controller."""

    def __init__(self, api: Api, clock: Clock, external: Outside | None = None) -> None:
        self.api, self.clock = api, clock
        clock.now = NOW
        self.measured = Measured()
        recorder = EventRecorder(api, "horizontal-pod-autoscaler", clock=clock)
        self.controller = AutoscalerController(api, recorder, clock, self.measured, external)

    def deploy(self, *replicas: Replica, name: str = "web", label: str = "web", count: int = -1) -> None:
        template = {
            "metadata": {"labels": {"app": label}},
            "spec": {"containers": [{"name": "app", "image": "python:3.12"}]},
        }
        spec = {"selector": {"matchLabels": {"app": label}}, "template": template}
        count = len(replicas) if count < 0 else count
        made = self.api.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"replicas": count, **spec},
            },
            manager="test",
        )
        self.api.update({**made, "status": {"replicas": count}}, manager="test", subresource="status")
        for index, replica in enumerate(replicas):
            self.add(f"{name}-{index}", replica, label)

    def add(self, name: str, replica: Replica, label: str = "web") -> None:
        pod = replica.pod(name)
        pod["metadata"] |= {"labels": {"app": label}}
        made = self.api.create(pod, manager="test")
        self.api.update({**made, "status": pod["status"]}, manager="test", subresource="status")
        if replica.use is not None:
            measured = dataclasses.replace(usage(name, replica.use), uid=made["metadata"]["uid"])
            self.measured.usages.append(measured)

    def autoscale(self, *args: Any, **spec: Any) -> Manifest:
        return self.api.create(make_autoscaler(*args, **spec), manager="test")

    def look(self, name: str = "web") -> Manifest:
        """Let a period go by, and its look with it; returns the status."""
        key = ("default", name)
        if self.controller.sync(key) is not None:
            self.clock.advance(SYNC_SECONDS)
            self.controller.sync(key)
        status: Manifest = self.api.get("HorizontalPodAutoscaler", name, "default")["status"]
        return status

    def replicas(self, name: str = "web") -> int:
        return int(self.api.get("Deployment", name, "default")["spec"]["replicas"])

    def managed(self, kind: str, subresource: str) -> Manifest:
        fields = self.api.get(kind, "web", "default")["metadata"]["managedFields"]
        (entry,) = [entry for entry in fields if entry.get("subresource") == subresource]
        return dict(entry)

    def events(self) -> list[tuple[str, str, str]]:
        return [(e["type"], e["reason"], e["message"]) for e in self.api.list("Event", "default")]


def condition(status: Manifest, kind: str) -> tuple[str, str, str]:
    (found,) = [c for c in status["conditions"] if c["type"] == kind]
    return found["status"], found["reason"], found["message"]


@pytest.fixture
def world(api: Api, clock: Clock) -> World:
    return World(api, clock)


def test_load_above_the_target_adds_replicas_and_says_so(world: World) -> None:
    world.deploy(Replica(400))
    world.autoscale(1, 3, cpu_metric(20))
    status = world.look()
    assert world.replicas() == 2
    # As recorded: this look saw one replica, and wants two.
    assert (status["currentReplicas"], status["desiredReplicas"]) == (1, 2)
    assert status["lastScaleTime"] == "2026-11-30T12:00:05Z"
    current = {"averageValue": "400m", "averageUtilization": 40}
    assert status["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
    assert [c["type"] for c in status["conditions"]] == ["AbleToScale", "ScalingActive", "ScalingLimited"]
    assert condition(status, "AbleToScale") == (
        "True",
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 2",
    )
    assert condition(status, "ScalingActive") == (
        "True",
        "ValidMetricFound",
        f"the HPA was able to successfully calculate a replica count from {BY_UTILIZATION}",
    )
    assert condition(status, "ScalingLimited") == (
        "False",
        "DesiredWithinRange",
        "the desired count is within the acceptable range",
    )
    event = ("Normal", "SuccessfulRescale", f"New size: 2; reason: {BY_UTILIZATION} above target")
    assert world.events() == [event]
    assert world.api.list("Event", "default")[0]["source"] == {"component": "horizontal-pod-autoscaler"}


def test_it_scales_as_the_control_plane_does(world: World) -> None:
    world.deploy(Replica(400))
    world.autoscale(1, 3, cpu_metric(20))
    world.look()
    entry = world.managed("Deployment", "scale")
    assert (entry["manager"], entry["operation"]) == ("kube-controller-manager", "Update")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    entry = world.managed("HorizontalPodAutoscaler", "status")
    assert entry["manager"] == "kube-controller-manager"
    written = {
        "f:conditions",
        "f:currentMetrics",
        "f:currentReplicas",
        "f:desiredReplicas",
        "f:lastScaleTime",
    }
    assert set(entry["fieldsV1"]["f:status"]) == written


def test_nothing_is_written_while_nothing_changes(world: World) -> None:
    world.deploy(Replica(500))
    world.autoscale()
    world.look()
    before = world.api.get("HorizontalPodAutoscaler", "web", "default")["metadata"]["resourceVersion"]
    world.look()
    assert world.api.get("HorizontalPodAutoscaler", "web", "default")["metadata"]["resourceVersion"] == before
    assert world.events() == []


def test_load_below_the_target_waits_for_its_window(world: World) -> None:
    world.deploy(*[Replica(100)] * 4)
    world.autoscale(1, 10)
    status = world.look()
    assert world.replicas() == 4
    assert condition(status, "AbleToScale")[:2] == ("True", "ScaleDownStabilized")
    for _ in range(59):
        world.look()
    assert world.replicas() == 4
    for _ in range(2):
        status = world.look()
    assert world.replicas() == 1
    assert ("Normal", "SuccessfulRescale", "New size: 1; reason: All metrics below target") in world.events()
    assert status["desiredReplicas"] == 1


def test_the_window_can_be_set(world: World) -> None:
    world.deploy(*[Replica(100)] * 4)
    policy = {"type": "Pods", "value": 1, "periodSeconds": 60}
    world.autoscale(1, 10, behavior={"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [policy]}})
    status = world.look()
    assert world.replicas() == 3
    assert condition(status, "ScalingLimited")[:2] == ("True", "ScaleDownLimit")
    world.look()
    assert world.replicas() == 3  # one a minute
    for _ in range(12):
        world.look()
    assert world.replicas() == 2


@pytest.mark.parametrize(
    ("count", "bounds", "size", "reason"),
    [
        (5, (1, 3), 3, "Current number of replicas above Spec.MaxReplicas"),
        (1, (2, 3), 2, "Current number of replicas below Spec.MinReplicas"),
    ],
)
def test_bounds_hold_without_any_metric(
    world: World, count: int, bounds: tuple[int, int], size: int, reason: str
) -> None:
    world.deploy(count=count)
    world.autoscale(*bounds)
    status = world.look()
    assert world.replicas() == size
    assert world.events() == [("Normal", "SuccessfulRescale", f"New size: {size}; reason: {reason}")]
    assert [c["type"] for c in status["conditions"]] == ["AbleToScale"]
    assert status["currentMetrics"] is None


def test_zero_replicas_are_somebody_elses_decision(world: World) -> None:
    world.deploy(count=0)
    world.autoscale(1, 3)
    status = world.look()
    assert world.replicas() == 0
    assert condition(status, "ScalingActive") == (
        "False",
        "ScalingDisabled",
        "scaling is disabled since the replica count of the target is zero",
    )
    assert (status.get("currentReplicas"), status["desiredReplicas"]) == (None, 0)
    assert world.events() == []


def test_one_that_cannot_see_says_why(world: World) -> None:
    world.deploy(Replica())
    world.autoscale()
    status = world.look()
    why = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: "
        "no metrics returned from resource metrics API"
    )
    unable = f"the HPA was unable to compute the replica count: {why}"
    assert condition(status, "ScalingActive") == ("False", "FailedGetResourceMetric", unable)
    assert condition(status, "AbleToScale")[1] == "SucceededGetScale"
    # As recorded: an entry of no type.
    assert status["currentMetrics"] == [{"type": ""}]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (1, 0)
    assert sorted(world.events()) == [
        (
            "Warning",
            "FailedComputeMetricsReplicas",
            "invalid metrics (1 invalid out of 1), first error is: "
            f"failed to get cpu resource metric value: {why}",
        ),
        ("Warning", "FailedGetResourceMetric", why),
    ]
    entry = world.managed("HorizontalPodAutoscaler", "status")
    assert set(entry["fieldsV1"]["f:status"]) == {"f:conditions", "f:currentMetrics", "f:currentReplicas"}


def test_a_pod_that_requests_nothing_has_no_utilization(world: World) -> None:
    world.deploy(Replica(100, request=None))
    world.autoscale()
    message = condition(world.look(), "ScalingActive")[2]
    assert message.endswith(
        "failed to get cpu utilization: missing request for cpu in container app of Pod web-0"
    )


def test_a_target_that_is_gone_is_told_and_found_again(world: World) -> None:
    world.autoscale()
    status = world.look()
    assert status["conditions"][0]["status"] == "False"
    assert condition(status, "AbleToScale")[1:] == (
        "FailedGetScale",
        'the HPA controller was unable to get the target\'s current scale: deployments.apps "web" not found',
    )
    assert (status["desiredReplicas"], status["currentMetrics"]) == (0, None)
    assert world.events() == [("Warning", "FailedGetScale", 'deployments.apps "web" not found')]
    since = status["conditions"][0]["lastTransitionTime"]
    world.deploy(Replica(500))
    status = world.look()
    assert condition(status, "AbleToScale")[0] == "True"
    assert status["conditions"][0]["lastTransitionTime"] > since


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"},
            'no matches for kind "StatefulSet" in group "apps"',
        ),
        (
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "name": "web"},
            "the server could not find the requested resource",
        ),
    ],
)
def test_what_has_no_scale_cannot_be_scaled(world: World, reference: Manifest, message: str) -> None:
    world.autoscale(1, 3, scaleTargetRef=reference)
    assert condition(world.look(), "AbleToScale")[2].endswith(message)


def test_the_version_of_what_is_scaled_does_not_matter(world: World) -> None:
    world.deploy(Replica(400))
    reference = {"apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "web"}
    world.autoscale(1, 3, cpu_metric(20), scaleTargetRef=reference)
    assert condition(world.look(), "AbleToScale")[0] == "True"
    assert world.replicas() == 2


def test_an_autoscaler_from_before_api_versions_were_checked_says_what_is_wrong(
    api: ResourceApi, world: World
) -> None:
    made = world.autoscale(1, 3)
    made["spec"]["scaleTargetRef"]["apiVersion"] = "a/b/c"
    api.store.put("HorizontalPodAutoscaler", made)
    assert condition(world.look(), "AbleToScale") == (
        "False",
        "FailedGetScale",
        "the HPA controller was unable to get the target's current scale: "
        "unexpected GroupVersion string: a/b/c",
    )


def test_the_metric_that_asks_for_most_counts(world: World) -> None:
    world.deploy(Replica(400))
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "16Mi"}}
    world.autoscale(1, 10, cpu_metric(20), {"type": "Resource", "resource": memory})
    status = world.look()
    assert world.replicas() == 4
    assert world.events()[0][2] == "New size: 4; reason: memory resource above target"
    assert [m["resource"]["current"]["averageValue"] for m in status["currentMetrics"]] == [
        "400m",
        "67108864",
    ]


def test_of_two_that_ask_for_the_same_the_first_is_the_reason(world: World) -> None:
    world.deploy(Replica(400))
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "32Mi"}}
    world.autoscale(1, 10, cpu_metric(20), {"type": "Resource", "resource": memory})
    world.look()
    assert world.events()[0][2] == f"New size: 2; reason: {BY_UTILIZATION} above target"


def broken() -> Manifest:
    target = {"type": "Value", "value": "1"}
    return {"type": "External", "external": {"metric": {"name": "depth"}, "target": target}}


def test_one_that_fails_does_not_keep_the_others_from_growing(world: World) -> None:
    world.deploy(Replica(400))
    world.autoscale(1, 10, broken(), cpu_metric(20))
    status = world.look()
    assert world.replicas() == 2
    assert condition(status, "ScalingActive")[:2] == ("True", "ValidMetricFound")
    assert [m["type"] for m in status["currentMetrics"]] == ["", "Resource"]
    assert {reason for _, reason, _ in world.events()} == {"FailedGetExternalMetric", "SuccessfulRescale"}


def test_one_that_fails_keeps_the_others_from_shrinking(world: World) -> None:
    world.deploy(*[Replica(100)] * 4)
    world.autoscale(1, 10, cpu_metric(50), broken())
    status = world.look()
    assert world.replicas() == 4
    assert condition(status, "ScalingActive")[:2] == ("False", "FailedGetExternalMetric")
    (message,) = [m for _, reason, m in world.events() if reason == "FailedComputeMetricsReplicas"]
    assert message.startswith(
        "invalid metrics (1 invalid out of 2), first error is: failed to get depth external metric value: "
        "failed to get external metric depth: unable to get external metric default/depth/nil: "
    )


def test_containers_can_be_told_apart(world: World) -> None:
    world.deploy(Replica(400))
    source = {"name": "cpu", "container": "app", "target": cpu_metric(20)["resource"]["target"]}
    world.autoscale(1, 10, {"type": "ContainerResource", "containerResource": source})
    status = world.look()
    assert world.replicas() == 2
    reason = "cpu container resource utilization (percentage of request) above target"
    assert world.events()[0][2] == f"New size: 2; reason: {reason}"
    assert status["currentMetrics"][0]["containerResource"] == {
        "name": "cpu",
        "container": "app",
        "current": {"averageValue": "400m", "averageUtilization": 40},
    }


def test_a_container_that_is_not_there_is_told(world: World) -> None:
    world.deploy(Replica(400))
    source = {"name": "cpu", "container": "proxy", "target": cpu_metric(20)["resource"]["target"]}
    world.autoscale(1, 10, {"type": "ContainerResource", "containerResource": source})
    status, reason, message = condition(world.look(), "ScalingActive")
    assert (status, reason) == ("False", "FailedGetContainerResourceMetric")
    assert message.endswith("container proxy not present in metrics for pod default/web-0")


def requests_metric(name: str = "s0-http-web", **target: str) -> Manifest:
    kind = "AverageValue" if "averageValue" in target else "Value"
    metric = {"name": name, "selector": {"matchLabels": {"scaledobject.keda.sh/name": "web"}}}
    return {"type": "External", "external": {"metric": metric, "target": {"type": kind, **target}}}


SELECTOR = (
    "&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: web,},"
    "MatchExpressions:[]LabelSelectorRequirement{},}"
)


@pytest.mark.parametrize(
    ("target", "size", "current"),
    [
        ({"averageValue": "100"}, 3, {"averageValue": "125"}),
        ({"value": "100"}, 4, {"value": "250"}),  # at most twice as many, or four
    ],
)
def test_what_requests_ask_for(
    api: Api, clock: Clock, target: dict[str, str], size: int, current: Manifest
) -> None:
    outside = Outside(250.0)
    world = World(api, clock, outside)
    world.deploy(Replica(1), Replica(1))
    world.autoscale(1, 4, requests_metric(**target))
    status = world.look()
    assert outside.asked == [("default", "s0-http-web", {"scaledobject.keda.sh/name": "web"})]
    assert world.replicas() == size
    reason = f"external metric s0-http-web({SELECTOR}) above target"
    assert world.events()[0][2] == f"New size: {size}; reason: {reason}"
    assert status["currentMetrics"][0]["external"]["current"] == current


def test_a_metric_that_nobody_has_is_told(api: Api, clock: Clock) -> None:
    world = World(api, clock, Outside(None))
    world.deploy(Replica(1))
    world.autoscale(1, 4, requests_metric(averageValue="100"))
    status, reason, message = condition(world.look(), "ScalingActive")
    assert (status, reason) == ("False", "FailedGetExternalMetric")
    assert message == (
        "the HPA was unable to compute the replica count: unable to get external metric "
        f"default/s0-http-web/{SELECTOR}: no metrics returned from external metrics API"
    )


def test_metrics_of_kinds_that_nobody_serves_are_told(world: World) -> None:
    world.deploy(Replica(1))
    target = {"type": "AverageValue", "averageValue": "1"}
    world.autoscale(1, 4, {"type": "Pods", "pods": {"metric": {"name": "depth"}, "target": target}})
    status, reason, message = condition(world.look(), "ScalingActive")
    assert (status, reason) == ("False", "FailedGetPodsMetric")
    assert "metrics of type Pods are not served by the local cluster" in message


def test_two_over_the_same_pods_do_nothing(world: World) -> None:
    world.deploy(*[Replica(900)] * 2)
    world.autoscale(1, 10)
    world.autoscale(1, 10, name="other")
    world.look("other")
    before = world.replicas()
    status = world.look()
    message = "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
    assert condition(status, "ScalingActive") == ("False", "AmbiguousSelector", message)
    assert world.replicas() == before
    assert ("Warning", "AmbiguousSelector", message) in world.events()
    assert ("Warning", "FailedComputeMetricsReplicas", message) in world.events()
    assert status["currentMetrics"] is None
    world.api.delete("HorizontalPodAutoscaler", "other", "default")
    world.controller.sync(("default", "other"))
    assert condition(world.look(), "ScalingActive")[0] == "True"


def test_others_in_the_namespace_are_no_rivals(world: World) -> None:
    world.deploy(Replica(500))
    world.deploy(Replica(500), name="db", label="db")
    world.autoscale()
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "db"}
    world.autoscale(1, 3, name="db", scaleTargetRef=reference)
    assert condition(world.look("db"), "ScalingActive")[0] == "True"
    assert condition(world.look(), "ScalingActive")[0] == "True"


def test_it_looks_once_a_period_and_first_a_period_after_it_was_made(world: World) -> None:
    world.deploy(Replica(400))
    made = world.autoscale(1, 10, cpu_metric(20))
    assert list(world.controller.keys(Change("ADDED", "HorizontalPodAutoscaler", made))) == [KEY]
    assert world.controller.sync(KEY) == SYNC_SECONDS
    world.clock.advance(SYNC_SECONDS - 1)
    assert world.controller.sync(KEY) == 1.0
    assert world.replicas() == 1
    world.clock.advance(1)
    assert world.controller.sync(KEY) == SYNC_SECONDS
    assert world.replicas() == 2
    assert world.controller.sync(KEY) == SYNC_SECONDS  # its own write brings it here again
    assert world.replicas() == 2


def test_a_clock_that_was_set_back_does_not_stop_it(world: World) -> None:
    world.deploy(Replica(400))
    world.autoscale(1, 10, cpu_metric(20))
    world.controller.sync(KEY)
    world.clock.advance(-3600)
    world.controller.sync(KEY)
    assert world.replicas() == 2


def test_one_made_anew_remembers_nothing(world: World) -> None:
    world.deploy(*[Replica(100)] * 4)
    world.autoscale(1, 10)
    world.look()
    world.api.delete("HorizontalPodAutoscaler", "web", "default")
    world.autoscale(1, 10)
    assert world.controller.sync(KEY) == SYNC_SECONDS
    world.api.delete("HorizontalPodAutoscaler", "web", "default")
    assert world.controller.sync(KEY) is None


class Refusing:
    """An API server that lets nobody scale."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def scale(self, kind: str, name: str, namespace: str, replicas: int, *, manager: str) -> None:
        raise StatusError(403, "Forbidden", "nobody may")


def test_a_refused_scaling_is_told(api: Api, clock: Clock) -> None:
    world = World(Refusing(api), clock)
    world.deploy(Replica(400))
    world.autoscale(1, 10, cpu_metric(20))
    status = world.look()
    assert condition(status, "AbleToScale") == (
        "False",
        "FailedUpdateScale",
        "the HPA controller was unable to update the target scale: nobody may",
    )
    assert (status["currentReplicas"], status["desiredReplicas"], "lastScaleTime" in status) == (1, 0, False)
    ((kind, reason, message),) = world.events()
    assert (kind, reason) == ("Warning", "FailedRescale")
    assert message == f"New size: 2; reason: {BY_UTILIZATION} above target; error: nobody may"
    # What was not done is tried again, and does not count against any policy.
    world.look()
    assert [event["count"] for event in api.list("Event", "default")] == [2]
