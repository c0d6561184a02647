"""The verbs without HTTP: what controllers see."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalkcompute.local.api.deletion import DeleteOptions
from chalkcompute.local.api.listing import ListQuery, select
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store
from chalkcompute.local.api.writes import JSON_PATCH, MERGE_PATCH, WriteOptions
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.status import StatusError

CONFIG_MAP = by_kind("ConfigMap")
OPTIONS = WriteOptions(manager="test", api_version="v1")


def config_map(name: str, **extra: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **extra.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **extra}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": "python:3.12"}], **spec},
    }


def refused(act: Any, code: int, reason: str) -> StatusError:
    with pytest.raises(StatusError) as failure:
        act()
    assert (failure.value.code, failure.value.reason) == (code, reason)
    return failure.value


def make(api: ResourceApi, name: str, **extra: Any) -> dict[str, Any]:
    return api.create(config_map(name, **extra), manager="test")


def test_system_namespaces_exist_from_the_start(api: ResourceApi, store: Store) -> None:
    found = {o["metadata"]["name"]: o for o in api.list("Namespace")}
    assert set(found) == {"default", "kube-system"}
    assert found["default"]["spec"]["finalizers"] == ["kubernetes"]
    assert found["default"]["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}
    assert found["default"]["status"] == {"phase": "Active"}
    uid = found["default"]["metadata"]["uid"]
    assert ResourceApi(store).get("Namespace", "default")["metadata"]["uid"] == uid


def test_created_objects_get_their_system_fields(store: Store) -> None:
    api = ResourceApi(store, now=lambda: datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
    body = config_map("a", data={"k": "1"}, metadata={"uid": "mine", "generation": 7})
    created = api.create(body, manager="test")
    metadata = created["metadata"]
    assert metadata["creationTimestamp"] == "2026-01-02T03:04:05Z"
    assert metadata["uid"] != "mine"
    assert "generation" not in metadata
    assert metadata["resourceVersion"] == str(store.revision)
    assert body["metadata"]["uid"] == "mine", "the caller's object is left alone"


def test_returned_objects_are_copies(api: ResourceApi) -> None:
    make(api, "a", data={"k": "1"})
    api.get("ConfigMap", "a", "default")["data"]["k"] = "changed"
    api.list("ConfigMap", "default")[0]["data"]["k"] = "changed"
    assert api.get("ConfigMap", "a", "default")["data"] == {"k": "1"}


def test_generated_names(api: ResourceApi) -> None:
    body = config_map("", metadata={"generateName": "gen-"})
    names = {api.create(body, manager="test")["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


def test_create_refuses_what_exists(api: ResourceApi) -> None:
    make(api, "a")
    failure = refused(lambda: make(api, "a"), 409, "AlreadyExists")
    assert failure.details == {"name": "a", "kind": "configmaps"}


def test_create_refuses_an_absent_namespace(api: ResourceApi) -> None:
    body = config_map("a", metadata={"namespace": "absent"})
    failure = refused(lambda: api.create(body, manager="test"), 404, "NotFound")
    assert failure.message == 'namespaces "absent" not found'
    assert api.list("ConfigMap", "absent") == []


def test_create_refuses_a_terminating_namespace(api: ResourceApi) -> None:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}, manager="test")
    api.delete("Namespace", "n")
    assert api.get("Namespace", "n")["status"]["phase"] == "Terminating"
    body = config_map("a", metadata={"namespace": "n"})
    failure = refused(lambda: api.create(body, manager="test"), 403, "Forbidden")
    assert [cause.reason for cause in failure.causes] == ["NamespaceTerminating"]


def test_finalize_lets_a_namespace_go(api: ResourceApi) -> None:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}, manager="test")
    api.delete("Namespace", "n")
    namespace = api.get("Namespace", "n")
    namespace["spec"]["finalizers"] = []
    api.update(namespace, manager="test", subresource="finalize")
    refused(lambda: api.get("Namespace", "n"), 404, "NotFound")


def test_system_namespaces_cannot_be_deleted(api: ResourceApi) -> None:
    refused(lambda: api.delete("Namespace", "default"), 403, "Forbidden")


def test_update_with_a_stale_version_is_a_conflict(api: ResourceApi) -> None:
    stale = make(api, "a", data={"k": "1"})
    api.update({**stale, "data": {"k": "2"}}, manager="test")
    failure = refused(lambda: api.update({**stale, "data": {"k": "3"}}, manager="test"), 409, "Conflict")
    assert "the object has been modified" in failure.message
    assert api.get("ConfigMap", "a", "default")["data"] == {"k": "2"}


def test_update_without_a_version_wins(api: ResourceApi) -> None:
    created = make(api, "a", data={"k": "1"})
    api.update(config_map("a", data={"k": "2"}), manager="test")
    updated = api.get("ConfigMap", "a", "default")
    assert updated["data"] == {"k": "2"}
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]


def test_update_of_another_incarnation_is_a_conflict(api: ResourceApi) -> None:
    make(api, "a")
    failure = refused(
        lambda: api.update(config_map("a", metadata={"uid": "former"}), manager="test"), 409, "Conflict"
    )
    assert "UID in precondition: former" in failure.message


def test_update_that_changes_nothing_leaves_the_version(api: ResourceApi, store: Store) -> None:
    created = make(api, "a", data={"k": "1"})
    api.update(config_map("a", data={"k": "1"}), manager="test")
    assert api.get("ConfigMap", "a", "default") == created
    assert str(store.revision) == created["metadata"]["resourceVersion"]


def test_status_and_spec_are_updated_apart(api: ResourceApi) -> None:
    created = api.create(pod("p"), manager="test")
    status = {**created, "spec": {**created["spec"], "nodeName": "n"}, "status": {"phase": "Running"}}
    api.update(status, manager="kubelet", subresource="status")
    after = api.get("Pod", "p", "default")
    assert after["status"]["phase"] == "Running"
    assert "nodeName" not in after["spec"]


def test_put_of_an_absent_lease_creates_it(api: ResourceApi) -> None:
    metadata = {"name": "l", "namespace": "default"}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    assert api.update(body, manager="test")["metadata"]["uid"]
    unversioned = refused(lambda: api.update(body, manager="test"), 422, "Invalid")
    assert [cause.field for cause in unversioned.causes] == ["metadata.resourceVersion"]


def test_dry_run_leaves_nothing(api: ResourceApi, store: Store) -> None:
    before = store.revision
    dry = WriteOptions(manager="test", api_version="v1", dry_run=True)
    written = api.post(CONFIG_MAP, "default", config_map("a"), dry)
    assert written.created
    assert "resourceVersion" not in written.obj["metadata"]
    assert store.revision == before
    make(api, "a", data={"k": "1"})
    patched = api.patch(CONFIG_MAP, "default", "a", {"data": {"k": "2"}}, MERGE_PATCH, dry)
    assert patched.obj["data"] == {"k": "2"}
    api.remove(CONFIG_MAP, "default", "a", DeleteOptions(dry_run=True))
    assert api.get("ConfigMap", "a", "default")["data"] == {"k": "1"}


def test_patch_cannot_rename(api: ResourceApi) -> None:
    make(api, "a")
    patch = [{"op": "replace", "path": "/metadata/name", "value": "b"}]
    refused(lambda: api.patch(CONFIG_MAP, "default", "a", patch, JSON_PATCH, OPTIONS), 400, "BadRequest")


def test_patch_cannot_set_system_fields(api: ResourceApi) -> None:
    created = make(api, "a")
    patch = {"metadata": {"creationTimestamp": None, "labels": {"x": "y"}}}
    patched = api.patch(CONFIG_MAP, "default", "a", patch, MERGE_PATCH, OPTIONS).obj
    assert patched["metadata"]["creationTimestamp"] == created["metadata"]["creationTimestamp"]
    assert patched["metadata"]["labels"] == {"x": "y"}


def test_services_get_and_keep_an_address(api: ResourceApi) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "default"}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"port": 80}], **spec},
        }

    first = api.create(service("a"), manager="test")["spec"]
    second = api.create(service("b"), manager="test")["spec"]
    assert first["clusterIP"] != second["clusterIP"]
    assert first["clusterIPs"] == [first["clusterIP"]]
    assert api.create(service("h", clusterIP="None"), manager="test")["spec"]["clusterIPs"] == ["None"]
    replaced = api.update(service("a", selector={"x": "y"}), manager="test")["spec"]
    assert (replaced["clusterIP"], replaced["selector"]) == (first["clusterIP"], {"x": "y"})
    taken = service("c", clusterIP=first["clusterIP"])
    refused(lambda: api.create(taken, manager="test"), 422, "Invalid")


# Deletion ------------------------------------------------------------------------------------


def test_delete_without_finalizers_is_at_once(api: ResourceApi) -> None:
    make(api, "a")
    obj, gone = api.remove(CONFIG_MAP, "default", "a", DeleteOptions())
    assert gone
    assert obj["metadata"]["name"] == "a"
    refused(lambda: api.get("ConfigMap", "a", "default"), 404, "NotFound")
    refused(lambda: api.delete("ConfigMap", "a", "default"), 404, "NotFound")


@pytest.mark.parametrize(
    ("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")]
)
def test_propagation_leaves_the_collector_its_finalizer(
    api: ResourceApi, policy: str, finalizer: str
) -> None:
    make(api, "a")
    api.delete("ConfigMap", "a", "default", propagation=policy)
    held = api.get("ConfigMap", "a", "default")
    assert held["metadata"]["finalizers"] == [finalizer]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    held["metadata"]["finalizers"] = []
    api.update(held, manager="gc")
    refused(lambda: api.get("ConfigMap", "a", "default"), 404, "NotFound")


def test_finalizers_hold_an_object_until_the_last_is_gone(api: ResourceApi) -> None:
    make(api, "a", metadata={"finalizers": ["example.com/one", "example.com/two"]})
    api.delete("ConfigMap", "a", "default")
    held = api.get("ConfigMap", "a", "default")
    first_marked = held["metadata"]["deletionTimestamp"]
    held["metadata"]["finalizers"] = ["example.com/two"]
    api.update(held, manager="test")
    api.delete("ConfigMap", "a", "default")
    held = api.get("ConfigMap", "a", "default")
    assert held["metadata"]["deletionTimestamp"] == first_marked
    api.patch(CONFIG_MAP, "default", "a", {"metadata": {"finalizers": None}}, MERGE_PATCH, OPTIONS)
    refused(lambda: api.get("ConfigMap", "a", "default"), 404, "NotFound")


def test_delete_preconditions(api: ResourceApi) -> None:
    created = make(api, "a")
    refused(lambda: api.delete("ConfigMap", "a", "default", uid="other"), 409, "Conflict")
    stale = DeleteOptions(resource_version="1")
    refused(lambda: api.remove(CONFIG_MAP, "default", "a", stale), 409, "Conflict")
    api.delete("ConfigMap", "a", "default", uid=created["metadata"]["uid"])
    refused(lambda: api.get("ConfigMap", "a", "default"), 404, "NotFound")


def test_a_scheduled_pod_is_only_marked(store: Store) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    api = ResourceApi(store, now=lambda: now)
    api.create(pod("p", nodeName="n", terminationGracePeriodSeconds=20), manager="test")
    api.delete("Pod", "p", "default")
    marked = api.get("Pod", "p", "default")["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 20
    assert datetime.fromisoformat(marked["deletionTimestamp"]) == now + timedelta(seconds=20)
    api.delete("Pod", "p", "default", grace_seconds=5)
    shortened = api.get("Pod", "p", "default")["metadata"]
    assert datetime.fromisoformat(shortened["deletionTimestamp"]) == now + timedelta(seconds=5)
    api.delete("Pod", "p", "default", grace_seconds=50)
    assert api.get("Pod", "p", "default")["metadata"]["deletionGracePeriodSeconds"] == 5
    api.delete("Pod", "p", "default", grace_seconds=0)
    refused(lambda: api.get("Pod", "p", "default"), 404, "NotFound")


def test_a_pod_without_a_node_goes_at_once(api: ResourceApi) -> None:
    api.create(pod("p"), manager="test")
    api.delete("Pod", "p", "default")
    refused(lambda: api.get("Pod", "p", "default"), 404, "NotFound")


def test_deleting_a_collection(api: ResourceApi) -> None:
    for name in ("a", "b", "c"):
        make(api, name, metadata={"labels": {"odd": str(name != "b")}})
    page = api.remove_all(select(CONFIG_MAP, "default", "odd=True"), ListQuery(), DeleteOptions())
    assert [o["metadata"]["name"] for o in page.items] == ["a", "c"]
    assert [o["metadata"]["name"] for o in api.list("ConfigMap", "default")] == ["b"]


# Lists and changes ---------------------------------------------------------------------------


def test_pages_show_one_moment(api: ResourceApi) -> None:
    for name in "abcde":
        make(api, name)
    selection = select(CONFIG_MAP, "default")
    first = api.page(selection, ListQuery(limit=2))
    assert first.remaining == 3
    make(api, "bb")
    api.delete("ConfigMap", "d", "default")
    second = api.page(selection, ListQuery(limit=2, token=first.token))
    third = api.page(selection, ListQuery(limit=2, token=second.token))
    names = [[o["metadata"]["name"] for o in page.items] for page in (first, second, third)]
    assert names == [["a", "b"], ["c", "d"], ["e"]]
    assert (third.token, third.remaining) == ("", None)
    assert {page.revision for page in (first, second, third)} == {first.revision}


def test_a_page_whose_moment_has_gone_is_expired(api: ResourceApi, store: Store, tmp_path: Any) -> None:
    for name in "abc":
        make(api, name)
    token = api.page(select(CONFIG_MAP, "default"), ListQuery(limit=1)).token
    make(api, "d")
    again = Store(tmp_path / "store.db")
    late = ListQuery(limit=1, token=token)
    refused(lambda: ResourceApi(again).page(select(CONFIG_MAP, "default"), late), 410, "Expired")
    again.close()


def test_a_version_of_the_future_times_out(api: ResourceApi) -> None:
    query = ListQuery(resource_version="999999")
    failure = refused(lambda: api.page(select(CONFIG_MAP, "default"), query), 504, "Timeout")
    assert failure.details["retryAfterSeconds"] == 1


@pytest.mark.parametrize("token", ["nonsense", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEvYiJ9"])
def test_a_bad_token_is_refused(api: ResourceApi, token: str) -> None:
    refused(lambda: api.page(select(CONFIG_MAP, "default"), ListQuery(token=token)), 400, "BadRequest")


def test_list_by_labels(api: ResourceApi) -> None:
    make(api, "a", metadata={"labels": {"x": "1", "y": "1"}})
    make(api, "b", metadata={"labels": {"x": "1"}})
    found = api.list("ConfigMap", "default", labels={"x": "1", "y": "1"})
    assert [o["metadata"]["name"] for o in found] == ["a"]


def test_changes_replay_then_follow(api: ResourceApi) -> None:
    make(api, "a")

    async def follow() -> list[tuple[str, str]]:
        stream = api.changes(["ConfigMap", "Secret"])
        make(api, "b")
        api.delete("ConfigMap", "a", "default")
        seen = []
        async for change in stream:
            seen.append((change.type, change.obj["metadata"]["name"]))
            if len(seen) == 3:
                break
        return seen

    assert asyncio.run(follow()) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_changes_without_replay(api: ResourceApi) -> None:
    make(api, "a")

    async def follow() -> str:
        stream = api.changes(["ConfigMap"], replay=False)
        make(api, "b")
        async for change in stream:
            return str(change.obj["metadata"]["name"])
        return ""

    assert asyncio.run(follow()) == "b"
