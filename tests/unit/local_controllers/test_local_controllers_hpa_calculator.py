"""How many replicas a metric asks for, against a table taken from the documented algorithm."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.controllers.hpa_calculator import (
    CalculationError,
    PodMetric,
    Proposal,
    Tolerances,
    average_value,
    external_average,
    external_value,
    group_pods,
    utilization,
)
from tests.properties import examples
from tests.unit.local_controllers.autoscaled import (
    NOW,
    WINDOW,
    Replica,
    metrics_of,
    pods_of,
    requests_of,
)


def by_utilization(
    current: int, target: int, replicas: list[Replica], tolerances: Tolerances | None = None
) -> Proposal:
    return utilization(
        current,
        target,
        pods_of(replicas),
        metrics_of(replicas),
        lambda: requests_of(replicas),
        resource="cpu",
        tolerances=tolerances or Tolerances(),
        now=NOW,
    )


def using(*uses: int | None) -> list[Replica]:
    return [Replica(use) for use in uses]


UNREADY = Replica(300, ready=False, ready_for=timedelta(minutes=2), started=timedelta(minutes=2))
FRESH = Replica(300, ready_for=timedelta(seconds=3), started=timedelta(seconds=3))

TABLE = {
    # name: current, target %, Pods, replicas, utilization %
    "up by the ratio": (3, 30, using(300, 500, 700), 5, 50),
    "up, exactly": (4, 50, using(1000, 1000, 1000, 1000), 8, 100),
    "up, one replica": (1, 50, using(560), 2, 56),
    "down by the ratio, rounded up": (5, 50, using(100, 300, 500, 250, 250), 3, 28),
    "down to nothing used": (3, 50, using(0, 0, 0), 0, 0),
    "close enough above": (3, 100, using(1010, 1030, 1020), 3, 102),
    "close enough below": (3, 100, using(910, 900, 900), 3, 90),
    "just not close enough": (10, 100, using(*[1110] * 10), 12, 111),
    # What is not ready says nothing, and while growing is taken to be idle.
    "up less, one is not ready": (3, 30, [UNREADY, *using(500, 700)], 4, 60),
    "up less, one has just started": (3, 30, [FRESH, *using(500, 700)], 4, 60),
    "not up, the others are not ready": (3, 30, [Replica(400), UNREADY, UNREADY], 3, 40),
    "down, not ready ones do not count": (
        5,
        50,
        [*using(100, 300, 500), UNREADY, UNREADY],
        2,
        30,
    ),
    "pending ones are not ready": (3, 30, [*using(500, 700), Replica(phase="Pending")], 4, 60),
    # What is on its way out or has failed is nobody's replica.
    "failed ones are ignored": (
        2,
        30,
        [*using(500, 700), *[Replica(phase="Failed", ready=False)] * 2],
        4,
        60,
    ),
    "deleted ones are ignored": (2, 30, [*using(500, 700), *[Replica(900, deleting=True)] * 2], 4, 60),
    # What nobody has measured is taken to speak against the change.
    "nothing, one is missing": (2, 100, using(1000, None), 2, 100),
    "not up, one is missing": (2, 100, using(1900, None), 2, 190),
    "up, one is missing": (2, 50, using(2000, None), 4, 200),
    "not down, one is missing": (2, 100, using(600, None), 2, 60),
    "down, one of many is missing": (5, 100, using(100, 100, 100, 100, None), 2, 10),
    "missing ones count as the target when that is above 100 %": (3, 150, using(300, 300, None), 2, 30),
    "nothing, one missing and one not ready": (3, 50, [UNREADY, Replica(450), Replica()], 3, 45),
    "up, one missing and one not ready": (3, 50, [UNREADY, Replica(2000), Replica()], 4, 200),
    "down, one missing and one not ready": (4, 50, [UNREADY, *using(100, 100, None)], 3, 10),
    # More Pods than the count says (a rollout): the direction does not turn.
    "not up for a surge of Pods while shrinking": (2, 100, using(850, 850, 850, None), 2, 85),
    "not down while growing, though most are not ready": (8, 50, [Replica(2000), UNREADY], 8, 200),
}


@pytest.mark.parametrize(("current", "target", "replicas", "wanted", "percent"), TABLE.values(), ids=TABLE)
def test_utilization(current: int, target: int, replicas: list[Replica], wanted: int, percent: int) -> None:
    proposal = by_utilization(current, target, replicas)
    assert (proposal.replicas, proposal.percent) == (wanted, percent)


def test_the_average_is_of_what_counts() -> None:
    assert by_utilization(3, 30, [UNREADY, *using(500, 701)]).average == 600


def test_tolerances_may_differ_by_direction() -> None:
    loose = Tolerances(up=0.5, down=0.0)
    assert by_utilization(2, 100, using(1400, 1400), loose).replicas == 2
    assert by_utilization(2, 100, using(1600, 1600), loose).replicas == 4
    assert by_utilization(100, 100, using(*[990] * 100), loose).replicas == 99


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        ([], "no pods returned by selector while calculating replica count"),
        ([UNREADY], "did not receive metrics for targeted pods (pods might be unready)"),
        ([Replica()], "did not receive metrics for targeted pods (pods might be unready)"),
        ([Replica(5, request=0)], "no metrics returned matched known pods"),
    ],
)
def test_what_cannot_be_calculated_says_why(replicas: list[Replica], message: str) -> None:
    with pytest.raises(CalculationError) as caught:
        by_utilization(1, 50, replicas)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("replica", "counts"),
    [
        # Within five minutes of its start a Pod counts once it was ready for a whole window.
        (Replica(1, started=timedelta(seconds=60), ready_for=timedelta(seconds=5)), True),
        (Replica(1, started=timedelta(seconds=60), ready_for=timedelta(seconds=4)), False),
        (Replica(1, started=timedelta(seconds=299), ready=False), False),
        # Later only one that has never been ready (within 30 s of its start) does not.
        (Replica(1, started=timedelta(seconds=301), ready_for=timedelta(seconds=1)), True),
        (
            Replica(1, ready=False, started=timedelta(seconds=400), ready_for=timedelta(seconds=371)),
            False,
        ),
        (Replica(1, ready=False, started=timedelta(seconds=400), ready_for=timedelta(seconds=300)), True),
    ],
)
def test_the_cpu_of_a_start_is_not_believed(replica: Replica, *, counts: bool) -> None:
    groups = group_pods(pods_of([replica]), metrics_of([replica]), "cpu", NOW)
    assert (groups.ready, len(groups.unready)) == (int(counts), int(not counts))
    assert group_pods(pods_of([replica]), metrics_of([replica]), "memory", NOW).ready == 1


def test_a_pod_without_a_status_is_starting() -> None:
    (pod,) = pods_of([Replica(1)])
    pod["status"] = {"phase": "Running"}
    assert group_pods([pod], {"web-0": PodMetric(1, NOW, WINDOW)}, "cpu", NOW).unready == {"web-0"}


def by_average(current: int, target: int, replicas: list[Replica], resource: str = "cpu") -> Proposal:
    return average_value(
        current,
        target,
        pods_of(replicas),
        metrics_of(replicas),
        resource=resource,
        tolerances=Tolerances(),
        now=NOW,
    )


@pytest.mark.parametrize(
    ("current", "target", "replicas", "wanted", "average"),
    [
        (3, 15, using(20, 10, 30), 4, 20),
        (3, 20, using(20, 21, 22), 3, 21),
        (5, 20, using(10, 10, 10, 10, 10), 3, 10),
        (3, 15, [UNREADY, *using(50, 10)], 4, 30),
        (3, 15, using(50, 10, None), 4, 30),
        (3, 15, using(5, 5, None), 2, 5),
    ],
)
def test_average_values(
    current: int, target: int, replicas: list[Replica], wanted: int, average: int
) -> None:
    assert by_average(current, target, replicas) == Proposal(wanted, average)


@pytest.mark.parametrize(
    ("running", "target", "total", "wanted", "average"),
    [
        (3, 2150, 8600, 4, 2867),
        (3, 2867, 8600, 3, 2867),
        (3, 2867, 9300, 3, 3100),  # within the tolerance
        (5, 2000, 8600, 5, 1720),
        (5, 2000, 1000, 1, 200),
        (3, 100, 0, 0, 0),
        (0, 100, 250, 3, 250),  # nothing runs: what is there is for whoever comes
    ],
)
def test_averages_of_the_outside(running: int, target: int, total: int, wanted: int, average: int) -> None:
    assert external_average(running, target, total, Tolerances()) == Proposal(wanted, average)


@pytest.mark.parametrize(
    ("current", "target", "total", "replicas", "wanted"),
    [
        (3, 4400, 8600, using(1, 1, 1), 6),
        (3, 8000, 8600, using(1, 1, 1), 3),
        (3, 4400, 8600, [*using(1, 1), UNREADY], 4),
        (0, 100, 250, [], 3),
        (0, 100, 0, [], 0),
    ],
)
def test_values_of_the_outside(
    current: int, target: int, total: int, replicas: list[Replica], wanted: int
) -> None:
    assert external_value(current, target, total, pods_of(replicas), Tolerances()).replicas == wanted


def test_a_value_of_the_outside_needs_pods() -> None:
    with pytest.raises(CalculationError, match="unable to calculate ready pods: no pods returned"):
        external_value(3, 100, 500, [], Tolerances())


# Properties ----------------------------------------------------------------------------------------

uses = st.lists(st.integers(0, 4000), min_size=1, max_size=20)
targets = st.integers(1, 200)


@given(uses, targets)
@examples(300)
def test_all_known_it_is_the_ratio_rounded_up(measured: list[int], target: int) -> None:
    proposal = by_utilization(len(measured), target, using(*measured))
    percent = sum(measured) * 100 // (1000 * len(measured))
    assert proposal.percent == percent
    if Tolerances().accept(percent / target):
        assert proposal.replicas == len(measured)
    else:
        assert (proposal.replicas - 1) * target < percent * len(measured) <= proposal.replicas * target


@given(uses, targets, st.integers(0, 19), st.integers(1, 4000))
@examples(300)
def test_more_usage_never_asks_for_fewer(measured: list[int], target: int, index: int, more: int) -> None:
    before = by_utilization(len(measured), target, using(*measured)).replicas
    measured[index % len(measured)] += more
    assert by_utilization(len(measured), target, using(*measured)).replicas >= before


@given(uses, st.integers(0, 5), st.integers(0, 5), targets)
@examples(300)
def test_what_is_not_known_never_makes_a_change_larger(
    measured: list[int], missing: int, unready: int, target: int
) -> None:
    current = len(measured) + missing + unready
    known = by_utilization(len(measured), target, using(*measured))
    replicas = [*using(*measured), *using(*[None] * missing), *[UNREADY] * unready]
    proposal = by_utilization(current, target, replicas)
    ratio = (known.percent or 0) / target
    if ratio >= 1:
        exact = math.ceil(Fraction(sum(measured) * 100, 1000 * target))  # percents are cut off
        assert current <= proposal.replicas <= max(current, exact)
    elif not unready:
        assert known.replicas <= proposal.replicas <= current


@given(st.integers(1, 100), st.integers(1, 10_000), st.integers(0, 1_000_000))
@examples(300)
def test_an_average_of_the_outside_is_met_by_what_it_asks_for(running: int, target: int, total: int) -> None:
    replicas = external_average(running, target, total, Tolerances()).replicas
    if replicas != running:
        assert total <= replicas * target
        assert replicas == 0 or total > (replicas - 1) * target
