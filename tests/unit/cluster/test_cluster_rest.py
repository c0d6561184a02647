"""`RestCluster` turns its verbs into requests and answers into values."""

import json
from collections.abc import Generator
from typing import Any

import pytest

from chalkcompute.cluster.kinds import KINDS, kind_named
from chalkcompute.cluster.rest import RestCluster
from chalkcompute.cluster.transport import Request, Response
from chalkcompute.errors import ApiError, ObjectConflictError, ObjectNotFoundError


class Script:
    """A transport that answers from a list and keeps what it was asked."""

    server = "https://api"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    def send(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else Response(200, json.dumps(answer).encode())

    def lines(self, request: Request, *, read_timeout: float) -> Generator[bytes, None, None]:
        self.asked.append(request)
        yield from (json.dumps(answer).encode() for answer in self.answers)


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "team"},
    "spec": {},
}


def test_every_kind_has_one_path() -> None:
    assert len({kind.path() for kind in KINDS}) == len(KINDS)
    assert kind_named("Deployment").path("a", "b") == "/apis/apps/v1/namespaces/b/deployments/a"
    assert kind_named("Pod").path("a", "b", "log") == "/api/v1/namespaces/b/pods/a/log"
    assert kind_named("Namespace").path("a") == "/api/v1/namespaces/a"
    assert kind_named("Gateway").path() == "/apis/gateway.networking.k8s.io/v1/gateways"
    assert kind_named("ConfigMap").path("../x", "y") == "/api/v1/namespaces/y/configmaps/..%2Fx"


def test_a_kind_outside_the_table_is_a_mistake_of_ours() -> None:
    with pytest.raises(LookupError, match="Oops"):
        kind_named("Oops")


def test_metrics_of_routes_are_asked_for_as_their_api_has_them() -> None:
    script = Script({"kind": "MetricValueList", "items": []})
    RestCluster(script).get("MetricValueList", "web", "team", subresource="requests_per_second")
    assert script.asked[0].path == (
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/team"
        "/httproutes.gateway.networking.k8s.io/web/requests_per_second"
    )
    assert kind_named("PodMetrics").path(None, "team") == "/apis/metrics.k8s.io/v1beta1/namespaces/team/pods"


def test_apply_is_server_side_strict_and_forced() -> None:
    script = Script(Response(201, json.dumps(DEPLOYMENT).encode(), ("mind the gap",)))
    applied = RestCluster(script).apply(DEPLOYMENT, dry_run=True)
    asked = script.asked[0]
    assert (asked.method, asked.path) == ("PATCH", "/apis/apps/v1/namespaces/team/deployments/web")
    assert asked.content_type == "application/apply-patch+yaml"
    assert dict(asked.query) == {
        "fieldManager": "chalk",
        "force": "true",
        "fieldValidation": "Strict",
        "dryRun": "All",
    }
    assert applied.created
    assert applied.warnings == ("mind the gap",)


def test_a_secret_comes_back_without_values() -> None:
    script = Script({"kind": "PartialObjectMetadata"})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}
    assert not RestCluster(script).apply(secret).created
    assert "PartialObjectMetadata" in script.asked[0].accept


def test_lists_follow_continue_and_fill_in_the_kind() -> None:
    script = Script(
        {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "tok"}},
        {"items": [{"metadata": {"name": "b"}}], "metadata": {}},
    )
    found = RestCluster(script).list("Pod", "n", labels="a=b")
    assert [(o["kind"], o["apiVersion"], o["metadata"]["name"]) for o in found] == [
        ("Pod", "v1", "a"),
        ("Pod", "v1", "b"),
    ]
    assert [dict(asked.query) for asked in script.asked] == [
        {"labelSelector": "a=b", "limit": "500"},
        {"labelSelector": "a=b", "limit": "500", "continue": "tok"},
    ]


def test_pages_that_expired_are_asked_for_anew_in_one_piece() -> None:
    script = Script(
        {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "tok"}},
        ObjectConflictError("expired", status=410, reason="Expired"),
        {"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]},
    )
    assert len(RestCluster(script).list("Pod", "n")) == 2
    assert script.asked[2].query == ()


def test_another_conflict_of_a_list_is_not_swallowed() -> None:
    with pytest.raises(ObjectConflictError):
        RestCluster(Script(ObjectConflictError("odd", status=409))).list("Pod", "n")


def test_delete_with_a_precondition_and_of_what_is_gone() -> None:
    script = Script({}, ObjectNotFoundError("gone", status=404))
    cluster = RestCluster(script)
    assert cluster.delete("ConfigMap", "x", "n", uid="u1", propagation="Foreground")
    body = script.asked[0].body
    assert isinstance(body, dict)
    assert body["preconditions"] == {"uid": "u1"}
    assert body["propagationPolicy"] == "Foreground"
    assert not cluster.delete("ConfigMap", "x", "n")


def test_whether_a_delete_may_be_is_asked_by_a_dry_run() -> None:
    script = Script({}, {})
    cluster = RestCluster(script)
    cluster.delete("ConfigMap", "x", "n", dry_run=True)
    cluster.delete("ConfigMap", "x", "n")
    assert [asked.body.get("dryRun") for asked in script.asked if isinstance(asked.body, dict)] == [
        ["All"],
        None,
    ]


def test_capabilities_cost_one_request_once() -> None:
    script = Script(
        {
            "kind": "APIGroupDiscoveryList",
            "items": [
                {
                    "metadata": {"name": "keda.sh"},
                    "versions": [{"version": "v1alpha1", "resources": [{"resource": "scaledobjects"}]}],
                }
            ],
        }
    )
    cluster = RestCluster(script)
    assert cluster.capabilities().serves("keda.sh", "scaledobjects")
    assert not cluster.capabilities().serves("keda.sh", "scaledobjects", "v2")
    assert not cluster.capabilities().serves("http.keda.sh", "interceptorroutes")
    assert len(script.asked) == 1


def test_an_aggregated_api_whose_server_is_away_is_not_served() -> None:
    def group(name: str, resource: str, freshness: str) -> dict[str, Any]:
        version = {"version": "v1", "resources": [{"resource": resource}], "freshness": freshness}
        return {"metadata": {"name": name}, "versions": [version]}

    items = [group("metrics.k8s.io", "pods", "Stale"), group("keda.sh", "scaledobjects", "Current")]
    found = RestCluster(Script({"kind": "APIGroupDiscoveryList", "items": items})).capabilities()
    assert not found.serves("metrics.k8s.io", "pods")
    assert found.serves("keda.sh", "scaledobjects")


def test_an_old_server_is_asked_group_by_group() -> None:
    script = Script(
        {
            "kind": "APIGroupList",
            "groups": [
                {
                    "name": "keda.sh",
                    "versions": [{"groupVersion": "keda.sh/v1alpha1", "version": "v1alpha1"}],
                },
                {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]},
            ],
        },
        {"resources": [{"name": "scaledobjects"}, {"name": "scaledobjects/status"}]},
    )
    capabilities = RestCluster(script).capabilities()
    assert capabilities.resources == {("keda.sh", "v1alpha1", "scaledobjects")}


def test_a_watch_yields_events_and_raises_what_the_server_sends() -> None:
    script = Script(
        {"type": "MODIFIED", "object": DEPLOYMENT},
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}},
    )
    events = RestCluster(script).watch("Deployment", "team", resource_version="7", timeout=1.2)
    assert next(events).obj == DEPLOYMENT
    with pytest.raises(ObjectConflictError) as caught:
        next(events)
    assert caught.value.status == 410
    query = dict(script.asked[0].query)
    assert (query["resourceVersion"], query["timeoutSeconds"]) == ("7", "2")


def test_a_log_is_text_whatever_its_bytes() -> None:
    script = Script(Response(200, b"ok\n\xff"))
    text = RestCluster(script).logs("p", "n", container="app", previous=True, tail_lines=5)
    assert text == "ok\n\ufffd"
    assert script.asked[0].query == (("container", "app"), ("previous", "true"), ("tailLines", "5"))


def test_writes_and_scale() -> None:
    script = Script(DEPLOYMENT, DEPLOYMENT, DEPLOYMENT)
    cluster = RestCluster(script)
    cluster.create(DEPLOYMENT)
    cluster.replace(DEPLOYMENT)
    cluster.merge("Deployment", "web", {"spec": {"replicas": 2}}, "team", subresource="scale")
    assert [(a.method, a.path) for a in script.asked] == [
        ("POST", "/apis/apps/v1/namespaces/team/deployments"),
        ("PUT", "/apis/apps/v1/namespaces/team/deployments/web"),
        ("PATCH", "/apis/apps/v1/namespaces/team/deployments/web/scale"),
    ]
    assert script.asked[2].content_type == "application/merge-patch+json"


def test_failures_pass_through() -> None:
    with pytest.raises(ApiError):
        RestCluster(Script(ApiError("no", status=500))).get("Pod", "x", "n")
