"""A cluster stays a moment longer than the last route to it."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.gateway.lingering import LINGER, Lingering
from chalkcompute.local.gateway.resources import endpoints_file


def files(**clusters: str) -> dict[str, dict[str, Any]]:
    return {
        "sds": {"resources": []},
        **{endpoints_file(name): {"resources": [content]} for name, content in clusters.items()},
        "cds": {"resources": [{"name": name} for name in sorted(clusters)]},
        "rds-https": {"resources": sorted(clusters)},
    }


def names(found: dict[str, dict[str, Any]]) -> list[str]:
    return [cluster["name"] for cluster in found["cds"]["resources"]]


def test_a_cluster_without_a_route_goes_a_moment_later() -> None:
    lingering = Lingering()
    assert lingering.join(files(a="1", b="1"), 0.0) == (files(a="1", b="1"), None)
    joined, again = lingering.join(files(b="2", c="1"), 5.0)
    assert names(joined) == ["a", "b", "c"]
    assert again == LINGER
    # Its endpoints are there before it is, and those of the others are the new ones.
    assert list(joined).index(endpoints_file("a")) < list(joined).index("cds")
    assert joined[endpoints_file("a")] == {"resources": ["1"]}
    assert joined[endpoints_file("b")] == {"resources": ["2"]}
    assert joined["rds-https"] == {"resources": ["b", "c"]}
    joined, again = lingering.join(files(b="2", c="1"), 5.0 + LINGER / 2)
    assert (names(joined), again) == (["a", "b", "c"], LINGER / 2)
    assert lingering.join(files(b="2", c="1"), 5.0 + LINGER) == (files(b="2", c="1"), None)


def test_a_cluster_without_a_file_of_endpoints_stays_as_long() -> None:
    lingering, without = Lingering(), files(a="1")
    del without[endpoints_file("a")]
    lingering.join(without, 0.0)
    joined, _ = lingering.join(files(), 1.0)
    assert (names(joined), [name for name in joined if name.startswith("eds-")]) == (["a"], [])


def test_a_cluster_that_comes_back_is_not_taken_away() -> None:
    lingering = Lingering()
    lingering.join(files(a="1"), 0.0)
    lingering.join(files(), 1.0)
    assert lingering.join(files(a="2"), 1.5) == (files(a="2"), None)
    joined, again = lingering.join(files(), 9.0)
    assert (names(joined), again) == (["a"], LINGER)
