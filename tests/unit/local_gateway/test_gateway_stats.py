from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.gateway.stats import WINDOW, Clusters, Reading, parse, quantile
from tests.properties import examples

A, B = "default/web/default/web/8000", "default/web/default/other.x/8000"


def an_answer(*entries: dict[str, Any], **histograms: list[dict[str, int]]) -> str:
    details = [{"name": name, "totals": totals} for name, totals in histograms.items()]
    return json.dumps({"stats": [*entries, {"histograms": {"details": details}}]})


def test_an_answer_of_envoy_is_read() -> None:
    text = an_answer(
        {"name": f"cluster.{A}.upstream_rq_active", "value": 2},
        {"name": f"cluster.{A}.upstream_rq_pending_active", "value": 1},
        {"name": f"cluster.{B}.upstream_rq_total", "value": 7},
        **{
            f"cluster.{A}.upstream_rq_time": [{"lower_bound": 42, "width": 1, "count": 3}],
            f"cluster.{A}.external.upstream_rq_time": [{"lower_bound": 42, "width": 1, "count": 3}],
        },
    )
    found = parse(text)
    assert found[A] == Reading(3, 0, Counter({(42.0, 1.0): 3}))
    assert found[B] == Reading(0, 7)


def test_requests_are_counted_over_a_window() -> None:
    clusters = Clusters()
    clusters.follow(0.0, [A, B])
    assert clusters.take(1.0, {A: Reading(1, 5), B: Reading(0, 1)}) == {A, B}
    assert clusters.take(2.0, {A: Reading(0, 5), B: Reading(0, 3)}) == {B}
    both = clusters.window([A, B])
    assert (both.seconds, both.active, both.total, both.requests) == (2.0, 0, 8, 8)
    for second in range(3, 30):
        clusters.take(float(second), {A: Reading(0, 5), B: Reading(0, 3)})
    later = clusters.window([A, B])
    assert (later.total, later.requests) == (8, 0)
    assert later.seconds == pytest.approx(WINDOW)


def test_a_request_shorter_than_the_time_between_two_readings_is_seen() -> None:
    clusters = Clusters()
    clusters.follow(0.0, [A])
    clusters.take(1.0, {A: Reading(0, 1)})
    assert clusters.take(2.0, {A: Reading(0, 2)}) == {A}
    assert clusters.take(3.0, {A: Reading(0, 2)}) == set()


def test_an_open_stream_keeps_a_cluster_busy() -> None:
    clusters = Clusters()
    clusters.follow(0.0, [A])
    for second in range(1, 4):
        assert clusters.take(float(second), {A: Reading(1, 1)}) == {A}


@given(
    st.lists(
        st.one_of(st.integers(0, 5), st.just("restart"), st.just("unnoticed restart")),
        min_size=1,
        max_size=30,
    )
)
@examples(300)
def test_counters_never_go_back_whatever_becomes_of_envoy(steps: list[int | str]) -> None:
    clusters = Clusters()
    clusters.follow(0.0, [A])
    counter, last_total = 0, 0
    times: Counter[tuple[float, float]] = Counter()
    for number, step in enumerate(steps):
        if isinstance(step, str):
            counter, times = 0, Counter()
            if step == "restart":
                clusters.restart()
        else:
            counter += step
            times[1.0, 0.1] += step
        clusters.take(float(number), {A: Reading(0, counter, Counter(times))})
        window = clusters.window([A])
        assert window.total >= last_total
        assert window.requests >= 0
        assert all(count > 0 for count in window.times.values())
        last_total = window.total
    if "unnoticed restart" not in steps:
        assert last_total == sum(step for step in steps if isinstance(step, int))


def test_a_cluster_that_is_followed_no_more_is_forgotten() -> None:
    clusters = Clusters()
    clusters.follow(0.0, [A])
    clusters.take(1.0, {A: Reading(0, 4)})
    clusters.follow(2.0, [B])
    assert clusters.window([A]).total == 0


@pytest.mark.parametrize(
    ("times", "part", "seconds"),
    [
        ({}, 0.5, None),
        ({(0.0, 0.0): 4}, 0.5, 0.0),
        ({(100.0, 10.0): 2}, 0.5, 0.105),
        ({(100.0, 10.0): 99, (3000.0, 100.0): 1}, 0.5, pytest.approx(0.10505, abs=1e-4)),
        ({(100.0, 10.0): 90, (3000.0, 100.0): 10}, 0.99, pytest.approx(3.09)),
        ({(1.0, 0.1): 1}, 1.0, pytest.approx(0.0011)),
    ],
)
def test_quantiles(times: dict[tuple[float, float], int], part: float, seconds: Any) -> None:
    assert quantile(Counter(times), part) == seconds


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 20), min_size=1), st.floats(0, 1), st.floats(0, 1))
@examples(200)
def test_quantiles_are_in_order_and_within_what_was_seen(
    counts: dict[int, int], one: float, other: float
) -> None:
    times = Counter({(float(lower), 1.0): count for lower, count in counts.items()})
    low, high = sorted((quantile(times, one) or 0.0, quantile(times, other) or 0.0))
    smaller, larger = sorted((one, other))
    assert quantile(times, smaller) == low
    assert quantile(times, larger) == high
    assert min(counts) / 1000 <= low <= high <= (max(counts) + 1) / 1000
