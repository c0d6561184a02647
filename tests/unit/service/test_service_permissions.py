"""Permissions that a change of mode takes: what is missing is found before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec
from chalkcompute.errors import ForbiddenError, ObjectNotFoundError
from chalkcompute.settings import Settings
from chalkcompute.types import Manifest
from tests.unit.service.conftest import ApiCluster, FailingCluster

if TYPE_CHECKING:
    from chalkcompute.service.scope import World

HPA, SCALED = "HorizontalPodAutoscaler", "ScaledObject"
SPECS = {
    "fixed": ScalingGroupSpec(name="web", image="i:1", min_replicas=2, max_replicas=2),
    "hpa": ScalingGroupSpec(name="web", image="i:1", min_replicas=2, max_replicas=4),
    "keda": ScalingGroupSpec(name="web", image="i:1", min_replicas=0, max_replicas=4),
}


def refusal(verb: str, kind: str) -> ForbiddenError:
    """What an authorizer says; unlike admission, it `denied` nothing."""
    said = f'{kind.lower()}s "web" is forbidden: User "ann" cannot {verb} resource "{kind.lower()}s"'
    return ForbiddenError(said, status=403, reason="Forbidden", details={"name": "web"})


def limited(cluster: ApiCluster, world: World, verbs: Iterable[str], kind: str) -> ChalkClient:
    """A client whose credential may not do that, dry or not."""
    fail = {(f"{dry}{verb}", kind): refusal(verb, kind) for verb in verbs for dry in ("", "dry-")}
    return ChalkClient.over(FailingCluster(cluster, fail=fail), Settings(), world)


def state(cluster: ApiCluster) -> list[Manifest]:
    kinds = ("ConfigMap", "Service", "Deployment", HPA, SCALED, "InterceptorRoute", "HTTPRoute")
    return [obj for kind in kinds for obj in cluster.api.list(kind, "default")]


@pytest.mark.parametrize(
    ("before", "after", "verbs", "kind"),
    [
        ("hpa", "fixed", ["delete"], HPA),
        ("hpa", "keda", ["delete"], HPA),
        ("hpa", "keda", ["apply"], SCALED),
        ("hpa", "keda", ["apply"], "InterceptorRoute"),
        ("fixed", "hpa", ["apply"], HPA),
        ("fixed", "keda", ["apply"], SCALED),
        ("keda", "fixed", ["delete"], SCALED),
        ("keda", "hpa", ["delete"], SCALED),
        ("keda", "fixed", ["get", "list"], HPA),
        ("keda", "hpa", ["get", "list"], HPA),
        ("keda", "hpa", ["apply"], HPA),
        ("keda", "fixed", ["delete"], "InterceptorRoute"),
        ("keda", "hpa", ["delete"], "InterceptorRoute"),
        ("keda", "hpa", ["delete"], "Service"),
    ],
)
def test_a_permission_that_a_transition_lacks_is_found_before_anything_is_written(
    client: ChalkClient,
    cluster: ApiCluster,
    world: World,
    before: str,
    after: str,
    verbs: list[str],
    kind: str,
) -> None:
    cluster.with_keda()
    client.create_scaling_group(SPECS[before])
    found = state(cluster)
    with pytest.raises(ForbiddenError, match=f"cannot {'list' if 'list' in verbs else verbs[0]}"):
        limited(cluster, world, verbs, kind).create_scaling_group(SPECS[after])
    assert state(cluster) == found
    assert client.create_scaling_group(SPECS[after]).info.spec == SPECS[after].to_dict(), (
        "someone who may does it"
    )


@pytest.mark.parametrize("mode", ["fixed", "keda"])
def test_rights_that_a_deploy_does_not_need_are_not_asked_for(
    client: ChalkClient, cluster: ApiCluster, world: World, mode: str
) -> None:
    cluster.with_keda()
    client.create_scaling_group(SPECS[mode])
    unable = limited(cluster, world, ["get", "list", "apply", "delete"], HPA)
    assert unable.create_scaling_group(SPECS[mode]).action.value == "unchanged"
    unable.delete_scaling_group("web")
    with pytest.raises(ObjectNotFoundError):
        cluster.get("Deployment", "web", "default")


def test_a_sleeping_group_wakes_without_the_right_to_scale(
    client: ChalkClient, cluster: ApiCluster, world: World
) -> None:
    """`deployments/scale` is a resource of its own, and whoever may apply the Deployment can do without."""
    cluster.with_keda()
    client.create_scaling_group(SPECS["keda"])
    cluster.merge("Deployment", "web", {"spec": {"replicas": 0}}, "default", subresource="scale")
    unable = limited(cluster, world, ["merge"], "Deployment")
    unable.create_scaling_group(SPECS["hpa"])
    assert cluster.get("Deployment", "web", "default")["spec"]["replicas"] == 2
    cluster.merge("Deployment", "web", {"spec": {"replicas": 3}}, "default", subresource="scale")
    assert unable.create_scaling_group(SPECS["hpa"]).action.value == "unchanged"
    assert cluster.get("Deployment", "web", "default")["spec"]["replicas"] == 3, "it is the autoscaler's"
