"""Replica counts across every change of mode: planned, and done on a cluster."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec
from chalkcompute.service.replicas import HandOver, Remove, Scale, plan
from tests.unit.service.test_service_outlook import fail

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock

SPECS = {
    "fixed": ScalingGroupSpec(name="web", image="i", min_replicas=3, max_replicas=3),
    "hpa": ScalingGroupSpec(name="web", image="i", min_replicas=2, max_replicas=10),
    "keda": ScalingGroupSpec(name="web", image="i", min_replicas=0, max_replicas=10),
}
AUTOSCALERS = {"fixed": None, "hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}


def deployment(replicas: int, *, ours: bool) -> dict[str, Any]:
    entry = {"manager": "chalk", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    return {"metadata": {"managedFields": [entry] if ours else []}, "spec": {"replicas": replicas}}


def scaler(kind: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "web", "uid": "u"}}


def test_nothing_to_do_before_there_is_a_deployment() -> None:
    assert plan(SPECS["hpa"], None, None, None) == ()


def test_from_fixed_the_live_count_is_handed_over() -> None:
    assert plan(SPECS["hpa"], deployment(5, ours=True), None, None) == (HandOver(5),)
    assert plan(SPECS["hpa"], deployment(1, ours=True), None, None) == (HandOver(2),)
    assert plan(SPECS["keda"], deployment(5, ours=True), None, None) == (HandOver(5),)


def test_an_autoscaler_goes_before_another_comes() -> None:
    hpa = scaler("HorizontalPodAutoscaler")
    steps = plan(SPECS["keda"], deployment(5, ours=False), hpa, None)
    assert steps == (Remove("HorizontalPodAutoscaler", "u", ("HorizontalPodAutoscaler",)),)
    assert plan(SPECS["fixed"], deployment(5, ours=False), hpa, None) == steps


def test_from_zero_an_hpa_would_never_lift_it() -> None:
    scaled, hpa = scaler("ScaledObject"), scaler("HorizontalPodAutoscaler")
    steps = plan(SPECS["hpa"], deployment(0, ours=False), hpa, scaled)
    assert steps == (Remove("ScaledObject", "u", ("ScaledObject", "HorizontalPodAutoscaler")), Scale(2))


def test_the_same_mode_touches_nothing() -> None:
    for mode, kind in AUTOSCALERS.items():
        hpa = scaler(str(kind)) if mode != "fixed" else None
        scaled = scaler(str(kind)) if mode == "keda" else None
        assert plan(SPECS[mode], deployment(4, ours=mode == "fixed"), hpa, scaled) == ()


@pytest.mark.parametrize("live", [1, 3, 5, 7])
@pytest.mark.parametrize(("before", "after"), [pair for pair in product(SPECS, SPECS) if pair[0] != pair[1]])
def test_a_deploy_never_lowers_the_live_count(
    client: ChalkClient, cluster: ApiCluster, before: str, after: str, live: int
) -> None:
    cluster.with_keda()
    start = (
        SPECS[before] if before != "fixed" else replace(SPECS["fixed"], min_replicas=live, max_replicas=live)
    )
    client.create_scaling_group(start)
    if before != "fixed":
        scale = {"spec": {"replicas": live}}
        cluster.merge("Deployment", "web", scale, "default", subresource="scale")
    counts: list[int] = []
    watched = _Counting(cluster, counts)
    ChalkClient.over(watched, client._session.settings(), client._session.world()).create_scaling_group(
        SPECS[after]
    )
    asked = 3 if after == "fixed" else max(live, SPECS[after].min_replicas)
    assert counts[-1] == asked
    assert min(counts) >= min(live, asked)
    for mode, kind in AUTOSCALERS.items():
        if kind is not None:
            assert (cluster.seen(kind, "web") is not None) == (mode == after), kind
    assert (cluster.seen("InterceptorRoute", "web") is not None) == (after == "keda")
    assert (cluster.seen("Service", "web-vip") is not None) == (after == "keda")


def test_lifted_from_zero_when_it_leaves_keda(client: ChalkClient, cluster: ApiCluster) -> None:
    cluster.with_keda()
    for after, expected in (("hpa", 2), ("fixed", 3)):
        client.create_scaling_group(SPECS["keda"])
        cluster.merge("Deployment", "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
        client.create_scaling_group(SPECS[after])
        obj = cluster.seen("Deployment", "web")
        assert obj is not None
        assert obj["spec"]["replicas"] == expected


def test_a_replica_that_can_never_start_does_not_hold_up_the_deploy(
    client: ChalkClient, cluster: ApiCluster, clock: Clock
) -> None:
    cluster.with_keda()
    client.create_scaling_group(SPECS["keda"])
    fail(cluster)
    before = clock.seconds
    client.create_scaling_group(replace(SPECS["fixed"], min_replicas=1, max_replicas=1))
    took = clock.seconds - before
    assert cluster.seen("InterceptorRoute", "web") is None
    assert took < 30, "a minute is for replicas that may yet start"


def test_switched_off_by_hand_it_is_lifted_where_no_autoscaler_would(
    client: ChalkClient, cluster: ApiCluster
) -> None:
    client.create_scaling_group(SPECS["hpa"])
    cluster.merge("Deployment", "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
    result = client.create_scaling_group(SPECS["hpa"])
    assert (result.action.value, result.info.desired_replicas) == ("unchanged", 2)


def test_a_new_group_starts_at_its_minimum(client: ChalkClient, cluster: ApiCluster) -> None:
    client.create_scaling_group(SPECS["hpa"])
    obj = cluster.seen("Deployment", "web")
    assert obj is not None
    assert obj["spec"]["replicas"] == 2


def test_an_update_in_the_same_mode_keeps_what_the_autoscaler_set(
    client: ChalkClient, cluster: ApiCluster
) -> None:
    client.create_scaling_group(SPECS["hpa"])
    cluster.merge("Deployment", "web", {"spec": {"replicas": 7}}, "default", subresource="scale")
    client.create_scaling_group(replace(SPECS["hpa"], image="i:2"))
    obj = cluster.seen("Deployment", "web")
    assert obj is not None
    assert obj["spec"]["replicas"] == 7


class _Counting:
    """Notes the count of replicas after every call."""

    def __init__(self, inner: ApiCluster, counts: list[int]) -> None:
        self._inner = inner
        self._counts = counts

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._inner, verb)

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            obj = self._inner.seen("Deployment", "web")
            if obj is not None:
                self._counts.append(obj["spec"]["replicas"])
            return result

        return call if callable(method) else method
