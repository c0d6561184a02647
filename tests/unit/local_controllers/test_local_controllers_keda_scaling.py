"""Between zero and one, and what triggers come to: tables and properties of the pure parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.controllers.keda_autoscaler import (
    KEDA_VERSION,
    autoscaler,
    autoscaler_name,
    brought_up_to_date,
)
from chalkcompute.local.controllers.keda_scaling import (
    ACTIVE,
    COOLDOWN,
    NOT_ACTIVE,
    Scaling,
    ScalingRules,
    decide,
    scaling_rules,
)
from chalkcompute.local.controllers.keda_triggers import (
    TriggerError,
    read_triggers,
    route_names,
    route_of_metric,
)
from tests.properties import examples

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
PROPERTY = examples(200)
Manifest = dict[str, Any]


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def decided(
    rules: ScalingRules, current: int, *, active: bool = False, idle_for: float | None = None, age: float = 0
) -> Scaling:
    return decide(
        rules,
        current,
        active=active,
        last_active=None if idle_for is None else ago(idle_for),
        created=ago(age),
        seen=NOW,
    )


QUICK = ScalingRules(cooldown=10, initial_cooldown=20, polling=30)


@pytest.mark.parametrize(
    ("rules", "current", "facts", "replicas", "condition", "again"),
    [
        (QUICK, 0, {"active": True}, 1, ACTIVE, 1),
        (QUICK, 1, {"active": True}, None, ACTIVE, 1),
        (QUICK, 7, {"active": True, "idle_for": 1000}, None, ACTIVE, 1),
        (QUICK, 0, {"idle_for": 1000}, None, NOT_ACTIVE, 30),
        (QUICK, 1, {"idle_for": 3}, None, COOLDOWN, 1),
        (QUICK, 1, {"idle_for": 9.75}, None, COOLDOWN, 0.25),
        (QUICK, 1, {"idle_for": 10}, 0, NOT_ACTIVE, 30),
        (QUICK, 7, {"idle_for": 11}, 0, NOT_ACTIVE, 30),
        (QUICK, 3, {"age": 11}, None, COOLDOWN, 1),
        (QUICK, 3, {"age": 20}, 0, NOT_ACTIVE, 30),
        (QUICK, 3, {"age": 30, "idle_for": 5}, None, COOLDOWN, 1),
        (ScalingRules(minimum=2), 0, {"active": True}, 2, ACTIVE, 1),
        (ScalingRules(minimum=2), 0, {}, 2, NOT_ACTIVE, 30),
        (ScalingRules(minimum=2), 5, {"idle_for": 9999}, None, NOT_ACTIVE, 30),
        (ScalingRules(minimum=3, idle=1), 3, {"idle_for": 9999}, 1, NOT_ACTIVE, 30),
        (ScalingRules(minimum=3, idle=1), 1, {"idle_for": 9999}, None, NOT_ACTIVE, 30),
        (ScalingRules(minimum=3, idle=1), 1, {"active": True}, 3, ACTIVE, 1),
        (ScalingRules(minimum=3, idle=0), 0, {"active": True}, 3, ACTIVE, 1),
        (ScalingRules(scale_in=False), 3, {"idle_for": 9999}, None, NOT_ACTIVE, 30),
        (ScalingRules(scale_out=False), 0, {"active": True}, None, ACTIVE, 1),
    ],
)
def test_decisions(
    rules: ScalingRules, current: int, facts: Any, replicas: int | None, condition: Any, again: float
) -> None:
    assert decided(rules, current, **facts) == Scaling(replicas, condition, again)


COUNTS = st.integers(min_value=0, max_value=20)
SECONDS = st.integers(min_value=0, max_value=5000)


@st.composite
def any_rules(draw: st.DrawFn) -> ScalingRules:
    """As the webhook lets pass: the idle count is below the minimum, the minimum at most the maximum."""
    minimum = draw(COUNTS)
    idle = draw(st.none() | st.integers(0, minimum - 1)) if minimum else None
    return ScalingRules(
        minimum=minimum,
        maximum=minimum + draw(st.integers(1, 20)),
        idle=idle,
        cooldown=draw(SECONDS),
        initial_cooldown=draw(SECONDS),
        polling=draw(st.integers(1, 300)),
        scale_in=draw(st.booleans()),
        scale_out=draw(st.booleans()),
    )


@PROPERTY
@given(rules=any_rules(), current=COUNTS, idle_for=st.none() | SECONDS, age=SECONDS)
def test_what_is_active_never_shrinks_and_is_never_left_at_zero(
    rules: ScalingRules, current: int, idle_for: int | None, age: int
) -> None:
    scaling = decided(rules, current, active=True, idle_for=idle_for, age=age)
    after = current if scaling.replicas is None else scaling.replicas
    assert after >= current
    assert after >= 1 or not rules.scale_out
    assert after <= max(current, rules.maximum)


@PROPERTY
@given(rules=any_rules(), current=COUNTS, idle_for=st.none() | SECONDS, age=SECONDS)
def test_nothing_sleeps_before_its_time_nor_stays_awake_after_it(
    rules: ScalingRules, current: int, idle_for: int | None, age: int
) -> None:
    scaling = decided(rules, current, idle_for=idle_for, age=age)
    idle, period = (age, rules.initial_cooldown) if idle_for is None else (idle_for, rules.cooldown)
    may_sleep = rules.minimum == 0 or rules.idle is not None
    low = rules.minimum if rules.idle is None else rules.idle
    if scaling.replicas is not None and scaling.replicas < current:
        assert may_sleep
        assert rules.scale_in
        assert idle >= period
        assert scaling.replicas == low
    elif may_sleep and rules.scale_in and current > low:
        assert idle < period
        assert 0 < scaling.again <= period - idle


@PROPERTY
@given(rules=any_rules(), current=COUNTS, active=st.booleans(), idle_for=st.none() | SECONDS, age=SECONDS)
def test_a_decision_done_is_not_decided_again(
    rules: ScalingRules, current: int, active: bool, idle_for: int | None, age: int
) -> None:
    first = decided(rules, current, active=active, idle_for=idle_for, age=age)
    if first.replicas is not None:
        assert first.replicas != current
        again = decided(rules, first.replicas, active=active, idle_for=idle_for, age=age)
        assert again.replicas is None


def test_defaults_are_keda_s() -> None:
    assert scaling_rules(scaled_object()) == ScalingRules(0, 100, None, 300, 0, 30)
    said = {
        "minReplicaCount": 2,
        "maxReplicaCount": 3,
        "idleReplicaCount": 0,
        "cooldownPeriod": 4,
        "initialCooldownPeriod": 5,
        "pollingInterval": 6,
    }
    assert scaling_rules(scaled_object(**said)) == ScalingRules(2, 3, 0, 4, 5, 6)


@pytest.mark.parametrize(("value", "paused"), [("true", True), ("", True), ("false", False), ("0", False)])
def test_pausing_one_direction(value: str, paused: bool) -> None:
    obj = scaled_object()
    obj["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-scale-in": value}
    rules = scaling_rules(obj)
    assert (rules.scale_in, rules.scale_out) == (not paused, True)


# Triggers ----------------------------------------------------------------------------------------

ADDRESS = "keda-add-ons-http-external-scaler.keda:9090"


def http(route: str = "web", **more: Any) -> Manifest:
    metadata = {"scalerAddress": ADDRESS, "interceptorRoute": route}
    return {"type": "external-push", "metadata": metadata, **more}


CPU = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}


def scaled_object(*triggers: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"scaleTargetRef": {"name": "web"}, "triggers": list(triggers or (http(),)), **spec},
    }


def route(**metric: Any) -> Manifest:
    return {"metadata": {"name": "web"}, "spec": {"scalingMetric": metric}}


CONCURRENCY = {"concurrency": {"targetValue": 100}}
RATE = {"requestRate": {"targetValue": 20, "window": "1m", "granularity": "1s"}}


def external(name: str, **target: str) -> Manifest:
    metric = {"name": name, "selector": {"matchLabels": {"scaledobject.keda.sh/name": "web"}}}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def test_a_route_s_metrics_and_cpu() -> None:
    triggers = read_triggers(scaled_object(CPU, http()), {"web": route(**CONCURRENCY, **RATE)})
    assert triggers.metrics == (
        external("s1-http_web_concurrency", type="AverageValue", averageValue="100"),
        external("s1-http_web_rate", type="AverageValue", averageValue="20"),
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
        },
    )
    assert triggers.external == ("s1-http_web_concurrency", "s1-http_web_rate")
    assert triggers.resources == ("cpu",)
    assert triggers.types == ("cpu", "external-push")
    assert triggers.routes == ("web",)
    assert not triggers.always_active


def test_other_forms_of_metrics() -> None:
    memory = {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "64Mi"}}
    of_app = {**CPU, "metadata": {"value": "50", "containerName": "app"}}
    triggers = read_triggers(
        scaled_object(memory, of_app, http(metricType="Value")), {"web": route(**CONCURRENCY)}
    )
    assert triggers.metrics == (
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": "app",
                "target": {"type": "Utilization", "averageUtilization": 50},
            },
        },
        external("s2-http_web_concurrency", type="Value", value="100"),
        {
            "type": "Resource",
            "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "64Mi"}},
        },
    )
    assert read_triggers(scaled_object(memory), {}).always_active


@pytest.mark.parametrize("suffix", ["", ".svc", ".svc.cluster.local"])
def test_names_of_the_scaler(suffix: str) -> None:
    trigger = http()
    trigger["metadata"]["scalerAddress"] = f"keda-add-ons-http-external-scaler.keda{suffix}:9090"
    assert read_triggers(scaled_object(trigger), {"web": route(**CONCURRENCY)}).external


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        (
            {"type": "kafka", "metadata": {}},
            "no scaler found for type: kafka; the local cluster has those of",
        ),
        (
            {"type": "external-push", "metadata": {"scalerAddress": "mine:1", "interceptorRoute": "web"}},
            "scalerAddress `mine:1` of trigger 0 is not that of the HTTP add-on",
        ),
        ({"type": "external-push", "metadata": {"scalerAddress": ADDRESS}}, "names no InterceptorRoute"),
        (http("other"), 'interceptorroutes.http.keda.sh "other" not found'),
        (http(metricType="Utilization"), "is only supported for 'cpu' and 'memory' scalers"),
        (http(authenticationRef={"name": "a"}), "names the TriggerAuthentication `a`"),
        ({"type": "cpu", "metricType": "Utilization", "metadata": {}}, "no value given"),
        ({"type": "cpu", "metadata": {"value": "70"}}, "unsupported metric type"),
        ({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "x"}}, "value `x`"),
        ({"type": "memory", "metricType": "AverageValue", "metadata": {"value": "lots"}}, "value `lots`"),
    ],
)
def test_what_cannot_be_served_says_why(trigger: Manifest, why: str) -> None:
    with pytest.raises(TriggerError) as failure:
        read_triggers(scaled_object(trigger), {"web": route(**CONCURRENCY)})
    assert why in str(failure.value)


@pytest.mark.parametrize(
    ("metric", "found"),
    [
        ("s1-http_web_concurrency", ("web", "concurrency")),
        ("s1-http_web_rate", ("web", "rate")),
        ("s0-http_web_rate", None),
        ("s1-http_other_rate", None),
        ("s1-http_web", None),
        ("composite-metric", None),
    ],
)
def test_whose_a_metric_is(metric: str, found: Any) -> None:
    assert route_of_metric(scaled_object(CPU, http()), metric) == found


def test_routes_of_triggers_that_cannot_be_served_are_still_known() -> None:
    other = {"type": "kafka", "metadata": {"interceptorRoute": "no"}}
    assert route_names(scaled_object(http("a"), other, http("b"), http("a"))) == ("a", "b")


# The autoscaler ----------------------------------------------------------------------------------

TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}


def made(obj: Manifest) -> Manifest:
    triggers = read_triggers(obj, {"web": route(**CONCURRENCY)})
    return autoscaler(obj, TARGET, triggers, scaling_rules(obj))


def test_the_autoscaler_of_a_scaled_object() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    config = {"horizontalPodAutoscalerConfig": {"name": "own", "behavior": behavior}}
    obj = scaled_object(minReplicaCount=0, maxReplicaCount=4, advanced=config)
    obj["metadata"] |= {
        "labels": {"app.kubernetes.io/managed-by": "chalk", "secret": "x"},
        "annotations": {"scaledobject.keda.sh/hpa-excluded-labels": "secret"},
    }
    assert made(obj) == {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "own",
            "namespace": "default",
            "labels": {
                "app.kubernetes.io/name": "own",
                "app.kubernetes.io/version": KEDA_VERSION,
                "app.kubernetes.io/part-of": "web",
                "app.kubernetes.io/managed-by": "chalk",
            },
            "annotations": {"scaledobject.keda.sh/hpa-excluded-labels": "secret"},
            "ownerReferences": [
                {
                    "apiVersion": "keda.sh/v1alpha1",
                    "kind": "ScaledObject",
                    "name": "web",
                    "uid": "u",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 4,
            "metrics": [external("s0-http_web_concurrency", type="AverageValue", averageValue="100")],
            "behavior": behavior,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        },
    }


def test_names_and_bounds_without_a_word() -> None:
    obj = scaled_object()
    assert autoscaler_name(obj) == "keda-hpa-web"
    spec = made(obj)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], "behavior" in spec) == (1, 100, False)


def test_a_paused_direction_is_disabled() -> None:
    obj = scaled_object()
    obj["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-scale-out": "true"}
    assert made(obj)["spec"]["behavior"] == {"scaleUp": {"selectPolicy": "Disabled"}}


def test_an_empty_list_of_policies_is_left_to_the_defaults() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": []}}
    obj = scaled_object(advanced={"horizontalPodAutoscalerConfig": {"behavior": behavior}})
    assert made(obj)["spec"]["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 5}}


def test_what_others_wrote_into_the_autoscaler_is_no_difference() -> None:
    wanted = made(scaled_object())
    live = made(scaled_object())
    live["metadata"]["labels"]["mine"] = "x"
    live["spec"]["metrics"][0]["external"]["extra"] = 1
    live["status"] = {"currentReplicas": 3}
    assert brought_up_to_date(live, wanted) is None


@pytest.mark.parametrize("field", ["spec", "labels", "ownerReferences", "behavior", "metrics"])
def test_what_is_not_as_it_should_be_is_brought_back(field: str) -> None:
    wanted, live = made(scaled_object()), made(scaled_object())
    live["metadata"]["labels"]["mine"] = "x"
    if field == "spec":
        live["spec"]["maxReplicas"] = 1
    elif field == "behavior":
        live["spec"]["behavior"] = {"scaleUp": {"selectPolicy": "Disabled"}}
    elif field == "metrics":
        live["spec"]["metrics"].append({"type": "Resource"})
    elif field == "labels":
        live["metadata"]["labels"]["app.kubernetes.io/part-of"] = "other"
    else:
        live["metadata"]["ownerReferences"] = []
    changed = brought_up_to_date(live, wanted)
    assert changed is not None
    assert changed["spec"] == wanted["spec"]
    assert changed["metadata"]["ownerReferences"] == wanted["metadata"]["ownerReferences"]
    assert changed["metadata"]["labels"] == {**wanted["metadata"]["labels"], "mine": "x"}
