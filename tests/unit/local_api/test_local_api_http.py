"""The HTTP face over a real TLS socket."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiohttp import web

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.server import ApiServer
from chalkcompute.local.api.store import Store

SPACE = "/api/v1/namespaces/default"
CONFIG_MAPS = f"{SPACE}/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}


class NoLogs:
    def open(self, namespace: str, pod: str, pod_uid: str, container: str, previous: bool) -> Path | None:
        return None


class Answer(Protocol):
    status: int
    headers: Any
    raw: bytes
    body: Any


class Cluster(Protocol):
    """What `conftest.Cluster` offers."""

    port: int
    api: Any
    logs: Any

    def call(self, method: str, path: str, body: object = None, **more: Any) -> Answer: ...
    def send(
        self, connection: Any, method: str, path: str, body: object = None, **more: Any
    ) -> HTTPResponse: ...
    def connect(self) -> Any: ...
    def inside(self, act: Any) -> Any: ...
    def close_server(self) -> None: ...


def config_map(name: str, **extra: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **extra}


def make(cluster: Cluster, name: str, **extra: Any) -> Any:
    answer = cluster.call("POST", CONFIG_MAPS, config_map(name, **extra))
    assert answer.status == 201, answer.raw
    return answer.body


# Who may ask, and for what ---------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "Bearer wrong", "token-of-this-test"])
def test_other_tokens_are_unauthorized(cluster: Cluster, header: str) -> None:
    answer = cluster.call("GET", CONFIG_MAPS, headers={"Authorization": header})
    assert answer.status == 401
    assert (answer.body["kind"], answer.body["reason"]) == ("Status", "Unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez/ping", "/version"])
def test_health_and_version_are_public(cluster: Cluster, path: str) -> None:
    assert cluster.call("GET", path, headers={"Authorization": ""}).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apis/nope.example.com/v1/things", 404),
        ("GET", "/apis/nope.example.com", 404),
        ("GET", "/nothing", 404),
        ("GET", f"{SPACE}/nothings", 404),
        ("GET", f"{SPACE}/configmaps/a/nothing", 404),
        ("GET", "/api/v1/configmaps/a", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("PUT", CONFIG_MAPS, 405),
        ("POST", "/api/v1/configmaps", 405),
        ("POST", f"{CONFIG_MAPS}/a", 405),
        ("POST", "/version", 405),
        ("PATCH", f"{SPACE}/pods/p/log", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
    ],
)
def test_what_is_not_served(cluster: Cluster, method: str, path: str, status: int) -> None:
    assert cluster.call(method, path, {} if method in ("POST", "PUT", "PATCH") else None).status == status


def test_unknown_groups_are_a_plain_404_and_unknown_resources_a_status(cluster: Cluster) -> None:
    assert cluster.call("GET", "/apis/nope.example.com/v1/things").raw == b"404 page not found\n"
    body = cluster.call("GET", f"{SPACE}/nothings").body
    assert (body["reason"], body["message"]) == (
        "NotFound",
        "the server could not find the requested resource",
    )


def test_an_unforeseen_failure_is_an_internal_error(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    def explode() -> None:
        raise ZeroDivisionError("by design")

    cluster.api.page = lambda *_: explode()
    answer = cluster.call("GET", CONFIG_MAPS)
    assert (answer.status, answer.body["reason"]) == (500, "InternalError")
    assert "by design" in caplog.text


# Discovery -------------------------------------------------------------------------------------


def test_aggregated_discovery(cluster: Cluster) -> None:
    accept = {
        "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    }
    answer = cluster.call("GET", "/apis", headers=accept)
    assert answer.headers["Content-Type"] == accept["Accept"].split(",", maxsplit=1)[0]
    groups = {item["metadata"]["name"]: item for item in answer.body["items"]}
    assert [v["version"] for v in groups["gateway.networking.k8s.io"]["versions"]] == ["v1", "v1beta1"]
    deployments = next(
        r for r in groups["apps"]["versions"][0]["resources"] if r["resource"] == "deployments"
    )
    assert deployments["scope"] == "Namespaced"
    assert deployments["shortNames"] == ["deploy"]
    scale = next(s for s in deployments["subresources"] if s["subresource"] == "scale")
    assert scale["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    core = cluster.call("GET", "/api", headers=accept).body
    assert "pods" in [r["resource"] for r in core["items"][0]["versions"][0]["resources"]]


def test_plain_discovery(cluster: Cluster) -> None:
    assert cluster.call("GET", "/api").body["versions"] == ["v1"]
    groups = cluster.call("GET", "/apis").body["groups"]
    assert {"apps", "autoscaling", "gateway.networking.k8s.io"} <= {g["name"] for g in groups}
    assert cluster.call("GET", "/apis/apps").body["preferredVersion"]["groupVersion"] == "apps/v1"
    names = {r["name"] for r in cluster.call("GET", "/apis/apps/v1").body["resources"]}
    assert {"deployments", "deployments/scale", "deployments/status"} <= names
    assert "/apis/apps/v1" in cluster.call("GET", "/").body["paths"]


def test_openapi(cluster: Cluster) -> None:
    paths = cluster.call("GET", "/openapi/v3").body["paths"]
    document = cluster.call("GET", paths["apis/apps/v1"]["serverRelativeURL"].split("?")[0]).body
    assert document["openapi"].startswith("3.")
    assert cluster.call("GET", "/openapi/v3/apis/nope/v1").status == 404
    assert cluster.call("GET", "/openapi/v2").status == 404


# Objects ---------------------------------------------------------------------------------------


def test_create_read_replace_delete(cluster: Cluster) -> None:
    created = make(cluster, "a", data={"k": "1"})
    assert created["metadata"]["namespace"] == "default"
    path = f"{CONFIG_MAPS}/a"
    assert cluster.call("GET", path).body == created
    version = created["metadata"]["resourceVersion"]
    replaced = cluster.call("PUT", path, config_map("a", data={"k": "2"}))
    assert (replaced.status, replaced.body["data"]) == (200, {"k": "2"})
    stale = config_map("a", data={"k": "3"})
    stale["metadata"]["resourceVersion"] = version
    assert cluster.call("PUT", path, stale).body["reason"] == "Conflict"
    gone = cluster.call("DELETE", path)
    assert gone.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]},
    }
    assert cluster.call("GET", path).body["details"] == {"name": "a", "kind": "configmaps"}


def test_typed_clients_leave_out_the_kind(cluster: Cluster) -> None:
    created = cluster.call("POST", CONFIG_MAPS, {"metadata": {"name": "a"}})
    assert (created.status, created.body["kind"], created.body["apiVersion"]) == (201, "ConfigMap", "v1")
    assert cluster.call("PUT", f"{CONFIG_MAPS}/a", {"metadata": {"name": "a"}}).status == 200
    route = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"
    assert cluster.call("POST", route, {"metadata": {"name": "r"}}).status == 400


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, {"propagationPolicy": "Foreground"}),
        ({"propagationPolicy": "Foreground"}, None),
    ],
)
def test_an_object_that_lingers_is_the_answer(cluster: Cluster, query: dict[str, str], body: Any) -> None:
    make(cluster, "a")
    answer = cluster.call("DELETE", f"{CONFIG_MAPS}/a", body, query=query)
    assert answer.body["kind"] == "ConfigMap"
    assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]


def test_delete_options_are_checked(cluster: Cluster) -> None:
    make(cluster, "a")
    path = f"{CONFIG_MAPS}/a"
    assert cluster.call("DELETE", path, {"propagationPolicy": "Sideways"}).status == 422
    assert cluster.call("DELETE", path, {"gracePeriodSeconds": "soon"}).status == 400
    assert cluster.call("DELETE", path, {"preconditions": {"uid": "other"}}).status == 409
    assert cluster.call("DELETE", path, {"propagationPolicy": ["Orphan"]}).status == 422
    assert cluster.call("DELETE", path, {"preconditions": "uid"}).status == 400
    assert cluster.call("DELETE", path, {"dryRun": ["Some"]}).status == 422
    assert cluster.call("DELETE", path, []).status == 400
    assert cluster.call("DELETE", path, {"dryRun": ["All"]}).status == 200
    assert cluster.call("GET", path).status == 200


def test_eviction_deletes_a_pod(cluster: Cluster) -> None:
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "i:1"}]}}
    assert cluster.call("POST", f"{SPACE}/pods", body).status == 201
    path = f"{SPACE}/pods/p/eviction"
    assert cluster.call("POST", path, []).status == 400
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert cluster.call("POST", path, eviction).status == 201
    assert cluster.call("GET", f"{SPACE}/pods/p").status == 404


def test_bodies_in_yaml(cluster: Cluster) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {day: 2026-01-01}\n"
    answer = cluster.call("POST", CONFIG_MAPS, body, headers={"Content-Type": "application/yaml"})
    assert (answer.status, answer.body["data"]) == (201, {"day": "2026-01-01"})


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{not json", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b"<xml/>", "application/xml", 415),
    ],
)
def test_bodies_that_cannot_be_read(cluster: Cluster, body: bytes, content_type: str, status: int) -> None:
    answer = cluster.call("POST", CONFIG_MAPS, body, headers={"Content-Type": content_type})
    assert (answer.status, answer.body["kind"]) == (status, "Status")


def test_bodies_that_are_too_large(cluster: Cluster) -> None:
    answer = cluster.call("POST", CONFIG_MAPS, config_map("a", data={"k": "x" * 3_200_000}))
    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")
    # As one chunk, so that its length is known only when it has been read.
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (3_200_000, b"x" * 3_200_000)
    answer = cluster.call("POST", CONFIG_MAPS, chunk, headers={"Transfer-Encoding": "chunked"})
    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")


def test_a_body_of_more_than_aiohttp_takes_by_itself(cluster: Cluster) -> None:
    made = cluster.call("POST", CONFIG_MAPS, config_map("a", binaryData={"k": "eHh4" * 300_000}))
    assert (made.status, len(made.body["binaryData"]["k"])) == (201, 1_200_000)


def test_patches(cluster: Cluster) -> None:
    make(cluster, "a", data={"k": "1", "n": "1"})
    path = f"{CONFIG_MAPS}/a"
    assert cluster.call("PATCH", path, {"data": {"k": None}}, headers=MERGE).body["data"] == {"n": "1"}
    operations = [{"op": "add", "path": "/data/z", "value": "9"}]
    json_patch = {"Content-Type": "application/json-patch+json"}
    assert cluster.call("PATCH", path, operations, headers=json_patch).body["data"] == {"n": "1", "z": "9"}
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert cluster.call("PATCH", path, {"data": {"z": None}}, headers=strategic).body["data"] == {"n": "1"}
    unknown = cluster.call("PATCH", path, {}, headers={"Content-Type": "text/plain"})
    assert (unknown.status, unknown.body["reason"]) == (415, "UnsupportedMediaType")
    route = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/r"
    assert cluster.call("PATCH", route, {}, headers=strategic).status == 415


def test_apply_creates_then_changes(cluster: Cluster) -> None:
    path, query = f"{CONFIG_MAPS}/a", {"fieldManager": "chalk"}
    dry = cluster.call(
        "PATCH", path, config_map("a", data={"x": "1"}), headers=APPLY, query=query | {"dryRun": "All"}
    )
    assert dry.status == 201
    assert cluster.call("GET", path).status == 404
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n"
    created = cluster.call("PATCH", path, body, headers=APPLY, query=query)
    assert (created.status, created.body["data"]) == (201, {"x": "1"})
    again = cluster.call("PATCH", path, body, headers=APPLY, query=query)
    assert (again.status, again.body) == (200, created.body)
    nobody = cluster.call("PATCH", path, body, headers=APPLY)
    assert (nobody.status, nobody.body["details"]["causes"][0]["field"]) == (422, "fieldManager")


@pytest.mark.parametrize(
    ("query", "field"), [({"dryRun": "Some"}, "dryRun"), ({"fieldValidation": "Loose"}, "fieldValidation")]
)
def test_write_options_are_checked(cluster: Cluster, query: dict[str, str], field: str) -> None:
    answer = cluster.call("POST", CONFIG_MAPS, config_map("a"), query=query)
    assert answer.status == 422
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == [field]


def test_unknown_fields_warn(cluster: Cluster) -> None:
    answer = cluster.call("POST", CONFIG_MAPS, config_map("a", bogus=1))
    assert answer.status == 201
    assert answer.headers["Warning"] == '299 - "unknown field \\"bogus\\""'
    strict = cluster.call("POST", CONFIG_MAPS, config_map("b", bogus=1), query={"fieldValidation": "Strict"})
    assert strict.status == 400


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "i:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_scale(cluster: Cluster) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert cluster.call("POST", path, deployment("web", 2)).status == 201
    scale = cluster.call("GET", f"{path}/web/scale").body
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 0, "selector": "app=web"},
    )
    assert cluster.call("PUT", f"{path}/web/scale", scale | {"spec": {"replicas": 3}}).body["spec"] == {
        "replicas": 3
    }
    assert cluster.call("PUT", f"{path}/web/scale", scale | {"spec": {"replicas": 4}}).status == 409
    patched = cluster.call("PATCH", f"{path}/web/scale", {"spec": {"replicas": 0}}, headers=MERGE)
    assert (patched.body["kind"], patched.body["spec"]) == ("Scale", {})
    assert cluster.call("GET", f"{path}/web").body["spec"]["replicas"] == 0
    negative = cluster.call("PATCH", f"{path}/web/scale", {"spec": {"replicas": -1}}, headers=MERGE)
    assert negative.status == 422
    other = scale | {"metadata": {"name": "other"}}
    for body in (other, scale | {"metadata": "web"}, scale | {"spec": []}, scale | {"kind": "Deployment"}):
        assert cluster.call("PUT", f"{path}/web/scale", body).status == 400
    assert cluster.call("PUT", f"{path}/web/scale", scale | {"spec": {"replicas": "3"}}).status == 400


def test_access_reviews(cluster: Cluster) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    spec = {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = cluster.call("POST", path, body)
    assert (answer.status, answer.body["status"]) == (201, {"allowed": True})
    assert cluster.call("POST", path, body | {"spec": {}}).status == 400
    rules = cluster.call(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {"spec": {"namespace": "default"}},
    )
    assert rules.body["status"]["resourceRules"][0]["verbs"] == ["*"]


def test_another_version_of_a_kind(cluster: Cluster) -> None:
    base = "/apis/gateway.networking.k8s.io/{}/namespaces/default/httproutes"
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"hostnames": ["a.example.com"]},
    }
    assert cluster.call("POST", base.format("v1beta1"), body).body["apiVersion"] == body["apiVersion"]
    served = cluster.call("GET", base.format("v1") + "/r").body
    assert served["apiVersion"] == "gateway.networking.k8s.io/v1"
    listed = cluster.call("GET", base.format("v1beta1")).body
    assert [item["apiVersion"] for item in listed["items"]] == [body["apiVersion"]]


# Lists and forms -------------------------------------------------------------------------------


def test_lists(cluster: Cluster) -> None:
    for name in "abc":
        make(cluster, name)
    page = cluster.call("GET", CONFIG_MAPS, query={"limit": "2"}).body
    assert page["kind"] == "ConfigMapList"
    assert page["metadata"]["remainingItemCount"] == 1
    assert [item["metadata"]["name"] for item in page["items"]] == ["a", "b"]
    assert "kind" not in page["items"][0]
    rest = cluster.call(
        "GET", CONFIG_MAPS, query={"limit": "2", "continue": page["metadata"]["continue"]}
    ).body
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert "continue" not in rest["metadata"]
    everywhere = cluster.call("GET", "/api/v1/configmaps", query={"fieldSelector": "metadata.name=b"}).body
    assert [item["metadata"]["name"] for item in everywhere["items"]] == ["b"]
    assert cluster.call("GET", CONFIG_MAPS, query={"limit": "many"}).status == 400
    deleted = cluster.call("DELETE", CONFIG_MAPS).body
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["a", "b", "c"]
    assert cluster.call("GET", CONFIG_MAPS).body["items"] == []


def test_tables_and_metadata(cluster: Cluster) -> None:
    make(cluster, "a", data={"k": "1"})
    table = cluster.call("GET", CONFIG_MAPS, headers={"Accept": TABLE}).body
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = cluster.call(
        "GET", f"{CONFIG_MAPS}/a", headers={"Accept": TABLE}, query={"includeObject": "Object"}
    ).body
    assert one["rows"][0]["object"]["data"] == {"k": "1"}
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    metadata = cluster.call("GET", CONFIG_MAPS, headers=accept).body
    assert metadata["kind"] == "PartialObjectMetadataList"
    assert set(metadata["items"][0]) == {"kind", "apiVersion", "metadata"}
    yaml = cluster.call("GET", f"{CONFIG_MAPS}/a", headers={"Accept": "application/yaml"})
    assert b"\nkind: ConfigMap\n" in b"\n" + yaml.raw
    assert cluster.call("GET", CONFIG_MAPS, headers={"Accept": "text/html"}).status == 406


# Watches ---------------------------------------------------------------------------------------


@pytest.fixture
def watch(cluster: Cluster) -> Iterator[Any]:
    connections = []

    def start(query: dict[str, str], accept: str = "application/json") -> HTTPResponse:
        connection = cluster.connect()
        connections.append(connection)
        return cluster.send(
            connection, "GET", CONFIG_MAPS, query={"watch": "true", **query}, headers={"Accept": accept}
        )

    yield start
    for connection in connections:
        connection.close()


def event(response: HTTPResponse) -> tuple[str, Any]:
    document = json.loads(response.readline())
    return document["type"], document["object"]


def test_watch_from_a_version(cluster: Cluster, watch: Any) -> None:
    make(cluster, "a", metadata={"name": "a", "labels": {"n": "1"}})
    version = cluster.call("GET", CONFIG_MAPS).body["metadata"]["resourceVersion"]
    stream = watch({"resourceVersion": version, "labelSelector": "n"})
    make(cluster, "other")
    cluster.call("PATCH", f"{CONFIG_MAPS}/a", {"data": {"k": "1"}}, headers=MERGE)
    type_, obj = event(stream)
    assert (type_, obj["data"]) == ("MODIFIED", {"k": "1"})
    cluster.call("PATCH", f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"n": None}}}, headers=MERGE)
    type_, obj = event(stream)
    assert (type_, obj["metadata"]["labels"]) == ("DELETED", {"n": "1"})
    cluster.call("PATCH", f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"n": "2"}}}, headers=MERGE)
    assert event(stream)[0] == "ADDED"
    cluster.call("DELETE", f"{CONFIG_MAPS}/a")
    type_, gone = event(stream)
    assert type_ == "DELETED"
    assert int(gone["metadata"]["resourceVersion"]) > int(obj["metadata"]["resourceVersion"])


def test_watch_catches_up_from_history(cluster: Cluster, watch: Any) -> None:
    version = cluster.call("GET", CONFIG_MAPS).body["metadata"]["resourceVersion"]
    make(cluster, "a")
    cluster.call("DELETE", f"{CONFIG_MAPS}/a")
    stream = watch({"resourceVersion": version})
    assert [event(stream)[0] for _ in range(2)] == ["ADDED", "DELETED"]


def test_watch_without_a_version_starts_with_what_exists(cluster: Cluster, watch: Any) -> None:
    make(cluster, "a")
    type_, obj = event(watch({}))
    assert (type_, obj["metadata"]["name"]) == ("ADDED", "a")


def test_watch_list_ends_its_initial_events_with_a_bookmark(cluster: Cluster, watch: Any) -> None:
    make(cluster, "a")
    stream = watch(
        {
            "sendInitialEvents": "true",
            "allowWatchBookmarks": "true",
            "resourceVersionMatch": "NotOlderThan",
        }
    )
    assert event(stream)[0] == "ADDED"
    type_, obj = event(stream)
    assert type_ == "BOOKMARK"
    assert obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_watch_ends_after_its_time_with_a_bookmark(watch: Any) -> None:
    stream = watch({"timeoutSeconds": "1", "allowWatchBookmarks": "true"})
    type_, obj = event(stream)
    assert type_ == "BOOKMARK"
    assert obj["kind"] == "ConfigMap"
    assert stream.readline() == b""


@pytest.mark.parametrize(("version", "code", "reason"), [("1", 410, "Expired"), ("999999", 504, "Timeout")])
def test_watch_from_what_is_not_there(watch: Any, version: str, code: int, reason: str) -> None:
    stream = watch({"resourceVersion": version})
    type_, status = event(stream)
    assert (type_, status["code"], status["reason"]) == ("ERROR", code, reason)
    assert stream.readline() == b""


def test_watch_as_tables(cluster: Cluster, watch: Any) -> None:
    make(cluster, "a")
    stream = watch({}, TABLE)
    _, first = event(stream)
    assert [c["name"] for c in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    make(cluster, "b", data={"k": "1"})
    _, second = event(stream)
    assert (second["columnDefinitions"], second["rows"][0]["cells"][:2]) == ([], ["b", 1])


def test_watch_ends_when_the_client_has_gone(cluster: Cluster) -> None:
    def watchers() -> int:
        return len(cluster.inside(lambda: list(cluster.api.store._shelf("ConfigMap").subscribers)))

    connection = cluster.connect()
    cluster.send(connection, "GET", CONFIG_MAPS, query={"watch": "true"})
    assert watchers() == 1
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    deadline = time.monotonic() + 60
    while watchers():
        assert time.monotonic() < deadline, "the server still watches for a client that has gone"
        time.sleep(0.05)


def test_openapi_v2_is_for_old_kubectl(cluster: Cluster) -> None:
    """`@` makes no valid media type: what is asked for is answered under another name."""
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    answer = cluster.call("GET", "/openapi/v2", headers={"Accept": accept})
    assert (answer.status, answer.headers["Content-Type"]) == (200, accept.replace("@", "."))
    assert b"fieldValidation" in answer.raw
    assert cluster.call("GET", "/openapi/v2").status == 404


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
def test_what_has_no_stream_here_says_so(cluster: Cluster, subresource: str) -> None:
    spec = {"containers": [{"name": "app", "image": "i:1"}]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    cluster.call("POST", f"{SPACE}/pods", made)
    answer = cluster.call("POST", f"{SPACE}/pods/p/{subresource}", query={"container": "app"})
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"].startswith(f"pods/{subresource} is not served by the local cluster: ")
    absent = cluster.call("POST", f"{SPACE}/pods/absent/{subresource}")
    assert absent.body["message"] == 'pods "absent" not found'


def test_stopping_the_server_ends_watches(cluster: Cluster, watch: Any) -> None:
    stream = watch({})
    cluster.close_server()
    assert stream.readline() == b""


def test_stopping_the_server_leaves_no_socket_of_a_client_that_does_not_answer(cluster: Cluster) -> None:
    """TLS waits for the other side's farewell for half a minute."""
    connection = cluster.connect()
    cluster.send(connection, "GET", CONFIG_MAPS).read()
    with socket.socket(fileno=connection.sock.detach()) as below_tls:
        below_tls.settimeout(20)
        cluster.close_server()
        try:
            while below_tls.recv(4096):
                pass
        except ConnectionResetError:
            return


class Deserted(ApiServer):
    """Every client goes in the middle of its answer."""

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raise ConnectionResetError("Cannot write to closing transport")


def test_a_client_that_goes_is_no_error_of_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> bytes:
        store = Store(tmp_path / "store.db")
        server = Deserted(ResourceApi(store), token="t", ssl_context=None, logs=NoLogs())
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
            writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer
        finally:
            await server.stop()
            store.close()

    assert asyncio.run(scenario()) == b""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Logs ------------------------------------------------------------------------------------------


def pod(cluster: Cluster, state: dict[str, Any], *, last: dict[str, Any] | None = None) -> str:
    """A Pod on a node whose container `app` is in this state; returns its path."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "i:1"}]},
    }
    answer = cluster.call("POST", f"{SPACE}/pods", body)
    assert answer.status == 201, answer.raw
    report(cluster, state, last=last)
    return f"{SPACE}/pods/p/log"


def report(cluster: Cluster, state: dict[str, Any], *, last: dict[str, Any] | None = None) -> None:
    status = {
        "name": "app",
        "image": "i:1",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
        "lastState": last or {},
    }
    body = {"status": {"phase": "Running", "containerStatuses": [status]}}
    answer = cluster.call("PATCH", f"{SPACE}/pods/p/status", body, headers=MERGE)
    assert answer.status == 200, answer.raw


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
ENDED = {"terminated": {"exitCode": 1, "reason": "Error"}}


def test_logs(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"line 0\nline 1\nline 2\nunfinished")
    cluster.logs.paths["app"] = file
    path = pod(cluster, RUNNING)
    assert cluster.call("GET", path).raw == file.read_bytes()
    assert cluster.call("GET", path, query={"tailLines": "2"}).raw == b"line 2\nunfinished"
    assert cluster.call("GET", path, query={"tailLines": "9"}).raw == file.read_bytes()
    assert cluster.call("GET", path, query={"tailLines": "0"}).raw == b""
    assert cluster.call("GET", path, query={"limitBytes": "10"}).raw == b"line 0\nlin"
    unknown = cluster.call("GET", path, query={"container": "nope"})
    assert (unknown.status, unknown.body["message"]) == (400, "container nope is not valid for pod p")
    previous = cluster.call("GET", path, query={"previous": "true"}).body["message"]
    assert previous == 'previous terminated container "app" in pod "p" not found'
    assert cluster.call("GET", path, query={"tailLines": "-1"}).status == 422
    assert cluster.call("GET", path.replace("/p/", "/missing/")).status == 404


def test_log_with_times(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(b"old 0\nold 1\nnew\nunfinished")
    (tmp_path / "app.log.times").write_text(
        "0 2026-01-01T00:00:00.000000000Z\n12 2026-01-01T00:01:00.500000000Z\n"
    )
    cluster.logs.paths["app"] = tmp_path / "app.log"
    path = pod(cluster, RUNNING)
    assert cluster.call("GET", path, query={"timestamps": "true"}).raw.decode().splitlines() == [
        "2026-01-01T00:00:00.000000000Z old 0",
        "2026-01-01T00:00:00.000000000Z old 1",
        "2026-01-01T00:01:00.500000000Z new",
        "2026-01-01T00:01:00.500000000Z unfinished",
    ]
    since = {"sinceTime": "2026-01-01T00:00:30Z"}
    assert cluster.call("GET", path, query=since).raw == b"new\nunfinished"
    assert cluster.call("GET", path, query=since | {"tailLines": "1"}).raw == b"unfinished"
    assert cluster.call("GET", path, query={"sinceSeconds": "60"}).raw == b""
    assert cluster.call("GET", path, query={"sinceTime": "yesterday"}).status == 400


def test_following_goes_on_after_rotation(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"first\n")
    cluster.logs.paths["app"] = file
    connection = cluster.connect()
    stream = cluster.send(connection, "GET", pod(cluster, RUNNING), query={"follow": "true"})
    assert stream.readline() == b"first\n"
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"second\n")
    file.rename(tmp_path / "app.log.1")
    fresh.rename(file)
    assert stream.readline() == b"second\n"
    connection.close()


def test_log_of_the_previous_run(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("app", "app.1"):
        cluster.logs.paths[name] = tmp_path / name
        (tmp_path / name).write_text(name)
    path = pod(cluster, RUNNING, last=ENDED)
    assert cluster.call("GET", path).raw == b"app"
    assert cluster.call("GET", path, query={"previous": "true"}).raw == b"app.1"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ContainerCreating", "ContainerCreating"),
        ("ImagePullBackOff", "trying and failing to pull image"),
    ],
)
def test_log_of_what_has_not_started(cluster: Cluster, reason: str, said: str) -> None:
    path = pod(cluster, {"waiting": {"reason": reason}})
    answer = cluster.call("GET", path)
    assert (answer.status, answer.body["message"]) == (
        400,
        f'container "app" in pod "p" is waiting to start: {said}',
    )


def test_following_ends_with_the_container(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"first\n")
    cluster.logs.paths["app"] = file
    path = pod(cluster, RUNNING)
    connection = cluster.connect()
    stream = cluster.send(connection, "GET", path, query={"follow": "true"})
    assert stream.readline() == b"first\n"
    with file.open("ab") as more:
        more.write(b"second\n")
    assert stream.readline() == b"second\n"
    with file.open("ab") as more:
        more.write(b"last\n")
    report(cluster, ENDED)
    assert stream.read() == b"last\n"
    connection.close()


@pytest.mark.parametrize(
    ("budget", "evicted"),
    [
        ({"minAvailable": 2}, False),
        ({"minAvailable": 1}, True),
        ({"minAvailable": "51%"}, False),
        ({"maxUnavailable": 0}, False),
        ({"maxUnavailable": "50%"}, True),
    ],
)
def test_eviction_minds_disruption_budgets(cluster: Cluster, budget: dict[str, Any], evicted: bool) -> None:
    for name in ("a", "b"):
        made = {
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "i:1"}]},
        }
        assert cluster.call("POST", f"{SPACE}/pods", made).status == 201
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        patched = cluster.call(
            "PATCH",
            f"{SPACE}/pods/{name}/status",
            ready,
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert patched.status == 200
    selector = {"matchLabels": {"app": "web"}}
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    wanted = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "pdb"},
        "spec": {**budget, "selector": selector},
    }
    assert cluster.call("POST", budgets, wanted).status == 201
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    answer = cluster.call("POST", f"{SPACE}/pods/a/eviction", eviction)
    assert answer.status == (201 if evicted else 429)
    if not evicted:
        assert answer.body["reason"] == "TooManyRequests"
        (cause,) = answer.body["details"]["causes"]
        assert cause["message"] == "The disruption budget pdb needs 2 healthy pods and has 2 currently"
