"""How fast an autoscaler may scale: windows, policies, bounds."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.controllers.hpa_behavior import (
    Dated,
    History,
    Normalized,
    ReplicaRange,
    after_scaling,
    normalize,
)
from tests.properties import examples
from tests.unit.local_controllers.autoscaled import NOW

WIDE = ReplicaRange(1, 1000)


def ago(seconds: float, replicas: int) -> Dated:
    return Dated(NOW - timedelta(seconds=seconds), replicas)


def behavior(direction: str, *policies: tuple[str, int, int], select: str = "Max", window: int = 0) -> Any:
    listed = [{"type": kind, "value": value, "periodSeconds": period} for kind, value, period in policies]
    rules = {"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": listed}
    other = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }
    return {"scaleUp": other, "scaleDown": other, direction: rules}


def outcome(normalized: Normalized) -> tuple[int, str, str, bool]:
    limited = normalized.limited
    return normalized.replicas, normalized.able.reason, limited.reason, limited.holds


@pytest.mark.parametrize(
    ("current", "wanted", "replica_range", "expected"),
    [
        (3, 5, ReplicaRange(1, 10), (5, "ReadyForNewScale", "DesiredWithinRange", False)),
        (3, 3, ReplicaRange(1, 10), (3, "ReadyForNewScale", "DesiredWithinRange", False)),
        (3, 20, ReplicaRange(1, 10), (6, "ReadyForNewScale", "ScaleUpLimit", True)),  # at most twice as many
        (1, 20, ReplicaRange(1, 10), (4, "ReadyForNewScale", "ScaleUpLimit", True)),  # or four
        (3, 20, ReplicaRange(1, 6), (6, "ReadyForNewScale", "TooManyReplicas", True)),
        (3, 0, ReplicaRange(2, 6), (2, "ReadyForNewScale", "TooFewReplicas", True)),
    ],
)
def test_without_behavior(
    current: int, wanted: int, replica_range: ReplicaRange, expected: tuple[int, str, str, bool]
) -> None:
    assert outcome(normalize(History(), None, replica_range, current, wanted, NOW)) == expected


def test_without_behavior_the_highest_of_five_minutes_counts() -> None:
    history = History(recommendations=(ago(301, 9), ago(299, 7), ago(10, 4)))
    normalized = normalize(history, None, WIDE, 7, 2, NOW)
    assert outcome(normalized) == (7, "ScaleDownStabilized", "DesiredWithinRange", False)
    assert normalized.able.message.endswith(
        "were higher than current one, applying the highest recent recommendation"
    )
    # What is remembered is what was asked for, not what was done; what is too old is forgotten.
    assert [event.replicas for event in normalized.history.recommendations] == [7, 4, 2]


def test_what_runs_at_first_counts_as_recommended() -> None:
    history = History().begun(5, NOW)
    assert history.begun(9, NOW) == history
    assert normalize(history, None, WIDE, 5, 1, NOW + timedelta(seconds=1)).replicas == 5


@pytest.mark.parametrize(
    ("select", "policies", "expected"),
    [
        ("Max", [("Pods", 4, 15), ("Percent", 100, 15)], 20),
        ("Min", [("Pods", 4, 15), ("Percent", 100, 15)], 14),
        ("Max", [("Percent", 1, 15)], 11),  # rounded up, else few would never grow
        ("Disabled", [("Pods", 4, 15)], 10),
    ],
)
def test_policies_of_growth(select: str, policies: list[tuple[str, int, int]], expected: int) -> None:
    rules = behavior("scaleUp", *policies, select=select)
    normalized = normalize(History(), rules, WIDE, 10, 100, NOW)
    assert outcome(normalized) == (expected, "ReadyForNewScale", "ScaleUpLimit", True)


@pytest.mark.parametrize(
    ("select", "policies", "expected"),
    [
        ("Max", [("Pods", 4, 15), ("Percent", 50, 15)], 5),
        ("Min", [("Pods", 4, 15), ("Percent", 50, 15)], 6),
        ("Max", [("Percent", 1, 15)], 9),  # cut off: 9.9 is 9
        ("Disabled", [("Pods", 4, 15)], 10),
    ],
)
def test_policies_of_shrinking(select: str, policies: list[tuple[str, int, int]], expected: int) -> None:
    rules = behavior("scaleDown", *policies, select=select)
    normalized = normalize(History(), rules, WIDE, 10, 1, NOW)
    assert outcome(normalized) == (expected, "ReadyForNewScale", "ScaleDownLimit", True)


def test_a_period_counts_what_was_done_in_it() -> None:
    rules = behavior("scaleUp", ("Pods", 4, 60))
    history = History(added=(ago(61, 50), ago(59, 3)), removed=(ago(30, 1),))
    # A minute ago there were 10 - 3 + 1 = 8.
    assert normalize(history, rules, WIDE, 10, 100, NOW).replicas == 12
    full = History(added=(ago(59, 4),))
    assert outcome(normalize(full, rules, WIDE, 10, 100, NOW)) == (
        10,
        "ReadyForNewScale",
        "ScaleUpLimit",
        True,
    )
    over = History(added=(ago(59, 40),))
    assert normalize(over, rules, WIDE, 50, 100, NOW).replicas == 50  # never the other way


def test_shrinking_waits_for_its_period_too() -> None:
    rules = behavior("scaleDown", ("Pods", 1, 60))
    assert normalize(History(removed=(ago(59, 1),)), rules, WIDE, 5, 1, NOW).replicas == 5
    assert normalize(History(removed=(ago(61, 1),)), rules, WIDE, 5, 1, NOW).replicas == 4


def test_bounds_come_before_policies() -> None:
    up, down = behavior("scaleUp", ("Pods", 10, 15)), behavior("scaleDown", ("Pods", 10, 15))
    assert outcome(normalize(History(), up, ReplicaRange(1, 6), 5, 9, NOW))[::2] == (6, "TooManyReplicas")
    assert outcome(normalize(History(), down, ReplicaRange(3, 6), 5, 0, NOW))[::2] == (3, "TooFewReplicas")


@pytest.mark.parametrize(
    ("direction", "recommended", "wanted", "expected", "reason"),
    [
        ("scaleUp", 6, 9, 6, "ScaleUpStabilized"),
        ("scaleUp", 12, 9, 9, "ReadyForNewScale"),
        ("scaleUp", 3, 9, 5, "ScaleUpStabilized"),  # the other way is not for this window to say
        ("scaleDown", 4, 2, 4, "ScaleDownStabilized"),
        ("scaleDown", 1, 2, 2, "ReadyForNewScale"),
        ("scaleDown", 8, 2, 5, "ScaleDownStabilized"),
    ],
)
def test_windows(direction: str, recommended: int, wanted: int, expected: int, reason: str) -> None:
    rules = behavior(direction, ("Percent", 900, 15), window=60)
    inside = History(recommendations=(ago(59, recommended),))
    assert outcome(normalize(inside, rules, WIDE, 5, wanted, NOW))[:2] == (expected, reason)
    outside = History(recommendations=(ago(61, recommended),))
    assert outcome(normalize(outside, rules, WIDE, 5, wanted, NOW))[:2] == (wanted, "ReadyForNewScale")


def test_shrinking_waits_five_minutes_where_behavior_does_not_say() -> None:
    rules = behavior("scaleUp", ("Pods", 4, 15))
    del rules["scaleDown"]["stabilizationWindowSeconds"]
    history = History(recommendations=(ago(299, 5),))
    assert normalize(history, rules, WIDE, 5, 1, NOW).replicas == 5


def test_only_behavior_asks_for_what_was_done() -> None:
    assert after_scaling(History(), None, 1, 5, NOW) == History()
    rules = behavior("scaleUp", ("Pods", 4, 60))
    grown = after_scaling(History(added=(ago(61, 9),)), rules, 1, 5, NOW)
    assert grown.added == (Dated(NOW, 4),)
    shrunk = after_scaling(grown, rules, 5, 2, NOW)
    assert (shrunk.added, shrunk.removed) == (grown.added, (Dated(NOW, 3),))


# Properties ----------------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=40)
policies = st.lists(
    st.tuples(st.sampled_from(["Pods", "Percent"]), st.integers(1, 50), st.integers(1, 60)),
    min_size=1,
    max_size=3,
)
selections = st.sampled_from(["Max", "Min"])


def simulate(
    rules: Any, replica_range: ReplicaRange, start: int, wishes: list[tuple[int, int]]
) -> list[tuple[float, int]]:
    """The sizes over time, `(seconds, replicas)`, when metrics ask for this after that many seconds."""
    history, replicas, clock = History().begun(start, NOW), start, 0.0
    sizes = [(clock, replicas)]
    for seconds, wanted in wishes:
        clock += seconds
        now = NOW + timedelta(seconds=clock)
        normalized = normalize(history, rules, replica_range, replicas, wanted, now)
        history = normalized.history
        if normalized.replicas != replicas:
            history = after_scaling(history, rules, replicas, normalized.replicas, now)
        replicas = normalized.replicas
        sizes.append((clock, replicas))
    return sizes


def size_at(sizes: list[tuple[float, int]], clock: float) -> int:
    return [replicas for at, replicas in sizes if at <= clock][-1] if clock >= 0 else sizes[0][1]


@given(policies, policies, selections, steps, st.integers(1, 10), st.integers(0, 40), st.integers(0, 60))
@examples(200)
def test_sizes_stay_within_their_bounds(
    ups: Any, downs: Any, select: str, wishes: Any, low: int, span: int, window: int
) -> None:
    rules = {
        "scaleUp": behavior("scaleUp", *ups, select=select, window=window)["scaleUp"],
        "scaleDown": behavior("scaleDown", *downs, select=select, window=window)["scaleDown"],
    }
    replica_range = ReplicaRange(low, low + span)
    for case in (rules, None):
        assert all(low <= size <= low + span for _, size in simulate(case, replica_range, low, wishes))


@given(policies, selections, steps, st.integers(1, 30))
@examples(200)
def test_no_period_grows_by_more_than_its_policy(ups: Any, select: str, wishes: Any, start: int) -> None:
    sizes = simulate(behavior("scaleUp", *ups, select=select), WIDE, start, wishes)
    for (_, before), (clock, after) in itertools.pairwise(sizes):
        if after <= before:
            continue
        limits = []
        for kind, value, period in ups:
            then = size_at(sizes, clock - period)
            limits.append(then + value if kind == "Pods" else math.ceil(then * (1 + value / 100)))
        assert after <= (min(limits) if select == "Min" else max(limits))


@given(policies, selections, steps, st.integers(1, 60))
@examples(200)
def test_no_period_shrinks_by_more_than_its_policy(downs: Any, select: str, wishes: Any, start: int) -> None:
    sizes = simulate(behavior("scaleDown", *downs, select=select), WIDE, start, wishes)
    for (_, before), (clock, after) in itertools.pairwise(sizes):
        if after >= before:
            continue
        limits = []
        for kind, value, period in downs:
            then = size_at(sizes, clock - period)
            limits.append(then - value if kind == "Pods" else int(then * (1 - value / 100)))
        assert after >= (max(limits) if select == "Min" else min(limits))


@given(steps, st.integers(1, 60))
@examples(200)
def test_without_behavior_nothing_asked_for_in_five_minutes_is_taken_away(wishes: Any, start: int) -> None:
    sizes = simulate(None, WIDE, start, wishes)
    clock, asked = 0.0, [(0.0, start)]
    for (seconds, wanted), (_, size) in zip(wishes, sizes[1:], strict=True):
        clock += seconds
        asked.append((clock, wanted))
        recent = max(count for at, count in asked if at > clock - 300)
        before = size_at(sizes, clock - seconds)
        assert size >= min(before, recent)
        assert size <= max(recent, 1)


@given(policies, policies, steps, st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
@examples(200)
def test_a_change_goes_towards_what_is_wanted(
    ups: Any, downs: Any, wishes: Any, start: int, up_window: int, down_window: int
) -> None:
    rules = {
        "scaleUp": behavior("scaleUp", *ups, window=up_window)["scaleUp"],
        "scaleDown": behavior("scaleDown", *downs, window=down_window)["scaleDown"],
    }
    sizes = simulate(rules, WIDE, start, wishes)
    for (_, wanted), (_, before), (_, after) in zip(wishes, sizes, sizes[1:], strict=False):
        assert min(before, max(wanted, 1)) <= after <= max(before, wanted)
