"""Use of replicas and requests, out of metrics objects."""

from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.manifests.measured import (
    METRICS,
    names_of_leaving,
    replica_usage,
    traffic_by_name,
    use_of_group,
)
from tests.unit.manifests.manifests_builders import GROUP_ID, a_condition, a_deployment


def measured(name: str, cpu: str = "250m", memory: str = "64Mi", sidecar: str = "") -> dict[str, Any]:
    containers = [{"name": "app", "usage": {"cpu": cpu, "memory": memory}}]
    if sidecar:
        containers.append({"name": "sidecar", "usage": {"cpu": sidecar}})
    return {"metadata": {"name": name}, "containers": containers}


def requesting(cpu: str | None) -> dict[str, Any]:
    deployment = a_deployment()
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    deployment["spec"]["template"]["spec"] = {"containers": [{"name": "app", "resources": resources}]}
    return deployment


def test_use_is_the_sum_and_percent_are_of_the_request() -> None:
    use = use_of_group([measured("a"), measured("b", cpu="750000000n")], requesting("500m"))
    assert use is not None
    assert use.cpu_cores == pytest.approx(1.0)
    assert use.memory_bytes == 2 * 64 * 1024 * 1024
    assert use.cpu_utilization_percentage == pytest.approx(100.0)


def test_what_admission_added_uses_and_is_no_part_of_the_percentage() -> None:
    use = use_of_group([measured("a", cpu="100m", memory="1Mi", sidecar="900m")], requesting("200m"))
    assert use is not None
    assert use.cpu_cores == pytest.approx(1.0)
    assert use.cpu_utilization_percentage == pytest.approx(50.0)
    assert use.memory_bytes == 1024 * 1024


def test_without_measurement_or_request() -> None:
    assert use_of_group([], requesting("1")) is None
    use = use_of_group([measured("a")], requesting(None))
    assert use is not None
    assert use.cpu_utilization_percentage is None
    assert use_of_group([measured("a")], None) is not None


def a_pod(name: str, created: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID},
        },
        "spec": {
            "containers": [
                {"name": "app", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "128Mi"}}}
            ]
        },
        "status": {"phase": "Running", **status},
    }


def test_a_replica_that_leaves_is_not_in_the_percentage_as_the_autoscaler_leaves_it_out() -> None:
    leaving = a_pod("b", "2026-11-23T11:01:00Z")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T11:04:00Z"
    names = names_of_leaving([a_pod("a", "2026-11-23T11:00:00Z"), leaving])
    assert names == {"b"}
    use = use_of_group([measured("a", cpu="400m"), measured("b", cpu="100m")], requesting("500m"), names)
    assert use is not None
    assert (use.cpu_utilization_percentage, use.cpu_cores) == (80.0, 0.5)
    use = use_of_group([measured("b")], requesting("500m"), names)
    assert use is not None
    assert use.cpu_utilization_percentage is None


def test_replicas_oldest_first_with_what_each_uses() -> None:
    running = {"running": {"startedAt": "2026-11-23T11:00:00Z"}}
    container = {"name": "app", "ready": True, "restartCount": 2, "state": running}
    waiting = {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    leaving = a_pod("d", "2026-11-23T11:03:00Z", containerStatuses=[container])
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T11:04:00Z"
    other = a_pod("x", "2026-11-23T11:00:00Z")
    other["metadata"]["labels"] = {}
    found = replica_usage(
        [
            leaving,
            a_pod("b", "2026-11-23T11:01:00Z", phase="Pending"),
            a_pod(
                "a", "2026-11-23T11:00:00Z", containerStatuses=[container], conditions=[a_condition("Ready")]
            ),
            a_pod("c", "2026-11-23T11:02:00Z", containerStatuses=[waiting]),
            a_pod("e", "2026-11-23T11:00:00Z", phase="Failed"),
            other,
        ],
        [measured("a")],
        GROUP_ID,
    )
    assert [(r.name, r.state, r.ready) for r in found] == [
        ("a", "Running", True),
        ("b", "Pending", False),
        ("c", "CrashLoopBackOff", False),
        ("d", "Terminating", False),
    ]
    first = found[0]
    assert (first.cpu_cores, first.memory_bytes, first.restarts) == (0.25, 64 * 1024 * 1024, 2)
    assert (first.cpu_request_cores, first.memory_limit_bytes) == (0.5, 128 * 1024 * 1024)
    assert first.to_dict()["started_at"] == "2026-11-23T11:00:00Z"
    assert found[1].to_dict()["created_at"] == "2026-11-23T11:01:00Z", "before it runs"
    assert found[1].started_at is None
    assert (found[1].cpu_cores, found[1].memory_bytes) == (None, None)


def answer(**values: str) -> dict[str, Any]:
    return {
        "items": [
            {"describedObject": {"kind": "HTTPRoute", "name": name}, "value": value}
            for name, value in values.items()
        ]
    }


def test_requests_by_route() -> None:
    found = traffic_by_name(
        {
            METRICS[0]: answer(web="12500m", other="0"),
            METRICS[1]: answer(web="3"),
            METRICS[3]: answer(web="340m"),
        }
    )
    web = found["web"]
    assert (web.requests_per_second, web.requests_in_flight) == (12.5, 3.0)
    assert (web.p50_seconds, web.p99_seconds) == (None, 0.34)
    assert found["other"].to_dict()["requests_per_second"] == 0.0
    assert traffic_by_name({}) == {}
