"""KEDA's kinds as the API serves them: validity, defaults, tables, and its webhook's refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.tables import TablePrinter
from chalkcompute.local.api.writes import APPLY_PATCH, WriteOptions
from chalkcompute.local.apimachinery.kinds import by_api_version, by_kind
from chalkcompute.local.apimachinery.status import StatusError

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"
DENIED = 'admission webhook "vscaledobject.kb.io" denied the request: '
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def scaled_object(name: str = "web", **spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "scaleTargetRef": {"name": "web"},
        "minReplicaCount": 0,
        "triggers": [{"type": "external-push", "metadata": {"interceptorRoute": name}}],
        **spec,
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "default"},
        "spec": body,
    }


def route(**spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "target": {"service": "web-vip", "portName": "http"},
        "scalingMetric": {"concurrency": {"targetValue": 100}},
        **spec,
    }
    return {
        "apiVersion": "http.keda.sh/v1beta1",
        "kind": "InterceptorRoute",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": body,
    }


def deployment(**resources: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "python:3.12", "resources": resources}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


def autoscaler(name: str = "mine", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 3,
        },
    }


def made(api: ResourceApi, obj: dict[str, Any]) -> dict[str, Any]:
    return api.create(obj, manager="test")


def refusal(api: ResourceApi, obj: dict[str, Any]) -> StatusError:
    with pytest.raises(StatusError) as failure:
        made(api, obj)
    return failure.value


# The kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["keda", "keda-all-knobs"])
def test_our_own_manifests_are_accepted_as_they_are(api: ResourceApi, name: str) -> None:
    for namespace in ("ml", "keda"):
        made(api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    objects = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text("utf-8")))
    seen = set()
    for obj in objects * 2:
        kind = by_api_version(obj["apiVersion"], obj["kind"])
        assert kind is not None
        metadata = obj["metadata"]
        options = WriteOptions(
            manager="kubectl", api_version=obj["apiVersion"], field_validation="Strict", force=True
        )
        namespace = metadata.get("namespace", "")
        body = copy.deepcopy(obj)
        written = api.patch(kind, namespace, metadata["name"], body, APPLY_PATCH, options)
        assert written.warnings == ()
        seen.add(obj["kind"])
    assert {"ScaledObject", "InterceptorRoute", "ReferenceGrant", "Service"} <= seen
    stored = api.get("ScaledObject", "inference", "ml")
    assert stored["metadata"]["generation"] == 1
    assert stored["spec"] == next(o for o in objects if o["kind"] == "ScaledObject")["spec"]
    assert api.get("Service", "inference-vip", "ml")["spec"]["clusterIP"].startswith("10.96.")


def test_what_the_definitions_default(api: ResourceApi) -> None:
    rate = {"requestRate": {"targetValue": 5}}
    static = [{"rules": [{"hosts": ["a"]}], "response": {"statusCode": 503}}]
    stored = made(api, route(scalingMetric=rate, staticRoutes=static))
    assert stored["spec"]["scalingMetric"]["requestRate"] == {
        "targetValue": 5,
        "window": "1m",
        "granularity": "1s",
    }
    assert stored["spec"]["staticRoutes"][0]["responseMode"] == "WhenUnavailable"
    fallback = {"failureThreshold": 3, "replicas": 2}
    assert made(api, scaled_object(fallback=fallback))["spec"]["fallback"]["behavior"] == "static"


PORT = "exactly one of 'port' or 'portName' must be set"


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        (
            {"scalingMetric": {}},
            "spec.scalingMetric",
            "at least one of 'concurrency' or 'requestRate' must be set",
        ),
        (
            {"scalingMetric": {"concurrency": {"targetValue": 0}}},
            "spec.scalingMetric.concurrency",
            "equal to 1",
        ),
        ({"target": {"service": "a"}}, "spec.target", PORT),
        ({"target": {"service": "a", "port": 80, "portName": "http"}}, "spec.target", PORT),
        ({"target": {"service": "a", "port": 70000}}, "spec.target.port", "less than or equal to 65535"),
        ({"target": {"service": "", "port": 80}}, "spec.target.service", "at least 1 chars long"),
        ({"target": {"port": 80}}, "spec.target.service", "Required value"),
        ({"coldStart": {}}, "spec.coldStart", "at least one of 'fallback' or 'placeholder' must be set"),
        (
            {"coldStart": {"fallback": {"service": {"name": "a"}}}},
            "spec.coldStart.fallback.service",
            PORT,
        ),
        (
            {"coldStart": {"placeholder": {"response": {"body": "a", "bodyFromConfigMap": {"name": "b"}}}}},
            "spec.coldStart.placeholder.response",
            "at most one of 'body' or 'bodyFromConfigMap' may be set",
        ),
    ],
)
def test_what_an_interceptor_route_must_not_be(
    api: ResourceApi, spec: dict[str, Any], field: str, why: str
) -> None:
    failure = refusal(api, route(**spec))
    assert (failure.code, failure.reason) == (422, "Invalid")
    assert failure.message.startswith('InterceptorRoute.http.keda.sh "web" is invalid: ')
    assert [cause for cause in failure.causes if cause.field.startswith(field) and why in cause.message]


def test_unknown_fields_are_refused(api: ResourceApi) -> None:
    failure = refusal(api, scaled_object(minReplicas=0))
    assert (failure.code, failure.reason) == (400, "BadRequest")
    assert 'unknown field "spec.minReplicas"' in failure.message


def test_columns_are_those_of_the_definitions() -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Active", "status": "False"}]
    obj = scaled_object(maxReplicaCount=4) | {
        "status": {"scaleTargetKind": "apps/v1.Deployment", "conditions": conditions}
    }
    obj["metadata"]["creationTimestamp"] = "2026-01-01T11:55:00Z"
    table = TablePrinter(by_kind("ScaledObject"), lambda: NOW).table([obj], "7")
    names = [column["name"] for column in table["columnDefinitions"]]
    assert dict(zip(names, table["rows"][0]["cells"], strict=True)) == {
        "Name": "web",
        "ScaleTargetKind": "apps/v1.Deployment",
        "ScaleTargetName": "web",
        "Min": 0,
        "Max": 4,
        "Ready": "True",
        "Active": "False",
        "Fallback": None,
        "Paused": None,
        "Triggers": None,
        "Authentications": None,
        "Age": "5m",
    }


# The webhook -------------------------------------------------------------------------------------


def test_a_workload_that_an_autoscaler_has_is_refused(api: ResourceApi) -> None:
    made(api, autoscaler())
    failure = refusal(api, scaled_object())
    assert (failure.code, failure.reason) == (403, "Forbidden")
    assert failure.message == (
        f"{DENIED}the workload 'web' of type 'apps/v1.Deployment' is already managed by the hpa 'mine'"
    )


def test_dry_run_says_the_same(api: ResourceApi) -> None:
    made(api, autoscaler())
    kind = by_kind("ScaledObject")
    options = WriteOptions(manager="test", api_version=kind.api_version, dry_run=True)
    with pytest.raises(StatusError, match="already managed by the hpa 'mine'"):
        api.post(kind, "default", scaled_object(), options)


def test_dry_run_does_not_ask_for_the_workload(api: ResourceApi) -> None:
    triggers = [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}]
    kind = by_kind("ScaledObject")
    options = WriteOptions(manager="test", api_version=kind.api_version, dry_run=True)
    api.post(kind, "default", scaled_object(triggers=triggers, minReplicaCount=1), options)
    assert refusal(api, scaled_object(triggers=triggers, minReplicaCount=1)).code == 404


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"validations.keda.sh/hpa-ownership": "false"}},
        {
            "ownerReferences": [
                {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "u"}
            ]
        },
    ],
    ids=["told not to look", "its own"],
)
def test_an_autoscaler_that_does_not_count(api: ResourceApi, metadata: dict[str, Any]) -> None:
    made(api, autoscaler(**metadata))
    made(api, scaled_object())


def test_an_autoscaler_may_be_taken_over(api: ResourceApi) -> None:
    made(api, autoscaler())
    taking = scaled_object()
    taking["metadata"]["annotations"] = {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
    assert "must be specified by name in advanced settings" in refusal(api, taking).message
    taking["spec"]["advanced"] = {"horizontalPodAutoscalerConfig": {"name": "mine"}}
    made(api, taking)


def test_a_workload_has_one_scaled_object(api: ResourceApi) -> None:
    made(api, scaled_object())
    failure = refusal(api, scaled_object("other"))
    assert failure.message == (
        f"{DENIED}the workload 'web' of type 'apps/v1.Deployment' is already managed by the ScaledObject "
        "'web'"
    )


def test_an_autoscaler_name_has_one_scaled_object(api: ResourceApi) -> None:
    made(api, scaled_object(advanced={"horizontalPodAutoscalerConfig": {"name": "keda-hpa-other"}}))
    failure = refusal(api, scaled_object("other", scaleTargetRef={"name": "elsewhere"}))
    assert failure.message == f"{DENIED}the HPA 'keda-hpa-other' is already managed by the ScaledObject 'web'"


CPU = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
HTTP = {"type": "external-push", "metadata": {"interceptorRoute": "web"}}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"triggers": []}, "no triggers defined in the ScaledObject/ScaledJob"),
        (
            {"triggers": [CPU]},
            "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in "
            "this case)",
        ),
        (
            {"triggers": [HTTP, {"type": "memory", "metadata": {"value": "70"}}]},
            "the scaledobject has a memory trigger but the container app doesn't have the memory request "
            "defined",
        ),
        (
            {"minReplicaCount": 3, "maxReplicaCount": 2},
            "MinReplicaCount=3 must be less than MaxReplicaCount=2",
        ),
        ({"minReplicaCount": 101}, "MinReplicaCount=101 must be less than MaxReplicaCount=100"),
        (
            {"minReplicaCount": 2, "idleReplicaCount": 2},
            "IdleReplicaCount=2 must be less than MinReplicaCount=2",
        ),
        (
            {"fallback": {"failureThreshold": -1, "replicas": 2}},
            "FailureThreshold=-1 & Replicas=2 must both be greater than or equal to 0",
        ),
        (
            {
                "triggers": [{**HTTP, "metricType": "Value"}],
                "fallback": {"failureThreshold": 1, "replicas": 2},
            },
            "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the "
            "fallback to be enabled",
        ),
        (
            {"triggers": [{**HTTP, "name": "a"}, {**HTTP, "name": "a"}]},
            'triggerName "a" is defined multiple times in the ScaledObject/ScaledJob, but it must be unique',
        ),
        (
            {"triggers": [HTTP, {**CPU, "useCachedMetrics": True}]},
            'property "useCachedMetrics" is not supported for "cpu" scaler',
        ),
        (
            {"scaleTargetRef": {"kind": "Rollout", "name": "web"}},
            'no matches for kind "Rollout" in version "apps/v1"',
        ),
        (
            {"advanced": {"horizontalPodAutoscalerConfig": {"name": "n" * 64}}},
            f'HPA name "{"n" * 64}" derived from scaledobject is 64 characters long; must be no more than 63 '
            "characters; set spec.advanced.horizontalPodAutoscalerConfig.name to a shorter name or shorten "
            "the scaledobject name",
        ),
    ],
)
def test_what_the_webhook_refuses(api: ResourceApi, spec: dict[str, Any], why: str) -> None:
    made(api, deployment(requests={"cpu": "100m"}))
    assert refusal(api, scaled_object(**spec)).message == DENIED + why


@pytest.mark.parametrize(
    "spec",
    [
        {"triggers": [CPU], "minReplicaCount": 1},
        {"triggers": [CPU, HTTP]},
        {"minReplicaCount": 2, "idleReplicaCount": 0},
        {"minReplicaCount": 0, "maxReplicaCount": 1},
    ],
)
def test_what_the_webhook_lets_pass(api: ResourceApi, spec: dict[str, Any]) -> None:
    made(api, deployment(limits={"cpu": "1"}))
    made(api, scaled_object(**spec))


def test_updates_are_asked_about_but_not_the_removal_of_a_finalizer(api: ResourceApi) -> None:
    stored = made(
        api, scaled_object() | {"metadata": {**scaled_object()["metadata"], "finalizers": ["a.b/c"]}}
    )
    made(api, autoscaler())
    changed = copy.deepcopy(stored)
    changed["spec"]["maxReplicaCount"] = 7
    with pytest.raises(StatusError, match="already managed by the hpa 'mine'"):
        api.update(changed, manager="test")
    status = api.update(stored | {"status": {"hpaName": "x"}}, manager="test", subresource="status")
    status["metadata"]["finalizers"] = []
    assert "finalizers" not in api.update(status, manager="test")["metadata"]


@pytest.mark.parametrize("kind", ["ScaledObject", "InterceptorRoute"])
def test_they_are_discovered(kind: str, cluster: Any) -> None:
    known = by_kind(kind)
    call: Callable[..., Any] = cluster.call
    resources = call("GET", f"/apis/{known.api_version}").body["resources"]
    assert {"name": known.plural, "kind": kind}.items() <= resources[0].items()
    assert [r["name"] for r in resources] == [known.plural, f"{known.plural}/status"]
    document = call("GET", f"/openapi/v3/apis/{known.api_version}").body
    name = ".".join([*reversed(known.group.split(".")), known.version, kind])
    assert "spec" in document["components"]["schemas"][name]["properties"]
