"""Which HorizontalPodAutoscalers are refused with 422, and in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.validation import validate_update
from tests.unit.apimachinery.storing import stored

KIND = "HorizontalPodAutoscaler"
UTILIZATION = {"type": "Utilization", "averageUtilization": 50}
AVERAGE = {"type": "AverageValue", "averageValue": "10"}
ONLY = "Forbidden: must populate the given metric source only"
POPULATE = "Required value: must populate information for the given metric source"
TYPES = '"ContainerResource", "External", "Object", "Pods", "Resource"'
LABEL = "a lowercase RFC 1123 label must consist of"


def hpa(*metrics: dict[str, Any], **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {"scaleTargetRef": target, "maxReplicas": 2, **spec}
    if metrics:
        body["metrics"] = list(metrics)
    return {"apiVersion": "autoscaling/v2", "kind": KIND, "metadata": {"name": "h"}, "spec": body}


def resource(**target: Any) -> dict[str, Any]:
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def container(name: str, of: str, **target: Any) -> dict[str, Any]:
    source = {"name": name, "container": of, "target": target or UTILIZATION}
    return {"type": "ContainerResource", "containerResource": source}


def measured(kind: str, name: str = "depth", **target: Any) -> dict[str, Any]:
    """A metric of type External or Pods."""
    return {"type": kind, kind.lower(): {"metric": {"name": name}, "target": target or AVERAGE}}


def of_object(**described: Any) -> dict[str, Any]:
    source = {"describedObject": described, "metric": {"name": "depth"}, "target": AVERAGE}
    return {"type": "Object", "object": source}


def refusals(body: dict[str, Any]) -> list[str]:
    """What is wrong, each as an API server tells of it, without what every field begins with."""
    with pytest.raises(StatusError) as refused:
        stored(body)
    assert refused.value.code == 422
    return [
        f"{cause.field}: {cause.message}".removeprefix("spec.").removeprefix("metrics[0].")
        for cause in refused.value.causes
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            resource(averageUtilization=50),
            [
                "resource.target.type: Required value: must specify a metric target type",
                'resource.target.type: Invalid value: "": must be either Utilization, Value, or AverageValue',
            ],
        ),
        (
            resource(type="Foo", averageUtilization=50),
            [
                'resource.target.type: Invalid value: "Foo": '
                "must be either Utilization, Value, or AverageValue"
            ],
        ),
        (
            resource(type="Utilization"),
            [
                "resource.target.averageUtilization: Required value: "
                "must set either a target raw value or a target utilization"
            ],
        ),
        (
            resource(**UTILIZATION, averageValue="1"),
            [
                "resource.target.averageValue: Forbidden: "
                "may not set both a target raw value and a target utilization"
            ],
        ),
        ({**resource(**UTILIZATION), "pods": measured("Pods")["pods"]}, [f"pods: {ONLY}"]),
        ({**measured("External"), "type": "Resource"}, [f"resource: {POPULATE}"]),
        (
            {**measured("External"), "type": "Resource", "pods": measured("Pods")["pods"]},
            [f"resource: {POPULATE}", f"external: {ONLY}", f"pods: {ONLY}"],
        ),
        ({"type": "Resource"}, [f"resource: {POPULATE}"]),
        (
            {**resource(**UTILIZATION), "type": ""},
            [
                "type: Required value: must specify a metric source type",
                f'type: Unsupported value: "": supported values: {TYPES}',
            ],
        ),
        (
            {**resource(**UTILIZATION), "type": "Odd"},
            [f'type: Unsupported value: "Odd": supported values: {TYPES}'],
        ),
        (
            measured("Pods", type="Value", value="1"),
            ["pods.target.averageValue: Required value: must specify a positive target averageValue"],
        ),
        (
            measured("Pods", "a/b%c"),
            [
                "pods.metric.name: Invalid value: \"a/b%c\": may not contain '/'",
                "pods.metric.name: Invalid value: \"a/b%c\": may not contain '%'",
            ],
        ),
        (
            container("foo", "app"),
            [
                'containerResource.name: Invalid value: "foo": '
                "must be a standard resource type or fully qualified",
                'containerResource.name: Invalid value: "foo": must be a standard resource for containers',
            ],
        ),
        (
            container("pods", "app"),
            ['containerResource.name: Invalid value: "pods": must be a standard resource for containers'],
        ),
        (
            container("requests.example.com/gpu", "app"),
            [
                'containerResource.name: Invalid value: "requests.example.com/gpu": '
                "doesn't follow extended resource name standard"
            ],
        ),
        (
            container("", "", type="Utilization", averageUtilization=0),
            [
                "containerResource.name: Required value: must specify a resource name",
                "containerResource.container: Required value: must specify a container",
                "containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ],
        ),
        (
            of_object(),
            [
                "object.describedObject.kind: Required value",
                "object.describedObject.name: Required value",
            ],
        ),
        (
            of_object(apiVersion="a/b/c", kind="Service", name=".."),
            [
                "object.describedObject.name: Invalid value: \"..\": may not be '..'",
                'object.describedObject.apiVersion: Invalid value: "a/b/c": '
                "unexpected GroupVersion string: a/b/c",
            ],
        ),
        (
            measured("External", type="AverageValue", averageValue="0"),
            ['external.target.averageValue: Invalid value: "0": must be positive'],
        ),
        (
            measured("External", type="Value", value="-1"),
            ['external.target.value: Invalid value: "-1": must be positive'],
        ),
        (
            measured("External", type="Value"),
            [
                "external.target.averageValue: Required value: "
                "must set either a target value for metric or a per-pod target"
            ],
        ),
        (
            measured("External", type="Value", value="1", averageValue="1"),
            [
                "external.target.value: Forbidden: "
                "may not set both a target value for metric and a per-pod target"
            ],
        ),
        (
            measured("External", ""),
            ["external.metric.name: Required value: must specify a metric name"],
        ),
    ],
)
def test_metrics_that_are_refused(metric: dict[str, Any], expected: list[str]) -> None:
    assert refusals(hpa(metric)) == expected


def test_a_container_is_named_by_a_dns_label() -> None:
    (told,) = refusals(hpa(container("cpu", "A_b")))
    assert told.startswith(f'containerResource.container: Invalid value: "A_b": {LABEL}')


def test_an_object_is_measured_against_either_value() -> None:
    metric = of_object(kind="Service", name="web")
    metric["object"]["target"] = {"type": "Value"}
    assert refusals(hpa(metric)) == [
        "object.target.averageValue: Required value: must set either a target value or averageValue"
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"maxReplicas": 0},
            [
                "maxReplicas: Invalid value: 0: must be greater than 0",
                "maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a/b"}},
            ["scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            {"scaleTargetRef": {"apiVersion": "a/b/c", "kind": "Deployment", "name": "web"}},
            ['scaleTargetRef.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'],
        ),
        (
            {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
            ['scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group'],
        ),
        (
            {"behavior": {"scaleUp": {"policies": []}}},
            ["behavior.scaleUp.policies: Required value: must specify at least one Policy"],
        ),
        (
            {"behavior": {"scaleUp": {"tolerance": "-0.1"}}},
            ['behavior.scaleUp.tolerance: Invalid value: "-100m": must be greater than or equal to 0'],
        ),
        (
            {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}},
            [
                "behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: "
                "must be less than or equal to 3600"
            ],
        ),
    ],
)
def test_autoscalers_that_are_refused(spec: dict[str, Any], expected: list[str]) -> None:
    assert refusals(hpa(**spec)) == expected


@pytest.mark.parametrize(
    "body",
    [
        hpa(minReplicas=1),
        hpa(measured("External", averageValue="1500m", type="AverageValue")),
        hpa(measured("Pods"), of_object(kind="Service", name="web")),
        hpa(container("cpu", "app"), container("hugepages-2Mi", "app"), container("example.com/gpu", "app")),
        hpa(behavior={"scaleUp": {"tolerance": "0"}, "scaleDown": {}}),
        hpa(scaleTargetRef={"apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "web"}),
        hpa(scaleTargetRef={"apiVersion": "v1", "kind": "ReplicationController", "name": "web"}),
    ],
)
def test_autoscalers_that_are_accepted_may_change(body: dict[str, Any]) -> None:
    old = stored(body)
    new = copy.deepcopy(old)
    new["spec"]["maxReplicas"] = 9
    validate_update(by_kind(KIND), new, old)


def test_an_api_version_from_before_it_was_checked_may_stay() -> None:
    old = stored(hpa(of_object(kind="Service", name="web")))
    old["spec"]["scaleTargetRef"]["apiVersion"] = "a/b/c"
    old["spec"]["metrics"][0]["object"]["describedObject"]["apiVersion"] = "a/b/c"
    new = copy.deepcopy(old)
    new["spec"]["maxReplicas"] = 9
    validate_update(by_kind(KIND), new, old)
    new["spec"]["scaleTargetRef"]["kind"] = "ReplicaSet"
    with pytest.raises(StatusError) as refused:
        validate_update(by_kind(KIND), new, old)
    assert [cause.field for cause in refused.value.causes] == ["spec.scaleTargetRef.apiVersion"]
