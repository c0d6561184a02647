"""Creating and updating groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import Action, ChalkClient, Progress, ScalingGroupSpec, Status
from chalkcompute.errors import (
    ApiError,
    CapabilityError,
    ConfigError,
    ConflictError,
    DeployFailedError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    NotOwnedError,
    ObjectNotFoundError,
    SpecError,
)
from chalkcompute.manifests import labels
from chalkcompute.service.scope import World
from chalkcompute.settings import Settings
from chalkcompute.types import Cause

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock, FailingCluster

    Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]

OBJECTS = [
    "ConfigMap/chalk-sg-web",
    "ConfigMap/chalk-sg-web-r1",
    "Deployment/web",
    "HTTPRoute/web",
    "Service/web",
]
REAL = ("create", "replace", "apply", "merge", "delete")


def writes(cluster: ApiCluster) -> list[tuple[str, str]]:
    return [call for call in cluster.calls if call[0] in REAL]


def test_create(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    steps: list[Progress] = []
    result = client.create_scaling_group(spec, on_progress=steps.append)
    assert result.action is Action.CREATED
    assert result.warnings == ()
    assert (result.info.name, result.info.revision) == ("web", 1)
    assert result.info.web_url == "https://default-web.gw.test"
    assert result.info.status is Status.PENDING
    assert cluster.everything() == OBJECTS
    anchor = cluster.seen("ConfigMap", "chalk-sg-web")
    assert anchor is not None
    for kind in ("Deployment", "Service", "HTTPRoute"):
        obj = cluster.seen(kind, "web")
        assert obj is not None
        assert [o["uid"] for o in obj["metadata"]["ownerReferences"]] == [anchor["metadata"]["uid"]]
        assert obj["metadata"]["labels"][labels.GROUP_ID] == result.info.id
    assert len({(step.phase, step.message) for step in steps}) == len(steps) > 3
    assert writes(cluster)[0] == ("create", "ConfigMap")


def test_the_same_again_writes_nothing(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    first = client.create_scaling_group(spec)
    before = {key: cluster.seen(*key.split("/")) for key in cluster.everything()}
    cluster.calls.clear()
    again = client.create_scaling_group(spec)
    assert (again.action, again.changes, again.info.id) == (Action.UNCHANGED, (), first.info.id)
    assert writes(cluster) == []
    assert {key: cluster.seen(*key.split("/")) for key in cluster.everything()} == before


def test_another_spec_is_a_new_revision(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    result = client.create_scaling_group(replace(spec, image="nginx:2", cpu="2"))
    assert result.action is Action.UPDATED
    assert result.changes == ("image", "cpu")
    assert (result.previous_revision, result.info.revision) == (1, 2)
    deployment = cluster.seen("Deployment", "web")
    assert deployment is not None
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    assert "ConfigMap/chalk-sg-web-r2" in cluster.everything()


def test_another_port_leaves_the_old_one_in_reach(
    client: ChalkClient, cluster: ApiCluster, clock: Clock, spec: ScalingGroupSpec
) -> None:
    def ports() -> list[tuple[str, int, int | str]]:
        service = cluster.seen("Service", "web")
        assert service is not None
        return [(p["name"], p["port"], p["targetPort"]) for p in service["spec"]["ports"]]

    client.create_scaling_group(spec)
    assert ports() == [("http", spec.port, spec.port)]
    moved = replace(spec, port=9000)
    client.create_scaling_group(moved)
    both = [("http-9000", 9000, "http"), ("http", spec.port, "http")]
    assert sorted(ports()) == sorted(both)
    assert client.create_scaling_group(moved).action is Action.UNCHANGED
    assert sorted(ports()) == sorted(both)
    route = cluster.seen("HTTPRoute", "web")
    assert route is not None
    assert route["spec"]["rules"][0]["backendRefs"][0]["port"] == 9000
    # A moment later a gateway may still go by the old one.
    client.create_scaling_group(replace(moved, image="nginx:2"))
    assert sorted(ports()) == sorted(both)
    clock.seconds += 120
    client.create_scaling_group(replace(moved, image="nginx:3"))
    assert ports() == [("http-9000", 9000, "http")]


@pytest.mark.parametrize("last", range(1, 6))
def test_another_port_that_was_not_applied_to_its_end_takes_away_no_port_of_the_route(
    client: ChalkClient,
    cluster: ApiCluster,
    reconnect: Reconnect,
    spec: ScalingGroupSpec,
    world: World,
    clock: Clock,
    killed: type[BaseException],
    last: int,
) -> None:
    def reachable() -> bool:
        route, service = cluster.seen("HTTPRoute", "web"), cluster.seen("Service", "web")
        assert route is not None
        assert service is not None
        port = route["spec"]["rules"][0]["backendRefs"][0]["port"]
        return port in [each["port"] for each in service["spec"]["ports"]]

    client.create_scaling_group(spec)
    clock.seconds += 300
    dying, _ = reconnect(kill_after=last)
    with pytest.raises(killed):
        dying.create_scaling_group(replace(spec, port=9000))
    assert reachable()
    clock.seconds += 300
    seen: list[bool] = []
    survivor, failing = reconnect()
    apply = failing.inner.apply

    def watched(*args: Any, **options: Any) -> Any:
        result = apply(*args, **options)
        seen.append(reachable())
        return result

    cluster.apply = watched  # type: ignore[method-assign]
    survivor.create_scaling_group(replace(spec, port=9000, image="nginx:2"))
    assert len(seen) > 5
    assert all(seen)


def test_only_the_newest_twenty_revisions_are_kept(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    for n in range(1, 24):
        client.create_scaling_group(replace(spec, image=f"nginx:{n}"))
    kept = {name.rpartition("-r")[2] for name in cluster.everything() if "chalk-sg-web-r" in name}
    assert kept == {str(n) for n in range(4, 24)}


def test_what_a_gateway_class_supports_is_no_reason_for_a_revision(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    gateway_class = cluster.api.get("GatewayClass", "gc", "")
    gateway_class["status"] = {"supportedFeatures": [{"name": "HTTPRouteRequestTimeout"}]}
    cluster.api.update(gateway_class, manager="controller", subresource="status")
    assert client.create_scaling_group(spec).action is Action.UNCHANGED
    assert client.create_scaling_group(replace(spec, port=9090)).changes == ("port",)
    route = cluster.seen("HTTPRoute", "web")
    assert route is not None
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}


def test_what_no_record_can_hold_is_refused_before_anything_is_asked(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    large = replace(spec, env={f"V{n}": "x" * 30_000 for n in range(10)})
    with pytest.raises(SpecError, match="a record holds"):
        client.create_scaling_group(large)
    assert not [call for call in cluster.calls if call[0] not in ("get", "list")]


def test_a_deploy_that_builds_on_what_was_read_is_refused_when_that_has_changed(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    read = client.create_scaling_group(spec).info
    other = replace(spec, image="nginx:2")
    late, _ = reconnect(before={("get", "ConfigMap"): lambda: client.create_scaling_group(other)})
    with pytest.raises(ConflictError, match="meanwhile"):
        late.create_scaling_group(replace(spec, cpu="1"), expected=read)
    later, _ = reconnect(before={("replace", "ConfigMap"): lambda: client.create_scaling_group(spec)})
    with pytest.raises(ConflictError, match="meanwhile"):
        later.create_scaling_group(replace(spec, cpu="1"), expected=client.get_scaling_group("web"))
    assert client.get_scaling_group("web").spec["cpu"] is None
    client.delete_scaling_group("web")
    with pytest.raises(ConflictError, match="meanwhile"):
        client.create_scaling_group(spec, expected=read)
    assert client.list_scaling_groups().scaling_groups == ()


@pytest.mark.parametrize(
    "moment",
    [
        ("get", "Service"),
        ("get", "Deployment"),
        ("get", "HTTPRoute"),
        ("apply", "Service"),
        ("apply", "Deployment"),
        ("apply", "HTTPRoute"),
        ("create", "Pod"),
        ("create", "ConfigMap"),
    ],
)
@pytest.mark.parametrize("image", ["nginx:1", "nginx:2"])
def test_a_group_that_someone_creates_meanwhile_is_updated(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec, moment: tuple[str, str], image: str
) -> None:
    made: list[str] = []
    late, _ = reconnect(before={moment: lambda: made.append(client.create_scaling_group(spec).info.id)})
    result = late.create_scaling_group(replace(spec, image=image))
    assert result.action is (Action.UNCHANGED if image == spec.image else Action.UPDATED)
    assert [result.info.id] == made
    (only,) = client.list_scaling_groups().scaling_groups
    assert (only.id, only.spec["image"]) == (made[0], image)


def test_a_group_that_someone_replaces_meanwhile_is_updated(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)

    def replaced() -> None:
        client.delete_scaling_group("web")
        client.create_scaling_group(spec)

    late, _ = reconnect(before={("get", "Service"): replaced})
    result = late.create_scaling_group(replace(spec, image="nginx:2"))
    assert (result.action, result.info.revision) == (Action.UPDATED, 2)
    assert result.info.id == client.get_scaling_group("web").id


def test_an_update_can_be_refused(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(spec)
    cluster.calls.clear()
    with pytest.raises(ConflictError, match="exists already"):
        client.create_scaling_group(spec, update=False)
    assert writes(cluster) == []


def test_a_dry_run_changes_nothing(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    result = client.create_scaling_group(spec, dry_run=True)
    assert (result.action, result.info.web_url) == (Action.CREATED, "https://default-web.gw.test")
    assert (result.info.status, result.info.verdict) == (Status.PENDING, None)
    assert cluster.everything() == []
    assert writes(cluster) == []
    client.create_scaling_group(spec)
    before = cluster.seen("Deployment", "web")
    update = client.create_scaling_group(replace(spec, port=9090), dry_run=True)
    assert (update.action, update.changes, update.info.revision) == (Action.UPDATED, ("port",), 2)
    assert update.info.verdict is None
    assert cluster.seen("Deployment", "web") == before


def test_advice_is_among_the_warnings(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    result = client.create_scaling_group(replace(spec, image="nginx", scaling_interval_seconds=30))
    assert [w for w in result.warnings if "no fixed version" in w]
    assert [w for w in result.warnings if "`scaling_interval_seconds` has no effect" in w]


def autoscaler(kind: str, name: str, target: str) -> dict[str, Any]:
    """One that somebody made by hand."""
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    hpa = kind == "HorizontalPodAutoscaler"
    cron = {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "9"}
    triggers = [{"type": "cron", "metadata": cron}]
    limits = {"maxReplicas": 9} if hpa else {"maxReplicaCount": 9, "triggers": triggers}
    return {
        "apiVersion": "autoscaling/v2" if hpa else "keda.sh/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"scaleTargetRef": ref, **limits},
    }


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("bounds", [(1, 1), (1, 5), (0, 5)])
@pytest.mark.parametrize("name", ["web", "theirs"])
@pytest.mark.parametrize("kind", ["HorizontalPodAutoscaler", "ScaledObject"])
def test_an_autoscaler_of_someone_else_is_not_touched(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    kind: str,
    name: str,
    bounds: tuple[int, int],
    exists: bool,
) -> None:
    cluster.with_keda()
    if exists:
        client.create_scaling_group(replace(spec, min_replicas=2, max_replicas=2))
    theirs = autoscaler(kind, name, "web")
    if kind == "ScaledObject":
        cluster.apply(theirs)
    else:
        cluster.put(theirs)
    before = cluster.seen(kind, name)
    cluster.calls.clear()
    with pytest.raises(NotOwnedError) as caught:
        client.create_scaling_group(replace(spec, min_replicas=bounds[0], max_replicas=bounds[1]))
    assert (caught.value.kind, caught.value.name) == (kind, name)
    assert writes(cluster) == []
    assert cluster.seen(kind, name) == before


def test_an_autoscaler_of_another_deployment_is_no_concern(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    cluster.put(autoscaler("HorizontalPodAutoscaler", "theirs", "other"))
    assert client.create_scaling_group(spec).action is Action.CREATED
    assert cluster.seen("HorizontalPodAutoscaler", "theirs") is not None


def test_kedas_own_autoscaler_is_its_scaled_objects(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    cluster.with_keda()
    wish = replace(spec, min_replicas=0, max_replicas=3)
    client.create_scaling_group(wish)
    made = autoscaler("HorizontalPodAutoscaler", "web", "web")
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "u"}
    made["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    cluster.put(made)
    assert client.create_scaling_group(wish).action is Action.UNCHANGED
    assert cluster.seen("HorizontalPodAutoscaler", "web") is not None


def test_who_may_not_see_autoscalers_may_deploy_without_one(
    reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    refusal = ForbiddenError("horizontalpodautoscalers is forbidden", status=403, reason="Forbidden")
    faults = {("list", "HorizontalPodAutoscaler"): refusal, ("get", "HorizontalPodAutoscaler"): refusal}
    client, _ = reconnect(fail=faults)
    assert client.create_scaling_group(spec).action is Action.CREATED
    assert client.create_scaling_group(replace(spec, image="nginx:2")).action is Action.UPDATED
    with pytest.raises(ForbiddenError):
        client.create_scaling_group(replace(spec, max_replicas=3))
    client.delete_scaling_group("web")
    assert client.list_scaling_groups().scaling_groups == ()


def test_who_may_not_see_the_autoscaler_of_a_group_cannot_fix_its_count(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(replace(spec, max_replicas=3))
    refusal = ForbiddenError("horizontalpodautoscalers is forbidden", status=403, reason="Forbidden")
    blind, _ = reconnect(fail={("list", "HorizontalPodAutoscaler"): refusal})
    with pytest.raises(ForbiddenError):
        blind.create_scaling_group(spec)
    assert client.get_scaling_group("web").revision == 1


def test_one_more_gateway_moves_no_group(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    before = client.create_scaling_group(spec).info.web_url
    (first,) = cluster.api.list("Gateway", "")
    meta = {"name": "another", "namespace": first["metadata"]["namespace"]}
    listener = {**first["spec"]["listeners"][0], "hostname": "*.another.test"}
    cluster.put(
        {
            "apiVersion": first["apiVersion"],
            "kind": "Gateway",
            "metadata": meta,
            "spec": {**first["spec"], "listeners": [listener]},
        }
    )
    assert client.create_scaling_group(spec).action is Action.UNCHANGED
    assert client.create_scaling_group(replace(spec, image="nginx:2")).info.web_url == before
    with pytest.raises(ConfigError, match="several"):
        client.create_scaling_group(replace(spec, name="new"))


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HTTPRoute", "ConfigMap"])
def test_an_object_of_someone_else_is_not_touched(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, kind: str
) -> None:
    name = "chalk-sg-web" if kind == "ConfigMap" else "web"
    bodies: dict[str, dict[str, Any]] = {
        "Deployment": {
            "apiVersion": "apps/v1",
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "x", "image": "x"}]},
                },
            },
        },
        "Service": {"apiVersion": "v1", "spec": {"ports": [{"port": 1}]}},
        "HTTPRoute": {"apiVersion": "gateway.networking.k8s.io/v1", "spec": {}},
        "ConfigMap": {"apiVersion": "v1"},
    }
    theirs = cluster.put({**bodies[kind], "kind": kind, "metadata": {"name": name, "namespace": "default"}})
    with pytest.raises(NotOwnedError) as caught:
        client.create_scaling_group(spec)
    assert (caught.value.kind, caught.value.name, caught.value.exit_code) == (kind, name, 4)
    assert cluster.everything() == [f"{kind}/{name}"]
    assert cluster.seen(kind, name) == theirs


def test_what_is_missing_or_changed_is_brought_back_without_a_new_revision(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    cluster.api.delete("HTTPRoute", "web", "default")
    service = cluster.api.get("Service", "web", "default")
    service["metadata"]["labels"][labels.ENVIRONMENT] = "elsewhere"
    cluster.api.update(service, manager="kubectl-edit")
    deployment = cluster.seen("Deployment", "web")
    result = client.create_scaling_group(spec)
    assert (result.action, result.info.revision) == (Action.UNCHANGED, 1)
    assert cluster.everything() == OBJECTS
    repaired = cluster.seen("Service", "web")
    assert repaired is not None
    assert repaired["metadata"]["labels"][labels.ENVIRONMENT] == "default"
    assert cluster.seen("Deployment", "web") == deployment
    assert any("HTTPRoute/web" in warning and "Service/web" in warning for warning in result.warnings)


def test_namespaces_that_do_not_exist(cluster: ApiCluster, world: World, spec: ScalingGroupSpec) -> None:
    client = ChalkClient.over(cluster, Settings(namespace="nope", environment="e"), world)
    with pytest.raises(NotFoundError, match="namespace `nope`"):
        client.create_scaling_group(spec)


def test_keda_that_is_missing_is_said_before_anything_is_written(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    wish = replace(spec, min_replicas=0)
    with pytest.raises(CapabilityError, match=r"InterceptorRoute") as caught:
        client.create_scaling_group(wish)
    assert caught.value.hint is not None
    cluster.with_keda()
    cluster.api.delete("Service", "keda-add-ons-http-interceptor-proxy", "keda")
    with pytest.raises(CapabilityError, match="interceptor"):
        client.create_scaling_group(wish)
    assert cluster.everything() == []


FORBIDDEN_BY_RBAC = ForbiddenError(
    'pods is forbidden: User "ann" cannot create resource "pods"',
    status=403,
    reason="Forbidden",
    details={"kind": "pods"},
)
OVER_QUOTA = ForbiddenError(
    'pods "web-preflight" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
    status=403,
    reason="Forbidden",
    details={"kind": "pods", "name": "web-preflight"},
)
AGAINST_POLICY = ForbiddenError(
    'pods "web-preflight" is forbidden: violates PodSecurity "restricted:latest"',
    status=403,
    reason="Forbidden",
    details={"kind": "pods", "name": "web-preflight"},
)


NO_SERVICE_ACCOUNT_YET = ForbiddenError(
    'pods "web-preflight" is forbidden: error looking up service account default/default: '
    'serviceaccount "default" not found',
    status=403,
    reason="Forbidden",
    details={"kind": "pods", "name": "web-preflight"},
)
QUOTA_NOT_COUNTED_YET = ForbiddenError(
    'pods "web-preflight" is forbidden: status unknown for quota: q, resources: pods',
    status=403,
    reason="Forbidden",
    details={"kind": "pods", "name": "web-preflight"},
)


@pytest.mark.parametrize("refusal", [NO_SERVICE_ACCOUNT_YET, QUOTA_NOT_COUNTED_YET])
def test_a_namespace_that_was_only_just_made_gets_a_moment(
    reconnect: Reconnect, spec: ScalingGroupSpec, clock: Clock, refusal: ForbiddenError
) -> None:
    client, failing = reconnect(fail={("dry-create", "Pod"): refusal})
    began = clock.seconds
    (warning,) = client.create_scaling_group(spec).warnings
    assert "could not be checked in advance" in warning
    assert 2 < clock.seconds - began < 10
    failing.fail.clear()
    assert client.create_scaling_group(replace(spec, image="nginx:2")).warnings == ()


def test_a_namespace_that_is_being_deleted_is_refused(
    cluster: ApiCluster, world: World, spec: ScalingGroupSpec
) -> None:
    meta = {"name": "team", "finalizers": ["example.com/slow"]}
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    cluster.delete("Namespace", "team")
    other = ChalkClient.over(cluster, Settings(namespace="team"), world)
    with pytest.raises(ConflictError, match=r"namespace `team` .* is being deleted"):
        other.create_scaling_group(spec)


def test_a_missing_right_to_create_pods_is_no_obstacle(reconnect: Reconnect, spec: ScalingGroupSpec) -> None:
    client, _ = reconnect(fail={("dry-create", "Pod"): FORBIDDEN_BY_RBAC})
    assert client.create_scaling_group(spec).warnings == ()


BY_WEBHOOK = InvalidObjectError(
    'admission webhook "images.example" denied the request: only our registry', status=400, reason=""
)
BY_WEBHOOK_AS_FORBIDDEN = ForbiddenError(
    'admission webhook "images.example" denied the request: only our registry', status=403, reason="Forbidden"
)


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [
        (OVER_QUOTA, Cause.QUOTA_EXCEEDED),
        (AGAINST_POLICY, Cause.ADMISSION_REFUSED),
        (BY_WEBHOOK, Cause.ADMISSION_REFUSED),
        (BY_WEBHOOK_AS_FORBIDDEN, Cause.ADMISSION_REFUSED),
    ],
)
def test_quota_and_policy_are_found_before_anything_is_written(
    reconnect: Reconnect, cluster: ApiCluster, spec: ScalingGroupSpec, refusal: ApiError, cause: Cause
) -> None:
    client, _ = reconnect(fail={("dry-create", "Pod"): refusal})
    with pytest.raises(DeployFailedError, match="nothing was changed") as caught:
        client.create_scaling_group(spec)
    assert caught.value.verdict.cause is cause
    assert caught.value.info.status is Status.FAILED
    assert cluster.everything() == []


def test_quota_is_only_a_warning_for_an_update(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    other, _ = reconnect(fail={("dry-create", "Pod"): OVER_QUOTA})
    result = other.create_scaling_group(replace(spec, image="nginx:2"))
    assert result.action is Action.UPDATED
    assert any("exceeded quota" in warning for warning in result.warnings)
    strict, _ = reconnect(fail={("dry-create", "Pod"): AGAINST_POLICY})
    with pytest.raises(DeployFailedError, match="PodSecurity"):
        strict.create_scaling_group(replace(spec, image="nginx:3"))


def test_an_object_that_the_server_refuses_leaves_nothing(
    reconnect: Reconnect, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    refusal = InvalidObjectError("spec.x: no", status=422, reason="Invalid")
    client, _ = reconnect(fail={("dry-apply", "HTTPRoute"): refusal})
    with pytest.raises(InvalidObjectError):
        client.create_scaling_group(spec)
    assert cluster.everything() == []


def test_a_webhook_that_refuses_dry_runs_is_only_a_warning(
    reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    refusal = InvalidObjectError(
        'admission webhook "w.example" does not support dry run', status=400, reason="BadRequest"
    )
    client, _ = reconnect(fail={("dry-apply", "Deployment"): refusal})
    result = client.create_scaling_group(spec)
    assert result.action is Action.CREATED
    assert any("dry run" in warning for warning in result.warnings)


@pytest.mark.parametrize("updating", [False, True])
def test_a_deploy_killed_after_any_write_is_finished_by_running_it_again(
    client: ChalkClient,
    cluster: ApiCluster,
    reconnect: Reconnect,
    spec: ScalingGroupSpec,
    world: World,
    killed: type[BaseException],
    updating: bool,
) -> None:
    survivor = ChalkClient.over(cluster, Settings(), replace(world, is_gone=lambda holder: True))
    finished = 0
    for last in range(1, 40):
        wish = spec
        if updating:
            client.create_scaling_group(spec)
            wish = replace(spec, image="nginx:2")
        dying, failing = reconnect(kill_after=last)
        try:
            dying.create_scaling_group(wish)
        except killed:
            assert failing.writes == last
        else:
            finished = last
            break
        result = survivor.create_scaling_group(wish)
        assert cluster.seen("HTTPRoute", "web") is not None
        assert result.info.revision == (2 if updating else 1)
        assert survivor.create_scaling_group(wish).action is Action.UNCHANGED
        cluster.calls.clear()
        survivor.create_scaling_group(wish)
        assert writes(cluster) == []
        survivor.delete_scaling_group("web")
        assert [name for name in cluster.everything() if "chalk-sg-hist-" not in name] == []
    assert finished > 5


def test_a_record_says_that_its_deploy_was_not_finished(
    reconnect: Reconnect, client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    boom = InvalidObjectError("no", status=422, reason="Invalid")
    broken, _ = reconnect(fail={("apply", "HTTPRoute"): boom})
    with pytest.raises(InvalidObjectError):
        broken.create_scaling_group(spec)
    from chalkcompute.manifests.record import Record

    obj = cluster.seen("ConfigMap", "chalk-sg-web")
    assert obj is not None
    operation = Record.from_manifest(obj).operation
    assert operation is not None
    # The lease is over, so the next one need not wait for it.
    assert client.create_scaling_group(spec).action is Action.UNCHANGED
    assert cluster.everything() == OBJECTS


def test_two_at_once_the_second_waits_for_the_lease_and_names_the_holder(
    reconnect: Reconnect,
    cluster: ApiCluster,
    world: World,
    clock: Clock,
    spec: ScalingGroupSpec,
    killed: type[BaseException],
) -> None:
    dying, _ = reconnect(kill_after=2)
    with pytest.raises(killed):
        dying.create_scaling_group(spec)
    other = replace(world, holder=lambda: "bob@ci:7")
    steps: list[Progress] = []
    start = clock.seconds
    result = ChalkClient.over(cluster, Settings(), other).create_scaling_group(spec, on_progress=steps.append)
    assert result.action is Action.UNCHANGED
    assert 55 < clock.seconds - start < 75
    assert any("ann@laptop:1" in step.message for step in steps)


def test_a_holder_that_never_lets_go(
    client: ChalkClient, cluster: ApiCluster, world: World, clock: Clock, spec: ScalingGroupSpec
) -> None:
    from datetime import timedelta

    from chalkcompute.manifests.record import Operation, Record

    client.create_scaling_group(spec)
    obj = cluster.api.get("ConfigMap", "chalk-sg-web", "default")
    held = Operation("deploy", "eve@far:9", clock.now() + timedelta(hours=1))
    cluster.api.update(replace(Record.from_manifest(obj), operation=held).to_manifest(), manager="chalk")

    def sleep(seconds: float) -> None:
        """While somebody else waits, eve goes on working."""
        clock.sleep(seconds)
        live = Record.from_manifest(cluster.api.get("ConfigMap", "chalk-sg-web", "default"))
        again = replace(held, deadline=clock.now() + timedelta(hours=1))
        cluster.api.update(replace(live, operation=again).to_manifest(), manager="chalk")

    other = ChalkClient.over(cluster, Settings(), replace(world, sleep=sleep))
    with pytest.raises(ConflictError, match="eve@far:9"):
        other.create_scaling_group(replace(spec, image="nginx:2"))
    # Dead, with a clock that went an hour ahead: no longer waited for than for any other.
    start = clock.seconds
    assert client.create_scaling_group(replace(spec, image="nginx:2")).action is Action.UPDATED
    assert 55 < clock.seconds - start < 75


def test_a_group_being_deleted_cannot_be_deployed(
    client: ChalkClient, spec: ScalingGroupSpec, delete_dies: Callable[[int], None]
) -> None:
    client.create_scaling_group(spec)
    delete_dies(1)
    with pytest.raises(ConflictError, match="being deleted"):
        client.create_scaling_group(spec)
    client.delete_scaling_group("web")
    assert client.create_scaling_group(spec).action is Action.CREATED


def test_what_a_gone_group_left_behind_is_named_as_such(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    service = cluster.api.get("Service", "web", "default")
    service["metadata"]["ownerReferences"] = []
    cluster.api.update(service, manager="x")
    cluster.delete("ConfigMap", "chalk-sg-web", "default")
    assert cluster.everything() == ["Service/web"]
    with pytest.raises(NotOwnedError, match="has no record here") as caught:
        client.create_scaling_group(spec)
    assert caught.value.hint is not None
    assert "delete web" in caught.value.hint
    client.delete_scaling_group("web")
    assert cluster.everything() == []


def test_reads_that_are_forbidden_show(reconnect: Reconnect, spec: ScalingGroupSpec) -> None:
    client, _ = reconnect(fail={("get", "ConfigMap"): ForbiddenError("configmaps is forbidden", status=403)})
    with pytest.raises(ForbiddenError) as caught:
        client.create_scaling_group(spec)
    assert caught.value.exit_code == 5


def test_a_kind_that_is_not_there_counts_as_absent(reconnect: Reconnect, spec: ScalingGroupSpec) -> None:
    client, _ = reconnect(fail={("get", "HTTPRoute"): ObjectNotFoundError("no such resource", status=404)})
    assert client.create_scaling_group(spec).action is Action.CREATED


def test_a_deploy_that_was_overtaken_looks_again(
    client: ChalkClient, cluster: ApiCluster, world: World, spec: ScalingGroupSpec
) -> None:
    """While we wait, another deploy changes the mode: the count it led to must not drop."""
    client.create_scaling_group(replace(spec, min_replicas=5, max_replicas=5))
    overtaking = replace(spec, min_replicas=6, max_replicas=6)

    class Slow:
        """Another deploy is through just before our first write."""

        done = False

        def __getattr__(self, verb: str) -> Any:
            method = getattr(cluster, verb)

            def call(*args: Any, **options: Any) -> Any:
                if verb == "replace" and not self.done:
                    self.done = True
                    client.create_scaling_group(overtaking)
                return method(*args, **options)

            return call if callable(method) else method

    slow = ChalkClient.over(Slow(), Settings(), world)
    result = slow.create_scaling_group(replace(spec, min_replicas=2, max_replicas=10))
    assert (result.action, result.previous_revision) == (Action.UPDATED, 2)
    deployment = cluster.seen("Deployment", "web")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 6
