"""Live objects to status and counts, with all that `get` reads and with the two that `list` reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chalkcompute.manifests.live import LiveGroup, rollout
from chalkcompute.manifests.observe import observe, observe_tombstone
from chalkcompute.manifests.record import Tombstone
from chalkcompute.types import Status
from tests.unit.manifests.manifests_builders import (
    ACCEPTED,
    NOW,
    a_condition,
    a_deployment,
    a_live,
    a_record,
    a_route,
    a_spec,
    excerpt,
    in_group,
)

TWO = a_spec(min_replicas=2, max_replicas=2, tags={"team": "ml"})


@pytest.mark.parametrize(
    ("deployment", "status"),
    [
        (a_deployment(replicas=2, ready=2), Status.AVAILABLE),
        (a_deployment(replicas=2, ready=1), Status.RUNNING),
        (a_deployment(replicas=2), Status.PENDING),
        (a_deployment(replicas=2, ready=2, updated=1, total=3), Status.RUNNING),
        (a_deployment(replicas=2, ready=2, generation=2), Status.RUNNING),
        (a_deployment(replicas=1, ready=1), Status.RUNNING),
        (in_group(excerpt("deployment-complete")), Status.AVAILABLE),
        (in_group(excerpt("deployment-updated")), Status.AVAILABLE),
        (in_group(excerpt("deployment-stuck")), Status.FAILED),
        (in_group(excerpt("deployment-quota")), Status.FAILED),
    ],
)
def test_status_by_record_and_deployment_alone(deployment: dict[str, Any], status: Status) -> None:
    assert observe(LiveGroup(record=a_record(TWO), deployment=deployment), NOW).status is status


def test_available_says_nothing_more() -> None:
    info = observe(a_live(TWO, deployment=a_deployment(replicas=2, ready=2)), NOW)
    assert (info.status, info.status_message, info.verdict) == (Status.AVAILABLE, None, None)
    assert info.replicas.to_dict() == {"desired": 2, "ready": 2, "available": 2, "min": 2, "max": 2}
    assert info.web_url == "https://abc123-inference.gw.chalk.ai"
    assert info.tags == {"team": "ml"}
    assert info.spec == TWO.to_dict()


def test_running_counts() -> None:
    info = observe(a_live(TWO, deployment=a_deployment(replicas=2, ready=1)), NOW)
    assert info.status_message == "1 of 2 replicas are ready"


def mutated(name: str, image: str, created: str) -> dict[str, Any]:
    """A pod to which a mesh has added a variable and a container, and a LimitRange a limit."""
    app: dict[str, Any] = {
        "name": "app",
        "image": image,
        "env": [{"name": "A", "value": "1"}, {"name": "MESH", "value": "x"}],
    }
    app["resources"] = {"limits": {"cpu": "1", "ephemeral-storage": "1Gi"}}
    return in_group(
        {
            "metadata": {
                "name": name,
                "creationTimestamp": created,
                "labels": {"pod-template-hash": name, "mesh": "on"},
            },
            "spec": {"containers": [{"name": "proxy", "image": "mesh"}, app]},
            "status": {"containerStatuses": [{"name": "app", "state": {"running": {"startedAt": created}}}]},
        }
    )


def test_the_current_revision_is_known_by_its_template_even_where_admission_adds_to_pods() -> None:
    """The older pod is the current one: a node died and took a pod of the revision before with it."""
    container = {
        "name": "app",
        "image": "i:2",
        "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"cpu": "1"}},
    }
    deployment = a_deployment(replicas=2, updated=1, total=2)
    deployment["spec"]["template"] = {"metadata": {"labels": {}}, "spec": {"containers": [container]}}
    pods = [
        mutated("current", "i:2", "2026-11-23T11:20:00Z"),
        mutated("before", "i:1", "2026-11-23T11:25:00Z"),
    ]
    found = rollout(a_live(a_spec(min_replicas=2, max_replicas=2), deployment=deployment, pods=pods))
    assert [each.name for each in found.pods] == ["current"]


def test_ready_replicas_without_an_accepted_route_are_running() -> None:
    live = a_live(TWO, deployment=a_deployment(replicas=2, ready=2), route=a_route())
    assert observe(live, NOW - timedelta(minutes=10)).status is Status.RUNNING


@pytest.mark.parametrize(
    ("route", "status"), [(a_route(*ACCEPTED), Status.SCALED_TO_ZERO), (a_route(), Status.PENDING)]
)
def test_scaled_to_zero_needs_a_route(route: dict[str, Any], status: Status) -> None:
    live = a_live(a_spec(min_replicas=0), deployment=a_deployment(replicas=0), route=route)
    assert observe(live, NOW - timedelta(minutes=10)).status is status


def test_a_group_lifted_from_zero_is_available() -> None:
    live = a_live(a_spec(min_replicas=0), deployment=a_deployment(replicas=1, ready=1))
    assert observe(live, NOW).status is Status.AVAILABLE


def test_a_group_that_someone_scaled_to_zero_is_not_available() -> None:
    live = a_live(a_spec(), deployment=a_deployment(replicas=0))
    assert observe(live, NOW).status is Status.PENDING


def test_a_group_on_its_way_out() -> None:
    record = a_record(state="deleting")
    for deployment in (None, a_deployment(), a_deployment(ready=1)):
        info = observe(a_live(record=record, deployment=deployment), NOW)
        assert (info.status, info.verdict) == (Status.DELETING, None)


def test_someone_elses_deployment_is_not_ours() -> None:
    foreign = {**a_deployment(ready=1), "metadata": {"name": "inference", "labels": {}}}
    info = observe(a_live(deployment=foreign), NOW)
    assert info.status is Status.FAILED
    assert info.ready_replicas == 0


def test_a_deleted_group() -> None:
    record = a_record(TWO, revision=4)
    info = observe_tombstone(Tombstone.of(record, deleted_at=NOW))
    assert (info.status, info.deleted_at, info.revision) == (Status.DELETED, NOW, 4)
    assert info.replicas.ready == 0
    assert info.web_url == record.web_url


def test_what_ran_once_is_not_said_to_never_have_started() -> None:
    rolled_out = a_condition("Progressing", "True", "NewReplicaSetAvailable")
    once = observe(a_live(deployment=a_deployment(ready=0, conditions=(rolled_out,))), NOW)
    assert once.status is Status.RUNNING
    never = observe(a_live(deployment=a_deployment(ready=0)), NOW)
    assert (never.status, never.status_message) == (Status.PENDING, "no replica is ready yet")


def test_switched_off_by_hand() -> None:
    info = observe(a_live(deployment=a_deployment(replicas=0, updated=0, ready=0)), NOW)
    assert info.status is Status.PENDING
    assert "scaled to 0 by someone else" in str(info.status_message)


def test_rollout_of_recorded_pods() -> None:
    deployment = in_group(excerpt("deployment-complete"))
    pods = [in_group(found) for found in excerpt("pods-complete")]
    progress = rollout(a_live(TWO, deployment=deployment, pods=pods))
    assert (progress.desired, progress.running, progress.ready, progress.old_ready) == (2, 2, 2, 0)
    assert progress.complete
