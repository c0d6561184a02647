"""`spec.resources` of a Pod: what is filled in and refused, and what it comes to beside its containers."""

from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.local.apimachinery.pod_resources import (
    container_totals,
    effective_limits,
    pod_requests,
    shared_limits,
)
from chalkcompute.local.apimachinery.quantity import total_quantity
from chalkcompute.local.apimachinery.status import StatusError
from tests.unit.apimachinery.storing import stored

Amounts = dict[str, str]


def a_container(
    name: str = "a", requests: Amounts | None = None, limits: Amounts | None = None, **more: Any
) -> dict[str, Any]:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"name": name, "image": "i", "resources": resources, **more}


def a_pod(
    *containers: dict[str, Any], init: list[dict[str, Any]] | None = None, **resources: Amounts
) -> dict[str, Any]:
    spec = {"resources": resources, "containers": list(containers or [a_container()])}
    if init:
        spec["initContainers"] = init
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def refusals(pod: dict[str, Any]) -> list[str]:
    with pytest.raises(StatusError) as refused:
        stored(pod)
    return [f"{cause.field}: {cause.message}" for cause in refused.value.causes]


@pytest.mark.parametrize(
    ("pod", "wanted"),
    [
        (
            a_pod(requests={"cpu": "4000m"}, limits={"cpu": "100m"}),
            'spec.resources.requests: Invalid value: "4": must be less than or equal to cpu limit of 100m',
        ),
        (
            a_pod(limits={"nvidia.com/gpu": "1"}, requests={"nvidia.com/gpu": "1"}),
            'spec.resources.limits[nvidia.com/gpu]: Unsupported value: "nvidia.com/gpu": '
            'supported values: "cpu", "hugepages-", "memory"',
        ),
        (
            a_pod(requests={"ephemeral-storage": "1Gi"}),
            'spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": '
            'supported values: "cpu", "hugepages-", "memory"',
        ),
        (
            a_pod(requests={"cpus": "1"}),
            'spec.resources.requests[cpus]: Invalid value: "cpus": '
            "must be a standard resource type or fully qualified",
        ),
        (
            a_pod(limits={"memory": "-1"}),
            'spec.resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            a_pod(
                a_container(requests={"cpu": "1"}), a_container("b", {"cpu": "500m"}), requests={"cpu": "1"}
            ),
            'spec.resources.requests[cpu]: Invalid value: "1": '
            "must be greater than or equal to aggregate container requests of 1500m",
        ),
        (
            a_pod(a_container(), a_container("b", limits={"memory": "2Gi"}), limits={"memory": "1Gi"}),
            'spec.resources.containers[1][memory].limits: Invalid value: "2Gi": '
            "must be less than or equal to pod limits of 1Gi",
        ),
    ],
)
def test_what_a_whole_pod_may_not_say(pod: dict[str, Any], wanted: str) -> None:
    assert wanted in refusals(pod)


def test_limits_of_containers_may_be_more_than_the_pods_together() -> None:
    limits = {"memory": "1Gi"}
    each = [a_container(name, {"memory": "1Mi"}, limits) for name in "ab"]
    assert stored(a_pod(*each, limits=limits))["spec"]["resources"]["limits"] == limits


def test_templates_are_looked_at_too() -> None:
    spec = a_pod(requests={"cpu": "2"}, limits={"cpu": "1"})["spec"]
    template = {"metadata": {"labels": {"app": "x"}}, "spec": spec}
    body = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    found = refusals({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": body})
    assert [why.partition(":")[0] for why in found] == ["spec.template.spec.resources.requests"]


@pytest.mark.parametrize(
    ("pod", "wanted"),
    [
        (a_pod(limits={"cpu": "1", "memory": "64Mi"}), {"cpu": "1", "memory": "64Mi"}),
        (
            a_pod(
                a_container(requests={"cpu": "100m"}),
                a_container("b", limits={"cpu": "200m"}),
                limits={"cpu": "1"},
            ),
            {"cpu": "300m"},
        ),
        (a_pod(limits={"cpu": "1"}, requests={"cpu": "500m"}), {"cpu": "500m"}),
        (a_pod(a_container(requests={"cpu": "1"}), requests={"memory": "1Gi"}), {"memory": "1Gi"}),
    ],
    ids=["as its limits", "as its containers", "as it says", "without limits"],
)
def test_requests_of_a_whole_pod_are_filled_in(pod: dict[str, Any], wanted: Amounts) -> None:
    assert stored(pod)["spec"]["resources"]["requests"] == wanted


def test_huge_pages_of_containers_become_the_pods() -> None:
    pages = {"hugepages-2Mi": "4Mi", "cpu": "1"}
    found = stored(a_pod(a_container(limits=pages), limits={"cpu": "2"}))["spec"]["resources"]
    assert found == {
        "limits": {"cpu": "2", "hugepages-2Mi": "4Mi"},
        "requests": {"cpu": "1", "hugepages-2Mi": "4Mi"},
    }


def test_a_pod_asks_for_what_it_says_as_a_whole() -> None:
    spec = a_pod(a_container(requests={"cpu": "1", "nvidia.com/gpu": "1"}), requests={"cpu": "3"})["spec"]
    assert pod_requests(spec) == {"cpu": "3", "nvidia.com/gpu": "1"}


def test_sidecars_count_beside_all_that_comes_after_them() -> None:
    sidecar = a_container("s", {"cpu": "2"}, restartPolicy="Always")
    init = [a_container("early", {"cpu": "7"}), sidecar, a_container("late", {"cpu": "4"})]
    spec = a_pod(a_container(requests={"cpu": "4500m"}), init=init)["spec"]
    assert container_totals(spec, "requests") == {"cpu": "7"}
    spec["initContainers"] = init[1:]
    assert container_totals(spec, "requests") == {"cpu": "6500m"}


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({}, {"cpu": "1", "memory": "1Gi"}),
        ({"cpu": "500m"}, {"cpu": "500m", "memory": "1Gi"}),
        ({"cpu": "2", "memory": "0"}, {"cpu": "1", "memory": "1Gi"}),
        ({"nvidia.com/gpu": "1"}, {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}),
    ],
)
def test_a_container_has_the_lesser_limit(own: Amounts, wanted: Amounts) -> None:
    spec = a_pod(a_container(limits=own), limits={"cpu": "1", "memory": "1Gi"})["spec"]
    assert effective_limits(spec, spec["containers"][0]) == wanted


def test_a_limit_of_zero_limits_nothing() -> None:
    spec = a_pod(a_container(limits={"cpu": "1"}), limits={"cpu": "0", "memory": "0"})["spec"]
    assert effective_limits(spec, spec["containers"][0]) == {"cpu": "1"}
    assert shared_limits(spec) == []


@pytest.mark.parametrize(
    ("containers", "init", "wanted"),
    [
        ([a_container()], [], []),
        ([a_container()], [a_container("i")], []),
        ([a_container()], [a_container("s", restartPolicy="Always")], ["memory"]),
        ([a_container(), a_container("b")], [], ["memory"]),
        ([a_container(limits={"memory": "1Gi"}), a_container("b", limits={"memory": "1Gi"})], [], []),
    ],
    ids=["one", "one after another", "a sidecar", "two", "two with less"],
)
def test_limits_that_several_containers_share(
    containers: list[dict[str, Any]], init: list[dict[str, Any]], wanted: list[str]
) -> None:
    spec = a_pod(*containers, init=init, limits={"memory": "2Gi", "hugepages-2Mi": "4Mi"})["spec"]
    assert shared_limits(spec) == wanted


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["64Mi", "64Mi"], "128Mi"),
        (["0", "1Gi", "1000M"], "2073741824"),
        (["1", "500m"], "1500m"),
        (["1000M", "1Gi"], "2073741824"),
        ([], "0"),
    ],
)
def test_sums_keep_the_form_of_the_first(texts: list[str], wanted: str) -> None:
    assert total_quantity(texts) == wanted
