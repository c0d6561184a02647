"""Warnings about what can be and is probably not meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.advice import advise, advise_wait
from tests.properties import examples
from tests.unit.manifests.manifests_builders import a_spec, specs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "python"}, "no fixed version"),
        ({"image": "localhost:5000/python"}, "no fixed version"),
        ({"image": "python:latest"}, "no fixed version"),
        ({"target_cpu_utilization_percentage": 70}, "no effect: the number of replicas is fixed"),
        ({"target_cpu_utilization_percentage": 70, "max_replicas": 3, "gpu": "1"}, "GPUs"),
        ({"scaling_interval_seconds": 30}, "no effect: the number of replicas is fixed"),
        ({"scaling_interval_seconds": 5, "max_replicas": 3}, "below 15"),
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
        {"max_replicas": 3, "target_cpu_utilization_percentage": 70, "scaling_interval_seconds": 15},
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


@examples(60)
@given(spec=specs())
def test_advice_is_total(spec: ScalingGroupSpec) -> None:
    assert all(text and not text.endswith(".") for text in advise(spec))
