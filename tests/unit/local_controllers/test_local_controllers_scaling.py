"""The numbers of a rolling update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalkcompute.local.controllers.scaling import (
    fenceposts,
    max_surge,
    max_unavailable,
    new_replica_count,
    proportional_sizes,
    scale_down_old,
    unhealthy_cleanup,
)

Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "wanted"),
    [
        ("25%", "25%", 1, (1, 0)),
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 10, (3, 2)),
        (1, 0, 5, (1, 0)),
        (0, 0, 5, (0, 1)),
        ("0%", "10%", 5, (0, 1)),
        ("100%", "0%", 3, (3, 0)),
    ],
)
def test_surge_rounds_up_and_unavailable_down_and_never_both_zero(
    surge: int | str, unavailable: int | str, replicas: int, wanted: tuple[int, int]
) -> None:
    assert fenceposts(surge, unavailable, replicas) == wanted


def test_recreate_has_neither(deployment: Make) -> None:
    recreate = deployment(4, strategy={"type": "Recreate"})
    assert (max_surge(recreate), max_unavailable(recreate)) == (0, 0)


def test_unavailable_is_never_more_than_wished(deployment: Make) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 9}}
    assert max_unavailable(deployment(3, strategy=rolling)) == 3
    assert max_unavailable(deployment(0, strategy=rolling)) == 0


def test_the_new_set_grows_into_the_room_that_is_left(deployment: Make, replica_set: Make) -> None:
    wish = deployment(4)
    old, new = replica_set("old", 4, available=4), replica_set("new", 0)
    assert new_replica_count(wish, [old, new], 0) == 1
    old["spec"]["replicas"] = 2
    # Two of the old are still there: their room is not free yet.
    assert new_replica_count(wish, [old, new], 0) == 1
    old["status"]["replicas"] = 2
    assert new_replica_count(wish, [old, new], 0) == 3


def test_cleaning_up_takes_the_unavailable_of_the_oldest_first(replica_set: Make) -> None:
    older = replica_set("a", 3, available=2, creationTimestamp="2026-11-23T10:00:00Z")
    newer = replica_set("b", 3, available=0, creationTimestamp="2026-11-23T11:00:00Z")
    assert unhealthy_cleanup([newer, older], 2) == {"a": 2, "b": 2}
    assert unhealthy_cleanup([newer, older], 0) == {}


def test_scaling_down_takes_the_oldest_first(replica_set: Make) -> None:
    older = replica_set("a", 2, available=2, creationTimestamp="2026-11-23T10:00:00Z")
    newer = replica_set("b", 3, available=3, creationTimestamp="2026-11-23T11:00:00Z")
    assert scale_down_old([newer, older], 3) == {"a": 0, "b": 2}


@pytest.mark.parametrize(
    ("wish", "before", "sizes", "wanted"),
    [
        (20, "10", {"a": 5, "b": 5}, {"a": 10, "b": 10}),
        (5, "10", {"a": 6, "b": 4}, {"a": 3, "b": 2}),
        (0, "10", {"a": 6, "b": 4}, {"a": 0, "b": 0}),
        (13, "10", {"a": 7, "b": 3}, {"a": 9, "b": 4}),
    ],
)
def test_scaling_amid_a_rollout_is_proportional(
    deployment: Make,
    replica_set: Make,
    wish: int,
    before: str,
    sizes: dict[str, int],
    wanted: dict[str, int],
) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    sets = [replica_set(name, size) for name, size in sizes.items()]
    for rs in sets:
        rs["metadata"]["annotations"] = {"deployment.kubernetes.io/max-replicas": before}
    assert proportional_sizes(deployment(wish, strategy=rolling), sets) == wanted
