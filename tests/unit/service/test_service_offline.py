"""`manifests`: the objects for people who apply them themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chalkcompute import ChalkClient, Content, ScalingGroupSpec
from chalkcompute.manifests import labels
from chalkcompute.service.offline import render_offline
from chalkcompute.service.scope import Scope

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster

SCOPE = Scope(namespace="default", environment="abc", gateway=("infra", "gw"), gateway_domain="gw.test")


def selected(scope: Scope, spec: ScalingGroupSpec) -> dict[str, str]:
    """The labels by which Deployment and Service find their pods; the same for both, and on the pods."""
    objects = {obj["kind"]: obj for obj in render_offline(scope, spec, Content()) or ()}
    template = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selector: dict[str, str] = objects["Deployment"]["spec"]["selector"]["matchLabels"]
    assert objects["Service"]["spec"]["selector"] == selector
    assert selector.items() <= template.items()
    return selector


def test_two_groups_never_select_each_others_pods(spec: ScalingGroupSpec) -> None:
    own = selected(SCOPE, spec)
    assert own == selected(SCOPE, replace(spec, image="nginx:2"))
    others = [
        selected(SCOPE, replace(spec, name="other")),
        selected(replace(SCOPE, namespace="elsewhere"), spec),
        selected(replace(SCOPE, environment="def"), spec),
    ]
    assert len({tuple(each.items()) for each in (own, *others)}) == 4


def test_online_the_id_is_the_groups_own_once_it_exists(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    def group_id() -> str | None:
        (found,) = {labels.group_id_of(obj) for obj in client.render_manifests(spec)}
        return found

    before = group_id()
    assert before == group_id()
    assert cluster.everything() == []
    created = client.create_scaling_group(spec)
    assert group_id() == created.info.id != before
