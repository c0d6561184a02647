"""ReplicaSets: which Pods come, which go, and what the status says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalkcompute.local.controllers.actions import Create, Delete
from chalkcompute.local.controllers.objects import claim
from chalkcompute.local.controllers.pods import available_in, pod_victims
from chalkcompute.local.controllers.replicaset import new_pod, reconcile, replica_status
from chalkcompute.local.controllers.template import same_template, template_hash

Manifest = dict[str, Any]
Make = Callable[..., Manifest]


def test_a_new_pod_carries_the_template_and_its_owner(replica_set: Make) -> None:
    rs = replica_set("web-h")
    rs["spec"]["template"]["metadata"]["annotations"] = {"note": "x"}
    pod = new_pod(rs)
    assert pod["metadata"] == {
        "generateName": "web-h-",
        "namespace": "default",
        "labels": {"app": "web", "pod-template-hash": "h"},
        "annotations": {"note": "x"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-h",
                "uid": "replicaset-web-h",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert pod["spec"] == rs["spec"]["template"]["spec"]


def test_what_is_missing_is_created_and_nothing_more(replica_set: Make, pod: Make) -> None:
    rs = replica_set("web-h", 3)
    deleted = pod("c", deletionTimestamp="2026-11-23T11:22:00Z")
    finished = pod("d", phase="Failed")
    actions = reconcile(rs, [pod("a"), deleted, finished])
    assert [type(a) for a in actions] == [Create, Create]
    assert reconcile(rs, [pod("a"), pod("b"), pod("c")]) == []


def test_a_replica_set_that_goes_makes_no_pods(replica_set: Make) -> None:
    assert reconcile(replica_set("web-h", 3, deletionTimestamp="2026-11-23T11:22:00Z"), []) == []


def test_victims_are_chosen_as_kubernetes_does(pod: Make) -> None:
    cheap = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    in_order = [
        pod("unassigned", node=""),
        pod("pending", phase="Pending", ready=False),
        pod("not-ready", ready=False),
        pod("cheap", annotations=cheap),
        pod("ready-late", ready_since="2026-11-23T11:30:00Z"),
        pod("younger", creationTimestamp="2026-11-23T11:21:59Z"),
        pod("older", creationTimestamp="2026-11-23T10:00:00Z"),
    ]
    assert pod_victims(reversed(in_order), 6) == in_order[:6]
    assert pod_victims(in_order, -1) == []


def test_a_cost_that_is_no_number_counts_as_none(pod: Make) -> None:
    odd = pod("odd", annotations={"controller.kubernetes.io/pod-deletion-cost": "much"})
    late = pod("late", ready_since="2026-11-23T11:30:00Z")
    assert pod_victims([odd, late], 1) == [late]


def test_shrinking_deletes_the_victims(replica_set: Make, pod: Make) -> None:
    actions = reconcile(replica_set("web-h", 1), [pod("a"), pod("b", ready=False)])
    assert [a.obj["metadata"]["name"] for a in actions if isinstance(a, Delete)] == ["b"]


def test_status_counts_the_way_the_transcript_does(replica_set: Make, pod: Make, clock: Any) -> None:
    rs = replica_set("web-h", 3)
    going = pod("c", deletionTimestamp="2026-11-23T11:22:00Z")
    stranger = pod("d", ready=False)
    stranger["metadata"]["labels"] = {"app": "web"}
    assert replica_status(rs, [pod("a"), pod("b"), going, stranger], None, clock()) == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 1,
        "observedGeneration": 1,
    }
    assert replica_status(rs, [], None, clock()) == {
        "replicas": 0,
        "terminatingReplicas": 0,
        "observedGeneration": 1,
    }


def test_a_refusal_becomes_a_condition_that_keeps_its_time_and_goes_again(
    replica_set: Make, clock: Any
) -> None:
    rs = replica_set("web-h")
    rs["status"] = replica_status(rs, [], ("FailedCreate", "exceeded quota: q"), clock())
    first = rs["status"]["conditions"]
    assert first == [
        {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": "2026-11-23T11:22:00Z",
            "reason": "FailedCreate",
            "message": "exceeded quota: q",
        }
    ]
    clock.advance(60)
    again = replica_status(rs, [], ("FailedCreate", "exceeded quota: q"), clock())
    assert again["conditions"] == first
    assert "conditions" not in replica_status(rs, [], None, clock())


def test_available_comes_after_min_ready_seconds(pod: Make, clock: Any) -> None:
    ready = pod("a")
    clock.advance(4)
    assert available_in(ready, 10, clock()) == 6
    assert available_in(ready, 0, clock()) == 0
    assert available_in(pod("b", ready=False), 10, clock()) is None
    clock.advance(6)
    assert available_in(ready, 10, clock()) == 0


def test_orphans_are_adopted_and_what_is_selected_no_longer_is_released(replica_set: Make, pod: Make) -> None:
    rs, other = replica_set("web-h"), replica_set("other")
    relabelled = pod("relabelled", owner=rs)
    relabelled["metadata"]["labels"] = {"app": "else"}
    orphan, owned, foreign = pod("orphan"), pod("owned", owner=rs), pod("foreign", owner=other)
    claims = claim(rs, [orphan, owned, foreign, relabelled])
    assert [p["metadata"]["name"] for p in claims.owned] == ["orphan", "owned"]
    (adopted,) = claims.adopt
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == "replicaset-web-h"
    assert "ownerReferences" not in orphan["metadata"], "what was observed is not changed"
    assert claims.release == [relabelled]


def test_an_owner_that_goes_adopts_and_releases_nothing(replica_set: Make, pod: Make) -> None:
    rs = replica_set("web-h", deletionTimestamp="2026-11-23T11:22:00Z")
    claims = claim(rs, [pod("orphan")])
    assert (claims.owned, claims.adopt, claims.release) == ([], [], [])


def test_template_hash_is_stable_and_feels_every_change(deployment: Make) -> None:
    one, two = deployment(version="1")["spec"]["template"], deployment(version="2")["spec"]["template"]
    assert template_hash(one) == template_hash(deployment()["spec"]["template"])
    assert len({template_hash(one), template_hash(two), template_hash(one, 1), template_hash(one, 2)}) == 4
    assert set(template_hash(one)) <= set("bcdfghjklmnpqrstvwxz2456789")


def test_templates_are_compared_without_the_hash_label(deployment: Make) -> None:
    one, two = deployment()["spec"]["template"], deployment()["spec"]["template"]
    two["metadata"]["labels"]["pod-template-hash"] = "h"
    assert same_template(one, two)
    assert not same_template(one, deployment(version="2")["spec"]["template"])
