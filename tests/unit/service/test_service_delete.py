"""Deleting groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalkcompute import ChalkClient, Progress, ScalingGroupSpec, Status
from chalkcompute.errors import ConflictError, NotFoundError, NotOwnedError, SpecError
from chalkcompute.service.scope import World
from chalkcompute.settings import Settings

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock, FailingCluster

    Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]


def left(cluster: ApiCluster) -> list[str]:
    return [name for name in cluster.everything() if "chalk-sg-hist-" not in name]


def test_delete_leaves_nothing_but_history(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    made = client.create_scaling_group(spec).info
    cluster.calls.clear()
    steps: list[Progress] = []
    result = client.delete_scaling_group("web", on_progress=steps.append)
    assert (result.id, result.name) == (made.id, "web")
    assert sorted(result.removed) == [
        "ConfigMap/chalk-sg-web",
        "ConfigMap/chalk-sg-web-r1",
        "Deployment/web",
        "HTTPRoute/web",
        "Service/web",
    ]
    assert result.kept == (f"ConfigMap/chalk-sg-hist-{made.id}: its history",)
    assert left(cluster) == []
    assert steps[-1].phase == "done"
    writes = [call for call in cluster.calls if call[0] in ("create", "replace", "apply", "merge", "delete")]
    assert writes == [
        ("replace", "ConfigMap"),
        ("create", "ConfigMap"),
        ("delete", "HTTPRoute"),
        ("delete", "ConfigMap"),
    ]


def test_history_shows_it_and_a_new_one_is_another(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    first = client.create_scaling_group(spec).info
    client.delete_scaling_group(id=first.id)
    gone = client.get_scaling_group(id=first.id)
    assert (gone.status, gone.spec["image"]) == (Status.DELETED, "nginx:1")
    assert gone.deleted_at is not None
    with pytest.raises(NotFoundError, match="was deleted at 2026-11-24"):
        client.get_scaling_group("web")
    with pytest.raises(NotFoundError, match="was deleted at"):
        client.delete_scaling_group("web")
    assert client.list_scaling_groups().scaling_groups == ()
    second = client.create_scaling_group(spec).info
    assert second.id != first.id
    found = client.list_scaling_groups(include_deleted=True).scaling_groups
    assert sorted(info.status.value for info in found) == ["Deleted", "Pending"]


@pytest.mark.parametrize("mode", ["fixed", "hpa", "keda"])
def test_a_delete_killed_after_any_write_is_finished_by_running_it_again(
    client: ChalkClient,
    cluster: ApiCluster,
    reconnect: Reconnect,
    spec: ScalingGroupSpec,
    world: World,
    killed: type[BaseException],
    mode: str,
) -> None:
    wish = replace(
        spec, min_replicas={"fixed": 1, "hpa": 1, "keda": 0}[mode], max_replicas=1 + (mode == "hpa")
    )
    if mode == "keda":
        cluster.with_keda()
    survivor = ChalkClient.over(cluster, Settings(), replace(world, is_gone=lambda holder: True))
    for last in range(1, 20):
        group_id = client.create_scaling_group(wish).info.id
        dying, failing = reconnect(kill_after=last)
        try:
            dying.delete_scaling_group("web")
        except killed:
            assert failing.writes == last
        else:
            assert left(cluster) == []
            break
        if cluster.seen("ConfigMap", "chalk-sg-web") is None:
            # From here on the cluster finishes by itself.
            assert left(cluster) == []
            with pytest.raises(NotFoundError):
                survivor.delete_scaling_group("web")
        else:
            survivor.delete_scaling_group("web")
        assert left(cluster) == []
        assert cluster.seen("ConfigMap", f"chalk-sg-hist-{group_id}") is not None
    assert last > 3


def test_leftovers_without_a_record_go_too(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    made = client.create_scaling_group(spec).info
    for kind in ("Service", "Deployment"):
        obj = cluster.api.get(kind, "web", "default")
        obj["metadata"]["ownerReferences"] = []
        cluster.api.update(obj, manager="restore")
    cluster.delete("ConfigMap", "chalk-sg-web", "default")
    result = client.delete_scaling_group("web")
    assert (result.id, sorted(result.removed)) == (made.id, ["Deployment/web", "Service/web"])
    assert left(cluster) == []


def test_a_delete_that_was_overtaken_waits_for_the_end_all_the_same(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    made = client.create_scaling_group(spec).info

    def overtake() -> None:
        obj = cluster.api.get("Service", "web", "default")
        obj["metadata"]["finalizers"] = ["example.com/slow"]
        cluster.api.update(obj, manager="x")
        cluster.delete("ConfigMap", "chalk-sg-web", "default")

    slower, _ = reconnect(before={("replace", "ConfigMap"): overtake})
    with pytest.raises(ConflictError, match="Service/web"):
        slower.delete_scaling_group("web", timeout=3)
    assert cluster.seen("ConfigMap", f"chalk-sg-hist-{made.id}") is not None


def test_what_is_made_late_is_waited_for(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    template = cluster.api.get("Deployment", "web", "default")["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-late",
            "namespace": "default",
            "labels": template["metadata"]["labels"],
            "finalizers": ["example.com/slow"],
        },
        "spec": template["spec"],
    }
    obj = cluster.api.get("Service", "web", "default")
    obj["metadata"]["finalizers"] = ["example.com/slow"]
    cluster.api.update(obj, manager="x")

    def make_pod_and_let_go() -> None:
        cluster.put(pod)
        held = cluster.api.get("Service", "web", "default")
        held["metadata"]["finalizers"] = []
        cluster.api.update(held, manager="x")

    def on_progress(step: Progress) -> None:
        if step.message == "waiting for Service/web":
            make_pod_and_let_go()

    with pytest.raises(ConflictError, match="Pod/web-late"):
        client.delete_scaling_group("web", timeout=3, on_progress=on_progress)


def test_history_keeps_the_newest_of_a_name(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, clock: Clock
) -> None:
    client.create_scaling_group(replace(spec, name="other"))
    client.delete_scaling_group("other")
    ids = []
    for _ in range(22):
        clock.seconds += 10
        ids.append(client.create_scaling_group(spec).info.id)
        client.delete_scaling_group("web")
    found = client.list_scaling_groups(include_deleted=True).scaling_groups
    assert sorted(info.id for info in found if info.name == "web") == sorted(ids[2:])
    assert [info.name for info in found if info.name != "web"] == ["other"]


def test_what_is_still_being_deleted_is_named_as_such(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    obj = cluster.api.get("Service", "web", "default")
    obj["metadata"]["finalizers"] = ["example.com/slow"]
    cluster.api.update(obj, manager="x")
    with pytest.raises(ConflictError):
        client.delete_scaling_group("web", timeout=1)
    with pytest.raises(NotOwnedError, match=r"Service `web` .* is still being deleted"):
        client.create_scaling_group(spec)


def test_a_group_that_never_was(client: ChalkClient) -> None:
    with pytest.raises(NotFoundError, match="`ghost`") as caught:
        client.delete_scaling_group("ghost")
    assert caught.value.exit_code == 3
    with pytest.raises(NotFoundError):
        client.delete_scaling_group(id="no-such-id")


def test_exactly_one_of_name_and_id(client: ChalkClient) -> None:
    with pytest.raises(SpecError):
        client.delete_scaling_group()
    with pytest.raises(SpecError):
        client.get_scaling_group("a", id="b")


def test_a_config_map_of_someone_else_is_no_group(client: ChalkClient, cluster: ApiCluster) -> None:
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "chalk-sg-web", "namespace": "default"},
        }
    )
    with pytest.raises(NotOwnedError):
        client.delete_scaling_group("web")
    assert left(cluster) == ["ConfigMap/chalk-sg-web"]


def test_what_does_not_go_is_listed_when_time_is_up(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    obj = cluster.api.get("Service", "web", "default")
    obj["metadata"]["finalizers"] = ["example.com/slow"]
    cluster.api.update(obj, manager="x")
    with pytest.raises(ConflictError, match="Service/web") as caught:
        client.delete_scaling_group("web", timeout=3)
    assert caught.value.hint is not None
    assert "example.com/slow" in caught.value.hint
