"""What an autoscaler does and whether it can see, out of live objects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.manifests.amounts import amount
from chalkcompute.manifests.live import FORBIDDEN, UNASKED, UNSERVED
from chalkcompute.manifests.observe import observe
from chalkcompute.manifests.scale_events import scale_events
from chalkcompute.manifests.scaler import autoscaler_info, is_group_scaler
from chalkcompute.types import Cause, Status
from tests.unit.manifests.manifests_builders import (
    GROUP_ID,
    NOW,
    a_condition,
    a_deployment,
    a_live,
    a_record,
    a_spec,
)

OLD = (NOW - timedelta(minutes=10)).isoformat()
CPU = "cpu_utilization_percentage"
ABLE = a_condition("AbleToScale", reason="ReadyForNewScale")
ACTIVE = a_condition("ScalingActive", reason="ValidMetricFound")
RESCALED = "New size: 3; reason: cpu resource utilization (percentage of request) above target"


def an_hpa(
    *conditions: dict[str, Any], cpu: int | None = 43, target: int = 70, **status: Any
) -> dict[str, Any]:
    metric = {"type": "Resource", "resource": {"name": "cpu"}}
    wanted = {"type": "Utilization", "averageUtilization": target}
    now = {"averageValue": "43m", **({} if cpu is None else {"averageUtilization": cpu})}
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "inference",
            "creationTimestamp": OLD,
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID},
        },
        "spec": {"metrics": [{**metric, "resource": {"name": "cpu", "target": wanted}}]},
        "status": {
            "currentReplicas": 2,
            "desiredReplicas": 3,
            "currentMetrics": [{**metric, "resource": {"name": "cpu", "current": now}}],
            "conditions": list(conditions),
            **status,
        },
    }


def a_pod(*, ready: bool = True, minutes: float = 10) -> dict[str, Any]:
    started = (NOW - timedelta(minutes=minutes)).isoformat()
    return {
        "metadata": {
            "name": "inference-1",
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID},
            "creationTimestamp": started,
        },
        "spec": {"containers": [{"name": "app"}]},
        "status": {
            "phase": "Running",
            "conditions": [a_condition("Ready", "True" if ready else "False")],
            "containerStatuses": [
                {"name": "app", "ready": ready, "state": {"running": {"startedAt": started}}}
            ],
        },
    }


def an_event(kind: str, reason: str, message: str, *, at: Any = "2026-11-23T11:00:00Z", **more: Any) -> Any:
    about = {"kind": kind, "name": "inference"}
    return {"involvedObject": about, "reason": reason, "message": message, "lastTimestamp": at, **more}


def of_range(hpa: Any, *, pods: Any = None, spec: Any = None, **more: Any) -> Any:
    spec = spec or a_spec(min_replicas=1, max_replicas=3, target_cpu_utilization_percentage=70)
    live = a_live(spec, deployment=a_deployment(replicas=2, ready=2), hpa=hpa, pods=pods, **more)
    return autoscaler_info(live, NOW)


def test_a_working_autoscaler() -> None:
    found = of_range(
        an_hpa(ABLE, ACTIVE, lastScaleTime="2026-11-23T11:00:02Z"),
        scaler_events=[an_event("HorizontalPodAutoscaler", "SuccessfulRescale", RESCALED)],
    )
    assert (found.kind, found.blind, found.message) == ("HorizontalPodAutoscaler", None, None)
    assert (found.target, found.current, found.target_is_default) == ({CPU: 70.0}, {CPU: 43.0}, False)
    assert (found.current_replicas, found.desired_replicas) == (2, 3)
    assert found.last_scale_reason == "cpu resource utilization (percentage of request) above target"
    shown = found.to_dict()
    assert shown["last_scale_at"] == "2026-11-23T11:00:02Z"
    assert [c["type"] for c in shown["conditions"]] == ["AbleToScale", "ScalingActive"]


def test_what_has_not_been_decided_is_not_a_wish_for_none() -> None:
    """`desiredReplicas` is 0 until something was measured, and while the autoscaler is switched off."""
    blind = inactive("FailedGetResourceMetric", NOTHING)
    assert of_range(an_hpa(ABLE, blind, desiredReplicas=0)).desired_replicas is None
    off = inactive("ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
    assert of_range(an_hpa(ABLE, off, desiredReplicas=0)).desired_replicas is None
    lost = of_range(an_hpa(ABLE, blind, desiredReplicas=2))
    assert lost.desired_replicas == 2, "what it decided before it lost sight still holds"


def test_no_target_is_the_clusters_own() -> None:
    spec = a_spec(min_replicas=1, max_replicas=3)
    found = of_range(an_hpa(ABLE, ACTIVE, target=80), spec=spec)
    assert (found.target, found.target_is_default) == ({CPU: 80.0}, True)


def test_a_fixed_count_and_one_that_nobody_asked_about_have_none() -> None:
    assert autoscaler_info(a_live(hpa=an_hpa()), NOW) is None
    assert of_range(UNASKED) is None
    assert autoscaler_info(a_live(a_spec(min_replicas=0)), NOW) is None


def inactive(reason: str, message: str) -> dict[str, Any]:
    return a_condition("ScalingActive", "False", reason, message=message)


UNABLE = "the HPA was unable to compute the replica count: failed to get cpu utilization: "
NO_API = (
    UNABLE + "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: "
    "the server could not find the requested resource (get pods.metrics.k8s.io)"
)
DOWN = NO_API.replace("could not find the requested resource", "is currently unable to handle the request")
NOTHING = UNABLE + "unable to get metrics for resource cpu: no metrics returned from resource metrics API"
UNREADY = UNABLE + "did not receive metrics for targeted pods (pods might be unready)"
SIDECAR = UNABLE + "missing request for cpu in container istio-proxy of Pod inference-1"


@pytest.mark.parametrize(
    ("reason", "text", "said"),
    [
        ("FailedGetResourceMetric", NO_API, "install metrics-server (`kubectl apply -f https://"),
        ("FailedGetResourceMetric", DOWN, "metrics-server does not answer"),
        ("FailedGetResourceMetric", NOTHING, "no measurement of the replicas: look at its log"),
        ("FailedGetResourceMetric", UNREADY, "no measurement of the replicas: look at its log"),
        ("FailedGetResourceMetric", SIDECAR, "container `istio-proxy` of the replicas has no CPU request"),
        (
            "FailedGetResourceMetric",
            'pods.metrics.k8s.io is forbidden: User "system:x" cannot list',
            "may not read `metrics.k8s.io`",
        ),
        ("FailedGetExternalMetric", "something else", "FailedGetExternalMetric, something else"),
        ("ScalingDisabled", "scaling is disabled since the replica count is zero", "switches it off"),
        ("InvalidSelector", "the HPA target's scale is missing a selector", "InvalidSelector, the HPA"),
        (
            "AmbiguousSelector",
            "pods by selector app=x are controlled by multiple HPAs: [ml/inference ml/mine]",
            "another HorizontalPodAutoscaler is on its replicas, so that neither works: delete it "
            "(`kubectl delete horizontalpodautoscaler mine -n ml`)",
        ),
    ],
)
def test_a_blind_autoscaler_says_why_and_what_next(reason: str, text: str, said: str) -> None:
    found = of_range(an_hpa(ABLE, inactive(reason, text), cpu=None), pods=[a_pod()])
    assert said in found.blind
    assert found.message is None
    assert found.current == {CPU: None}


def test_one_that_cannot_set_the_count_is_blind_too() -> None:
    unable = a_condition("AbleToScale", "False", "FailedUpdateScale", message="deployments is forbidden")
    assert "cannot set the replica count: FailedUpdateScale" in of_range(an_hpa(unable, ACTIVE)).blind


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([a_pod(minutes=1)], "no measurement yet"),
        ([a_pod(ready=False)], "no measurement while no replica is ready"),
        ([], "no measurement while no replica is ready"),
    ],
)
@pytest.mark.parametrize("text", [NOTHING, UNREADY])
def test_a_young_group_is_not_blind(text: str, pods: Any, said: str) -> None:
    found = of_range(an_hpa(ABLE, inactive("FailedGetResourceMetric", text), cpu=None), pods=pods)
    assert (found.blind, found.message) == (None, said)


def test_a_young_group_whose_cluster_has_no_metrics_is_blind_at_once() -> None:
    found = of_range(an_hpa(ABLE, inactive("FailedGetResourceMetric", NO_API)), pods=[a_pod(minutes=0.1)])
    assert "install metrics-server" in found.blind


@pytest.mark.parametrize("pods", [None, [a_pod()]], ids=["unseen", "old"])
def test_one_that_saw_a_moment_ago_is_not_blind(pods: Any) -> None:
    blink = inactive("FailedGetResourceMetric", NOTHING) | {
        "lastTransitionTime": (NOW - timedelta(seconds=20)).isoformat()
    }
    found = of_range(an_hpa(ABLE, blink, cpu=None), pods=pods)
    assert (found.blind, found.message) == (None, "no measurement yet")


def test_without_pods_the_last_deploy_tells_how_young_it_is() -> None:
    hpa = an_hpa(ABLE, inactive("FailedGetResourceMetric", NOTHING))
    assert of_range(hpa).blind is not None
    young = a_record(a_spec(min_replicas=1, max_replicas=3), updated_at=NOW - timedelta(seconds=30))
    found = autoscaler_info(a_live(record=young, hpa=hpa), NOW)
    assert found is not None
    assert (found.blind, found.message) == (None, "no measurement yet")


def test_one_that_no_controller_looks_at() -> None:
    hpa = an_hpa()
    assert "no controller has looked" in of_range(hpa).blind
    hpa["metadata"]["creationTimestamp"] = NOW.isoformat()
    assert (of_range(hpa).blind, of_range(hpa).message) == (None, "no measurement yet")


def test_notes_of_one_that_can_see() -> None:
    limited = a_condition("ScalingLimited", reason="TooManyReplicas")
    assert "`max_replicas` (3)" in of_range(an_hpa(ABLE, ACTIVE, limited)).message
    few = a_condition("ScalingLimited", reason="TooFewReplicas")
    assert of_range(an_hpa(ABLE, ACTIVE, few)).message is None
    stable = a_condition("AbleToScale", reason="ScaleDownStabilized")
    assert "lower for a while" in of_range(an_hpa(stable, ACTIVE)).message
    assert of_range(an_hpa(stable, ACTIVE, desiredReplicas=1)).message is None, "there is none to take away"


@pytest.mark.parametrize(
    ("cpu", "said"), [(0, "lower for a while"), (70, "lower for a while"), (71, "`max_replicas` (3)")]
)
def test_after_a_peak_beyond_the_maximum_the_load_tells_what_limits(cpu: int, said: str) -> None:
    stable = a_condition("AbleToScale", reason="ScaleDownStabilized")
    limited = a_condition("ScalingLimited", reason="TooManyReplicas")
    assert said in of_range(an_hpa(stable, ACTIVE, limited, cpu=cpu)).message


def test_one_that_is_gone_or_may_not_be_read() -> None:
    gone = of_range(None)
    assert "deploy again" in gone.blind
    assert gone.target == {CPU: 70.0}
    hidden = of_range(FORBIDDEN)
    assert (hidden.blind, hidden.message) == (
        None,
        "the HorizontalPodAutoscaler may not be read with this credential",
    )


def test_whose_autoscaler_it_is() -> None:
    hpa = an_hpa()
    assert is_group_scaler(hpa, GROUP_ID, "inference")
    del hpa["metadata"]["labels"]
    assert not is_group_scaler(hpa, GROUP_ID, "inference")
    hpa["metadata"]["ownerReferences"] = [{"kind": "ScaledObject", "name": "inference"}]
    assert is_group_scaler(hpa, GROUP_ID, "inference")


# --- KEDA


def a_scaled_object(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "kind": "ScaledObject",
        "metadata": {"name": "inference", "creationTimestamp": OLD},
        "spec": {"cooldownPeriod": 60},
        "status": {"conditions": list(conditions), **status},
    }


READY = a_condition("Ready", reason="ScaledObjectReady")


def kedas_hpa(per_replica: str = "2500m") -> dict[str, Any]:
    hpa = an_hpa(ABLE, ACTIVE)
    metric = {"metric": {"name": "s0-http-inference"}}
    hpa["spec"]["metrics"].append(
        {
            "type": "External",
            "external": {**metric, "target": {"type": "AverageValue", "averageValue": "100"}},
        }
    )
    hpa["status"]["currentMetrics"].append(
        {"type": "External", "external": {**metric, "current": {"value": "0", "averageValue": per_replica}}}
    )
    return hpa


def asleep(scaled: Any, *, replicas: int = 0, **more: Any) -> Any:
    spec = a_spec(min_replicas=0, max_replicas=3)
    deployment = a_deployment(replicas=replicas, ready=replicas)
    return a_live(spec, deployment=deployment, scaled_object=scaled, **more)


def test_kedas_group_awake() -> None:
    scaled = a_scaled_object(READY, a_condition("Active"), lastActiveTime="2026-11-23T11:29:00Z")
    event = an_event(
        "ScaledObject",
        "KEDAScaleTargetActivated",
        "Scaled apps/v1.Deployment ml/inference from 0 to 1, triggered by s0-http-inference",
    )
    info = observe(asleep(scaled, replicas=1, hpa=kedas_hpa(), scaler_events=[event]), NOW)
    found = info.autoscaler
    assert found is not None
    assert (info.status, found.kind, found.state, found.blind) == (
        Status.AVAILABLE,
        "ScaledObject",
        "awake",
        None,
    )
    assert found.target == {CPU: 70.0, "requests_in_flight": 100.0}
    assert found.current == {CPU: 43.0, "requests_in_flight": 2.5}
    assert found.idle_timeout_seconds == 60
    assert found.to_dict()["last_active_at"] == "2026-11-23T11:29:00Z"
    assert found.last_scale_reason == "a request woke it"
    assert {c.type for c in found.conditions} == {"Ready", "Active", "AbleToScale", "ScalingActive"}


def test_kedas_group_asleep_measures_nothing_and_is_not_blind() -> None:
    disabled = inactive("ScalingDisabled", "the replica count of the target is zero")
    for conditions in ([ABLE, disabled], [ABLE, ACTIVE]):  # the autoscaler looks 15 s later than KEDA
        hpa = {**kedas_hpa(), "status": {"conditions": conditions, "desiredReplicas": 1}}
        found = observe(asleep(a_scaled_object(READY), hpa=hpa), NOW).autoscaler
        assert found is not None
        assert found.desired_replicas is None
    hpa = {**kedas_hpa(), "status": {"conditions": [ABLE, disabled]}}
    info = observe(asleep(a_scaled_object(READY), hpa=hpa), NOW)
    assert (info.status, info.verdict) == (Status.SCALED_TO_ZERO, None)
    assert info.autoscaler is not None
    assert (info.autoscaler.state, info.autoscaler.blind) == ("asleep", None)
    assert set(info.autoscaler.current.values()) == {None}


def test_a_group_that_has_just_woken_is_not_said_to_be_switched_off() -> None:
    """KEDA's autoscaler looks again within 15 s; until then it says what was before."""
    disabled = inactive(
        "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"
    )
    hpa = {
        **kedas_hpa(),
        "status": {"conditions": [ABLE, disabled], "currentReplicas": 0, "desiredReplicas": 0},
    }
    found = observe(asleep(a_scaled_object(READY), replicas=1, hpa=hpa), NOW).autoscaler
    assert found is not None
    assert (found.state, found.blind, found.desired_replicas) == ("awake", None, None)
    assert set(found.current.values()) == {None}


@pytest.mark.parametrize(
    ("scaled", "said", "advice"),
    [
        (
            a_scaled_object(a_condition("Ready", "False", "ScaledObjectCheckFailed", message="no scaler")),
            "KEDA cannot scale the group: no scaler",
            "keda-operator",
        ),
        (a_scaled_object(), "KEDA has not looked at the ScaledObject", "kubectl get pods -n keda"),
        (None, "the ScaledObject `inference` does not exist", "deploy again"),
        (UNSERVED, "does not serve KEDA's ScaledObjects any more", "installed again"),
        (a_scaled_object(READY, a_condition("Paused")), "told not to scale", "kubectl annotate"),
    ],
)
def test_a_group_that_nothing_would_wake_is_not_said_to_sleep(scaled: Any, said: str, advice: str) -> None:
    info = observe(asleep(scaled), NOW)
    assert info.status is Status.PENDING
    assert info.verdict is not None
    assert (info.verdict.cause, info.verdict.terminal) == (Cause.AUTOSCALER_NOT_READY, False)
    assert said in info.verdict.message
    assert advice in (info.verdict.next or "")
    assert info.autoscaler is not None
    assert said in (info.autoscaler.blind or "")


@pytest.mark.parametrize(
    ("annotation", "value", "wakes"),
    [
        ("paused", "true", False),
        ("paused", "false", True),
        ("paused-replicas", "2", False),
        ("paused-scale-out", "true", False),
        ("paused-scale-in", "true", True),
    ],
)
def test_ways_to_pause_keda(annotation: str, value: str, wakes: bool) -> None:
    scaled = a_scaled_object(READY, *([a_condition("Paused")] if value != "false" else []))
    scaled["metadata"]["annotations"] = {f"autoscaling.keda.sh/{annotation}": value}
    info = observe(asleep(scaled), NOW)
    assert info.status is (Status.SCALED_TO_ZERO if wakes else Status.PENDING)
    assert info.autoscaler is not None
    assert info.autoscaler.state == ("asleep" if wakes else "paused")
    if not wakes:
        assert f"`kubectl annotate scaledobject inference autoscaling.keda.sh/{annotation}-`" in (
            info.autoscaler.blind or ""
        )


def test_kedas_trouble_with_a_group_that_serves_is_a_note() -> None:
    scaled = a_scaled_object(a_condition("Ready", "False", message="no scaler"))
    info = observe(asleep(scaled, replicas=1), NOW)
    assert (info.status, info.verdict) == (Status.AVAILABLE, None)
    assert info.autoscaler is not None
    assert "no scaler" in (info.autoscaler.blind or "")


def test_a_scaled_object_may_be_young_or_hidden() -> None:
    young = a_scaled_object()
    young["metadata"]["creationTimestamp"] = NOW.isoformat()
    info = observe(asleep(young), NOW)
    assert (info.status, info.verdict) == (Status.PENDING, None)
    assert info.status_message == "no replica runs, and KEDA is not ready to start one yet"
    hidden = observe(asleep(FORBIDDEN), NOW)
    assert hidden.status is Status.SCALED_TO_ZERO
    assert hidden.autoscaler is not None
    assert hidden.autoscaler.message == "the ScaledObject may not be read with this credential"


# --- events


@pytest.mark.parametrize("words", ["from {0} to 3", "to 3 from {0}"])
def test_events_have_the_count_before_where_the_deployment_tells(words: str) -> None:
    events = [
        an_event("HorizontalPodAutoscaler", "SuccessfulRescale", RESCALED),
        an_event(
            "Deployment",
            "ScalingReplicaSet",
            f"Scaled up replica set inference-abc {words.format(1)}",
            at="2026-11-23T11:00:01Z",
        ),
        an_event(
            "Deployment",
            "ScalingReplicaSet",
            f"Scaled up replica set inference-abc {words.format(2)}",
            at="2026-11-23T10:00:00Z",
        ),
        an_event(
            "HorizontalPodAutoscaler",
            "SuccessfulRescale",
            "New size: 1; reason: All metrics below target",
            at="2026-11-23T10:30:00Z",
        ),
        an_event("HorizontalPodAutoscaler", "FailedGetResourceMetric", "x"),
        {
            **an_event("HorizontalPodAutoscaler", "SuccessfulRescale", RESCALED),
            "involvedObject": {"name": "b"},
        },
    ]
    found = scale_events(events, "inference")
    assert [(e.from_replicas, e.to_replicas) for e in found] == [(None, 1), (1, 3)]
    assert found[0].reason == "All metrics below target"
    assert scale_events(events, "other") == ()


def test_the_time_of_an_event_is_its_last() -> None:
    series = {"series": {"lastObservedTime": "2026-11-23T11:20:00.000000Z"}}
    one = an_event("HorizontalPodAutoscaler", "SuccessfulRescale", RESCALED, **series)
    other = an_event("HorizontalPodAutoscaler", "SuccessfulRescale", RESCALED, at="2026-11-23T11:10:00Z")
    new = {**other, "lastTimestamp": None, "eventTime": "2026-11-23T11:15:00.5Z"}
    assert [e.at.minute for e in scale_events([one, other, new], "inference")] == [10, 15, 20]


def test_keda_puts_a_group_to_sleep() -> None:
    text = "Deactivated apps/v1.Deployment ml/inference from 2 to 0"
    (found,) = scale_events([an_event("ScaledObject", "KEDAScaleTargetDeactivated", text)], "inference")
    assert (found.from_replicas, found.to_replicas, found.reason) == (2, 0, "it was idle")


# --- amounts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("1500000n", 0.0015),
        ("12u", 0.000012),
        ("64Mi", 67108864.0),
        ("2e3", 2000.0),
        ("1.5Gi", 1610612736.0),
        ("0", 0.0),
        (3, 3.0),
        ("12k", 12000.0),
        ("-1", -1.0),
        ("", None),
        ("abc", None),
        (None, None),
        ("1Kb", None),
    ],
)
def test_amounts(text: object, value: float | None) -> None:
    assert amount(text) == pytest.approx(value) if value is not None else amount(text) is None


@given(st.integers(0, 10**15))
def test_an_amount_is_the_same_in_every_unit(number: int) -> None:
    assert amount(f"{number}n") == pytest.approx(number / 1e9)
    assert amount(f"{number}m") == pytest.approx(number / 1e3)
    assert amount(str(number)) == number
    assert amount(f"{number}Ki") == number * 1024
