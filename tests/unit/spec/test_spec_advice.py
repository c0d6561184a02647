"""Warnings about what can be and is probably not meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.advice import advise, advise_change, advise_wait
from tests.properties import examples
from tests.unit.manifests.manifests_builders import a_spec, specs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "python"}, "no fixed version"),
        ({"image": "localhost:5000/python"}, "no fixed version"),
        ({"image": "python:latest"}, "no fixed version"),
        ({"target_cpu_utilization_percentage": 70}, "no effect: the number of replicas is fixed"),
        ({"target_cpu_utilization_percentage": 70, "max_replicas": 3, "gpu": "1", "cpu": "8"}, "GPUs"),
        ({"max_replicas": 3, "gpu": "1", "cpu": "8"}, "by the CPU target of the cluster, 80"),
        ({"scaling_interval_seconds": 30}, "no effect: the number of replicas is fixed"),
        ({"scaling_interval_seconds": 5}, "no effect: the number of replicas is fixed"),
        ({"target_cpu_utilization_percentage": 70, "gpu": "1", "cpu": "8"}, "no effect"),
        (
            {"scaling_interval_seconds": 5, "max_replicas": 3},
            "below 15: the autoscaler looks only every 15 s",
        ),
        ({"scaling_interval_seconds": 14, "min_replicas": 0}, "below 15"),
        ({"target_cpu_utilization_percentage": 70, "max_replicas": 3}, "default request of 100m"),
        ({"target_cpu_utilization_percentage": 70, "min_replicas": 0}, "more than 70m on average; set `cpu`"),
        (
            {"target_cpu_utilization_percentage": 50, "max_replicas": 3, "cpu": "49m"},
            "a request of only 49m: replicas are added once they use more than 24.5m",
        ),
        ({"max_replicas": 3, "cpu": "10m"}, "of the cluster, 80, is relative to a request of only 10m"),
        (
            {"target_cpu_utilization_percentage": 91, "max_replicas": 3, "cpu": "2"},
            "cannot use more than the 2 that they request",
        ),
        ({"shutdown_delay_seconds": 601}, "over 600"),
    ],
)
def test_what_is_probably_not_meant(changes: dict[str, Any], said: str) -> None:
    (warning,) = advise(a_spec(**changes))
    assert said in warning


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image": "python:3.12"},
        {"image": "python@sha256:" + "a" * 64},
        {
            "max_replicas": 3,
            "cpu": "50m",
            "target_cpu_utilization_percentage": 70,
            "scaling_interval_seconds": 15,
        },
        {"max_replicas": 3, "cpu": "2", "target_cpu_utilization_percentage": 90},
        {"shutdown_delay_seconds": 600},
    ],
)
def test_what_is_surely_meant(changes: dict[str, Any]) -> None:
    assert advise(a_spec(**changes)) == ()


@pytest.mark.parametrize(
    ("startup", "wait", "warned"),
    [(None, 300, False), (600, None, False), (300, 300.0, False), (301, 300.0, True), (600, 0.5, True)],
)
def test_a_wait_that_a_slow_start_outlasts(startup: int | None, wait: float | None, warned: bool) -> None:
    said = advise_wait(a_spec(startup_timeout_seconds=startup), wait)
    assert len(said) == warned
    assert all(f"{startup} s" in text and f"{wait:g} s" in text for text in said)


FIXED, RANGE, ZERO = (a_spec(min_replicas=low, max_replicas=high) for low, high in [(3, 3), (2, 20), (0, 5)])


@pytest.mark.parametrize(
    ("before", "after", "live", "said"),
    [
        (RANGE, FIXED, 3, "fixed at 3 from now on: the range 2 to 20 and its HorizontalPodAutoscaler go"),
        (ZERO, FIXED, 0, "fixed at 3 from now on: the range 0 to 5 and KEDA's ScaledObject go"),
        (RANGE, FIXED, 7, "its HorizontalPodAutoscaler go, and 4 of 7 replicas with them"),
    ],
)
def test_a_fixed_count_ends_the_autoscaler(
    before: ScalingGroupSpec, after: ScalingGroupSpec, live: int, said: str
) -> None:
    (warning,) = advise_change(before, after, live=live)
    assert warning.endswith(said)


@pytest.mark.parametrize(
    ("before", "after"),
    [(FIXED, FIXED), (FIXED, RANGE), (FIXED, ZERO), (RANGE, ZERO), (ZERO, RANGE), (RANGE, RANGE)],
)
def test_a_change_that_ends_nothing(before: ScalingGroupSpec, after: ScalingGroupSpec) -> None:
    assert advise_change(before, after, live=9) == ()


@examples(60)
@given(spec=specs())
def test_advice_is_total(spec: ScalingGroupSpec) -> None:
    assert all(text and not text.endswith(".") for text in advise(spec))
