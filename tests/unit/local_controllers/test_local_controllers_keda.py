"""KEDA's controllers over the real API server, with requests that a test makes up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.controller import find, run_controller
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.controllers.keda import (
    InterceptorRouteController,
    RouteMetrics,
    ScaledObjectController,
)
from chalkcompute.local.measures import RouteTraffic
from chalkcompute.local.ports import Api, Change
from tests.unit.local_controllers.waiting import until

Manifest = dict[str, Any]
KEY = ("default", "web")
ADDRESS = "keda-add-ons-http-external-scaler.keda:9090"


class Clock(Protocol):
    now: datetime

    def __call__(self) -> datetime: ...
    def advance(self, seconds: float) -> None: ...


class Requests:
    """A `Traffic` that says what it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.in_flight = 0
        self.rate = 0.0
        self.active_at: datetime | None = None
        self.lag = 0.0
        self.known = True
        self.waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def begin(self) -> None:
        self.in_flight += 1
        self.active_at = self._clock.now

    def end(self) -> None:
        self.in_flight -= 1
        self.active_at = self._clock.now

    def of_route(self, kind: str, namespace: str, name: str) -> RouteTraffic | None:
        if not self.known or (kind, namespace, name) != ("InterceptorRoute", *KEY):
            return None
        seen = self._clock.now - timedelta(seconds=self.lag)
        return RouteTraffic(seen, 10, self.in_flight, 0, 5, self.rate, None, None, self.active_at)

    async def wakes(self) -> AsyncIterator[tuple[str, str]]:
        while True:
            yield await self.waiting.get()


@pytest.fixture
def requests(clock: Clock) -> Requests:
    return Requests(clock)


@pytest.fixture
def keda(api: Api, clock: Clock, requests: Requests) -> ScaledObjectController:
    return ScaledObjectController(api, EventRecorder(api, "keda-operator", clock=clock), clock, requests)


def meta(**more: Any) -> Manifest:
    return {"name": "web", "namespace": "default", **more}


def deployment(replicas: int = 1) -> Manifest:
    container = {"name": "app", "image": "i", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


def route(**metric: Any) -> Manifest:
    return {
        "apiVersion": "http.keda.sh/v1beta1",
        "kind": "InterceptorRoute",
        "metadata": meta(),
        "spec": {
            "target": {"service": "web-vip", "port": 80},
            "scalingMetric": metric or {"concurrency": {"targetValue": 10}},
        },
    }


def scaled_object(annotations: dict[str, str] | None = None, **spec: Any) -> Manifest:
    trigger = {"type": "external-push", "metadata": {"scalerAddress": ADDRESS, "interceptorRoute": "web"}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": meta(**({"annotations": annotations} if annotations else {})),
        "spec": {
            "scaleTargetRef": {"name": "web"},
            "maxReplicaCount": 4,
            "cooldownPeriod": 60,
            "initialCooldownPeriod": 60,
            "triggers": [trigger],
            **spec,
        },
    }


def make(api: Api, *objects: Manifest) -> None:
    for obj in objects:
        api.create(obj, manager="test")


def replicas(api: Api) -> int:
    return int(api.get("Deployment", "web", "default")["spec"]["replicas"])


def status(api: Api) -> Manifest:
    found: Manifest = api.get("ScaledObject", "web", "default").get("status") or {}
    return found


def condition(api: Api, kind: str) -> tuple[str, str, str]:
    found = next(c for c in status(api)["conditions"] if c["type"] == kind)
    return found["status"], found.get("reason", ""), found.get("message", "")


def events(api: Api) -> list[tuple[str, str]]:
    return [(e["reason"], e["message"]) for e in api.list("Event", "default")]


def test_a_new_scaled_object_is_taken_up(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(3), route(), scaled_object())
    assert keda.sync(KEY) == 1
    made = api.get("ScaledObject", "web", "default")
    assert made["metadata"]["finalizers"] == ["finalizer.keda.sh"]
    assert made["metadata"]["labels"] == {"scaledobject.keda.sh/name": "web"}
    assert made["status"] == {
        "scaleTargetKind": "apps/v1.Deployment",
        "scaleTargetGVKR": {
            "group": "apps",
            "version": "v1",
            "kind": "Deployment",
            "resource": "deployments",
        },
        "originalReplicaCount": 3,
        "externalMetricNames": ["s0-http_web_concurrency"],
        "hpaName": "keda-hpa-web",
        "triggersTypes": "external-push",
        "authenticationsTypes": "",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "ScaledObjectReady",
                "message": "ScaledObject is defined correctly and is ready for scaling",
            },
            {
                "type": "Active",
                "status": "False",
                "reason": "ScalerCooldown",
                "message": "Scaler cooling down because triggers are not active",
            },
            {
                "type": "Fallback",
                "status": "False",
                "reason": "NoFallbackFound",
                "message": "No fallbacks are active on this scaled object",
            },
            {"type": "Paused", "status": "Unknown"},
        ],
    }
    autoscaler = api.get("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    assert autoscaler["spec"]["minReplicas"] == 1
    assert autoscaler["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert events(api) == [
        ("KEDAScalersStarted", "Scaler external-push is built"),
        ("KEDAScalersStarted", "Started scalers watch"),
        ("ScaledObjectReady", "ScaledObject is ready for scaling"),
    ]
    assert replicas(api) == 3


def test_looking_again_writes_nothing(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(), route(), scaled_object())
    keda.sync(KEY)
    before = [api.get(kind, name, "default")["metadata"]["resourceVersion"] for kind, name in WRITTEN]
    keda.sync(KEY)
    assert [api.get(kind, name, "default")["metadata"]["resourceVersion"] for kind, name in WRITTEN] == before
    assert len(events(api)) == 3


WRITTEN = [("ScaledObject", "web"), ("HorizontalPodAutoscaler", "keda-hpa-web"), ("Deployment", "web")]


def test_to_zero_and_back(api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests) -> None:
    make(api, deployment(2), route(), scaled_object())
    keda.sync(KEY)
    clock.advance(61)
    assert keda.sync(KEY) == 30
    assert replicas(api) == 0
    assert condition(api, "Active")[:2] == ("False", "ScalerNotActive")
    assert ("KEDAScaleTargetDeactivated", "Deactivated apps/v1.Deployment default/web from 2 to 0") in events(
        api
    )
    requests.begin()
    keda.wake("default", "web")
    assert replicas(api) == 1
    assert condition(api, "Active") == (
        "True",
        "ScalerActive",
        "Scaling is performed because triggers are active",
    )
    assert status(api)["lastActiveTime"] == clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (
        "KEDAScaleTargetActivated",
        "Scaled apps/v1.Deployment default/web from 0 to 1, triggered by externalPushScaler",
    ) in events(api)
    scale = next(
        entry
        for entry in api.get("Deployment", "web", "default")["metadata"]["managedFields"]
        if entry["manager"] == "keda-operator"
    )
    assert scale["subresource"] == "scale"
    clock.advance(3600)  # a request that long keeps it awake
    assert keda.sync(KEY) == 1
    assert replicas(api) == 1
    requests.end()
    clock.advance(59)
    keda.sync(KEY)
    assert replicas(api) == 1
    clock.advance(1)
    keda.sync(KEY)
    assert replicas(api) == 0


def test_a_wake_right_after_falling_asleep_is_heard(
    api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests
) -> None:
    make(api, deployment(), route(), scaled_object())
    clock.advance(61)
    keda.sync(KEY)
    assert replicas(api) == 0
    requests.known = False  # the counts are behind, the request waits all the same
    keda.wake("default", "web")
    assert replicas(api) == 1
    keda.sync(KEY)
    assert replicas(api) == 1


def test_a_wake_is_remembered_though_the_counts_forget_it(
    api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests
) -> None:
    make(api, deployment(0), route(), scaled_object(cooldownPeriod=2))
    keda.wake("default", "web")
    requests.known = False
    clock.advance(3)
    keda.sync(KEY)
    assert replicas(api) == 0
    keda.wake("default", "web")
    clock.advance(1)
    keda.sync(KEY)
    assert replicas(api) == 1


def test_what_goes_on_being_active_is_not_written_every_time(
    api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests
) -> None:
    make(api, deployment(), route(), scaled_object())
    requests.begin()
    keda.sync(KEY)
    since = status(api)["lastActiveTime"]
    clock.advance(9)
    keda.sync(KEY)
    assert status(api)["lastActiveTime"] == since
    clock.advance(1)
    keda.sync(KEY)
    assert status(api)["lastActiveTime"] > since


def test_counts_that_are_behind_put_nothing_to_sleep(
    api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests
) -> None:
    make(api, deployment(), route(), scaled_object())
    requests.begin()
    keda.sync(KEY)
    requests.end()
    clock.advance(60)
    requests.lag = 5
    keda.sync(KEY)
    assert replicas(api) == 1
    requests.lag = 0
    keda.sync(KEY)
    assert replicas(api) == 0


def test_a_wake_is_a_matter_of_its_own_route(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(0), route(), scaled_object())
    keda.wake("default", "other")
    keda.wake("elsewhere", "web")
    assert replicas(api) == 0


def test_a_wake_that_fails_is_no_end(
    api: Api, keda: ScaledObjectController, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(api, deployment(0), route(), scaled_object())

    def refuse(*_: object, **__: object) -> None:
        raise StatusError(409, "Conflict", "not now")

    with monkeypatch.context() as patched:
        patched.setattr(api, "scale", refuse)
        keda.wake("default", "web")
    assert (
        "KEDAScaleTargetActivationFailed",
        "Failed to scaled apps/v1.Deployment default/web from 0 to 1",
    ) in events(api)
    keda.wake("default", "web")
    assert replicas(api) == 1


def test_without_its_route_it_is_not_ready_and_looks_again_when_it_comes(
    api: Api, keda: ScaledObjectController
) -> None:
    make(api, deployment(), scaled_object())
    keda.sync(KEY)
    why = (
        "failed to ensure HPA is correctly created for ScaledObject: unable to get InterceptorRoute: "
        'interceptorroutes.http.keda.sh "web" not found'
    )
    assert condition(api, "Ready") == ("False", "ScaledObjectCheckFailed", why)
    assert condition(api, "Active") == ("Unknown", "UnknownState", "ScaledObject check failed")
    assert api.list("HorizontalPodAutoscaler", "default") == []
    keda.sync(KEY)
    assert events(api) == [("ScaledObjectCheckFailed", why)]
    stored = api.create(route(), manager="test")
    assert list(keda.keys(Change("ADDED", "InterceptorRoute", stored))) == [KEY]
    keda.sync(KEY)
    assert condition(api, "Ready")[:2] == ("True", "ScaledObjectReady")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"triggers": [{"type": "kafka", "metadata": {}}]}, "no scaler found for type: kafka"),
        (
            {"advanced": {"scalingModifiers": {"formula": "a", "target": "1"}}},
            "the local cluster does not evaluate advanced.scalingModifiers",
        ),
    ],
)
def test_what_is_not_served_says_so(api: Api, keda: ScaledObjectController, spec: Manifest, why: str) -> None:
    make(api, deployment(0), route(), scaled_object(**spec))
    keda.sync(KEY)
    ready = condition(api, "Ready")
    assert ready[:2] == ("False", "ScaledObjectCheckFailed")
    assert why in ready[2]
    keda.wake("default", "web")
    assert replicas(api) == 0


def test_without_its_workload_it_is_not_ready(api: Api, keda: ScaledObjectController) -> None:
    make(api, route(), scaled_object())
    keda.sync(KEY)
    assert condition(api, "Ready") == (
        "False",
        "ScaledObjectCheckFailed",
        'ScaledObject doesn\'t have correct scaleTargetRef specification: Deployment.apps "web" not found',
    )
    stored = api.create(deployment(), manager="test")
    assert list(keda.keys(Change("ADDED", "Deployment", stored))) == [KEY]
    keda.sync(KEY)
    assert condition(api, "Ready")[0] == "True"


def test_the_autoscaler_follows_and_comes_back(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(), route(), scaled_object())
    keda.sync(KEY)
    made = api.get("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    api.delete("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    assert list(keda.keys(Change("DELETED", "HorizontalPodAutoscaler", made))) == [KEY]
    keda.sync(KEY)
    again = api.get("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    again["spec"]["maxReplicas"] = 9
    changed = api.update(again, manager="kubectl")
    assert list(keda.keys(Change("MODIFIED", "HorizontalPodAutoscaler", changed, made))) == [KEY]
    keda.sync(KEY)
    back = api.get("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    assert back["spec"]["maxReplicas"] == 4
    told = {**back, "status": {"currentReplicas": 3}}
    assert list(keda.keys(Change("MODIFIED", "HorizontalPodAutoscaler", told, back))) == []


def test_a_renamed_autoscaler_replaces_the_one_before(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(), route(), scaled_object())
    keda.sync(KEY)
    obj = api.get("ScaledObject", "web", "default")
    obj["spec"]["advanced"] = {"horizontalPodAutoscalerConfig": {"name": "web"}}
    api.update(obj, manager="test")
    keda.sync(KEY)
    assert [a["metadata"]["name"] for a in api.list("HorizontalPodAutoscaler", "default")] == ["web"]
    assert status(api)["hpaName"] == "web"


def test_somebody_else_s_autoscaler_of_that_name_stays(api: Api, keda: ScaledObjectController) -> None:
    other = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
            "maxReplicas": 2,
        },
    }
    make(api, deployment(), route(), scaled_object(), other)
    keda.sync(KEY)
    assert 'horizontalpodautoscalers.autoscaling "keda-hpa-web" already exists' in condition(api, "Ready")[2]
    kept = api.get("HorizontalPodAutoscaler", "keda-hpa-web", "default")
    assert "ownerReferences" not in kept["metadata"]


def test_pausing(api: Api, keda: ScaledObjectController, clock: Clock) -> None:
    make(api, deployment(3), route(), scaled_object())
    keda.sync(KEY)
    obj = api.get("ScaledObject", "web", "default")
    obj["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-replicas": "2"}
    api.update(obj, manager="test")
    assert keda.sync(KEY) is None
    assert replicas(api) == 2
    assert status(api)["pausedReplicaCount"] == 2
    assert condition(api, "Paused") == ("True", "ScaledObjectPaused", "ScaledObject is paused")
    assert api.list("HorizontalPodAutoscaler", "default") == []
    clock.advance(3600)
    keda.sync(KEY)
    keda.wake("default", "web")
    assert replicas(api) == 2
    obj = api.get("ScaledObject", "web", "default")
    del obj["metadata"]["annotations"]
    api.update(obj, manager="test")
    keda.sync(KEY)
    assert condition(api, "Paused")[:2] == ("False", "ScaledObjectUnpaused")
    assert "pausedReplicaCount" not in status(api)
    assert len(api.list("HorizontalPodAutoscaler", "default")) == 1


@pytest.mark.parametrize(("value", "paused"), [("true", True), ("yes", True), ("false", False)])
def test_pausing_at_the_count_there_is(
    api: Api, keda: ScaledObjectController, clock: Clock, value: str, paused: bool
) -> None:
    make(api, deployment(3), route(), scaled_object({"autoscaling.keda.sh/paused": value}))
    clock.advance(3600)
    keda.sync(KEY)
    assert replicas(api) == (3 if paused else 0)


def test_a_paused_count_that_is_none(api: Api, keda: ScaledObjectController) -> None:
    make(api, deployment(), route(), scaled_object({"autoscaling.keda.sh/paused-replicas": "few"}))
    keda.sync(KEY)
    assert "`few` is not a number" in condition(api, "Ready")[2]


@pytest.mark.parametrize(("restore", "after"), [(False, 0), (True, 3)])
def test_going(api: Api, keda: ScaledObjectController, clock: Clock, restore: bool, after: int) -> None:
    advanced = {"restoreToOriginalReplicaCount": restore}
    make(api, deployment(3), route(), scaled_object(advanced=advanced))
    clock.advance(61)
    keda.sync(KEY)
    assert replicas(api) == 0
    api.delete("ScaledObject", "web", "default")
    assert find(api, "ScaledObject", KEY) is not None
    keda.sync(KEY)
    assert find(api, "ScaledObject", KEY) is None
    assert replicas(api) == after
    assert ("ScaledObjectDeleted", "ScaledObject was deleted") in events(api)


def test_cpu_alone_never_sleeps(api: Api, keda: ScaledObjectController, clock: Clock) -> None:
    trigger = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    make(api, deployment(2), scaled_object(triggers=[trigger], minReplicaCount=1))
    clock.advance(3600)
    keda.sync(KEY)
    assert replicas(api) == 2
    assert status(api)["resourceMetricNames"] == ["cpu"]
    assert "externalMetricNames" not in status(api)


def test_whom_a_deployment_s_changes_concern(api: Api, keda: ScaledObjectController) -> None:
    make(api, scaled_object(), route())
    old = api.create(deployment(2), manager="test")
    one, none = (
        {**old, "spec": {**old["spec"], "replicas": 1}},
        {**old, "spec": {**old["spec"], "replicas": 0}},
    )
    assert list(keda.keys(Change("MODIFIED", "Deployment", one, old))) == []
    assert list(keda.keys(Change("MODIFIED", "Deployment", none, old))) == [KEY]


def test_scaled_to_zero_by_hand_while_requests_come(
    api: Api, keda: ScaledObjectController, requests: Requests
) -> None:
    make(api, deployment(2), route(), scaled_object())
    requests.begin()
    keda.sync(KEY)
    api.scale("Deployment", "web", "default", 0, manager="kubectl")
    keda.sync(KEY)
    assert replicas(api) == 1


def test_scaled_up_by_hand_while_asleep_sleeps_again(
    api: Api, keda: ScaledObjectController, clock: Clock
) -> None:
    make(api, deployment(), route(), scaled_object())
    clock.advance(61)
    keda.sync(KEY)
    api.scale("Deployment", "web", "default", 3, manager="kubectl")
    keda.sync(KEY)
    assert replicas(api) == 0


# Requests as metrics -----------------------------------------------------------------------------

SELECTOR = {"scaledobject.keda.sh/name": "web"}


def test_external_metrics(api: Api, requests: Requests) -> None:
    both = {"concurrency": {"targetValue": 10}, "requestRate": {"targetValue": 5}}
    make(api, deployment(), route(**both), scaled_object())
    metrics = RouteMetrics(api, requests)
    requests.in_flight, requests.rate = 7, 2.5
    assert metrics.value("default", "s0-http_web_concurrency", SELECTOR) == 7
    assert metrics.value("default", "s0-http_web_rate", SELECTOR) == 2.5
    assert metrics.value("default", "s1-http_web_rate", SELECTOR) is None
    assert metrics.value("default", "s0-http_web_rate", {}) is None
    assert metrics.value("elsewhere", "s0-http_web_rate", SELECTOR) is None
    requests.known = False
    assert metrics.value("default", "s0-http_web_concurrency", SELECTOR) == 0
    assert RouteMetrics(api, None).value("default", "s0-http_web_concurrency", SELECTOR) is None
    api.delete("InterceptorRoute", "web", "default")
    assert metrics.value("default", "s0-http_web_concurrency", SELECTOR) is None


# Both at work ------------------------------------------------------------------------------------


def test_the_route_says_that_it_is_ready(api: Api, clock: Clock) -> None:
    controller = InterceptorRouteController(api, clock)
    make(api, route())
    controller.sync(KEY)
    ready = api.get("InterceptorRoute", "web", "default")["status"]["conditions"]
    since = clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ready == [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": since,
            "reason": "Reconciled",
            "message": "InterceptorRoute reconciled",
        }
    ]
    changed = api.get("InterceptorRoute", "web", "default")
    changed["spec"]["timeouts"] = {"readiness": "3s"}
    api.update(changed, manager="test")
    clock.advance(60)
    controller.sync(KEY)
    (ready,) = api.get("InterceptorRoute", "web", "default")["status"]["conditions"]
    assert (ready["observedGeneration"], ready["lastTransitionTime"]) == (2, since)


def test_running_a_wake_reaches_the_workload(
    api: Api, keda: ScaledObjectController, clock: Clock, requests: Requests
) -> None:
    async def scenario() -> None:
        tasks = [
            asyncio.create_task(run_controller(api, keda)),
            asyncio.create_task(keda.follow_wakes()),
        ]
        try:
            make(api, deployment(0), route(), scaled_object())
            await until(lambda: status(api).get("hpaName") == "keda-hpa-web")
            requests.begin()
            requests.waiting.put_nowait(("default", "web"))
            await until(lambda: replicas(api) == 1)
            requests.end()
            clock.advance(61)
            await until(lambda: replicas(api) == 0)
            api.delete("ScaledObject", "web", "default")
            await until(lambda: find(api, "ScaledObject", KEY) is None)
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    asyncio.run(scenario())
