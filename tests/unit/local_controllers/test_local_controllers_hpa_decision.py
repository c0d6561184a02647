"""What one look of an autoscaler decides, whatever it sees."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.controllers.hpa_behavior import History
from chalkcompute.local.controllers.hpa_calculator import Tolerances
from chalkcompute.local.controllers.hpa_decision import Decision, Scale, decide, rescaled, tolerances_of
from chalkcompute.local.controllers.hpa_metrics import Sources
from chalkcompute.local.ports import Manifest
from tests.properties import examples
from tests.unit.local_controllers.autoscaled import (
    NOW,
    Replica,
    cpu_metric,
    make_autoscaler,
    pods_of,
    usages_of,
)


def test_tolerances_are_those_of_the_behavior() -> None:
    rules = {"scaleUp": {"tolerance": "0.05"}, "scaleDown": {"tolerance": "200m"}}
    assert tolerances_of(make_autoscaler(behavior=rules)) == Tolerances(up=0.05, down=0.2)
    assert tolerances_of(make_autoscaler(behavior={"scaleUp": {}})) == Tolerances(0.1, 0.1)


def test_what_could_not_be_scaled_is_wanted_as_before() -> None:
    decision = Decision({"conditions": [], "desiredReplicas": 1}, (), History(), 3, "because")
    failed = rescaled(decision, {"desiredReplicas": 2}, NOW, "nobody may").status
    assert failed["desiredReplicas"] == 2
    done = rescaled(decision, {"desiredReplicas": 2}, NOW, None).status
    assert (done["desiredReplicas"], done["lastScaleTime"]) == (3, "2026-11-30T12:00:00Z")


def looked(
    replicas: list[Replica], count: int, bounds: tuple[int, int], target: int, **spec: Any
) -> tuple[int | None, Manifest]:
    """The size that one look asks for, and the status that it writes."""
    hpa = make_autoscaler(*bounds, cpu_metric(target), **spec)
    sources = Sources(
        namespace="default",
        current=count,
        running=count,
        pods=pods_of(replicas),
        usages=usages_of(replicas),
        external=None,
        tolerances=tolerances_of(hpa),
        now=NOW,
    )
    decision = decide(hpa, Scale(count, count, "app=web"), sources, ["default/web"], History())
    return decision.scale_to, decision.status


kinds = st.builds(
    Replica,
    use=st.none() | st.integers(0, 3000),
    ready=st.booleans(),
    phase=st.sampled_from(["Running", "Running", "Pending", "Failed"]),
    deleting=st.booleans(),
    started=st.integers(0, 900).map(lambda seconds: timedelta(seconds=seconds)),
    ready_for=st.integers(0, 900).map(lambda seconds: timedelta(seconds=seconds)),
)
RULES = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 900, "periodSeconds": 15}],
}
FREE = {"scaleUp": RULES, "scaleDown": RULES}


@given(
    st.lists(kinds, max_size=12),
    st.integers(0, 12),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 150),
    st.sampled_from([None, FREE]),
)
@examples(400)
def test_whatever_is_seen_the_size_is_within_the_bounds(
    replicas: list[Replica], count: int, low: int, span: int, target: int, behavior: Manifest | None
) -> None:
    spec = {} if behavior is None else {"behavior": behavior}
    size, status = looked(replicas, count, (low, low + span), target, **spec)
    if count == 0:
        assert size is None
    elif size is None:
        blind = any(c["type"] == "ScalingActive" and c["status"] == "False" for c in status["conditions"])
        assert blind or low <= count <= low + span
    else:
        assert low <= size <= low + span
        assert size != count


@given(st.integers(1, 20), st.integers(1, 150), st.integers(90, 110))
@examples(300)
def test_close_to_the_target_nothing_is_done(count: int, target: int, percent: int) -> None:
    use = target * percent // 10  # of a request of 1000, in thousandths
    reached = use // 10 / target
    size, status = looked([Replica(use)] * count, count, (1, 1000), target, behavior=FREE)
    if 0.9 <= reached <= 1.1:
        assert size is None
        assert status["conditions"][-1]["reason"] == "DesiredWithinRange"
    else:
        assert (size or count) <= count


@given(st.integers(1, 10), st.integers(1, 100), st.lists(st.integers(0, 3000), min_size=2, max_size=2))
@examples(300)
def test_more_load_never_leads_to_fewer_replicas(count: int, target: int, uses: list[int]) -> None:
    less, more = (
        looked([Replica(use)] * count, count, (1, 1000), target, behavior=FREE)[0] or count
        for use in sorted(uses)
    )
    assert less <= more
