"""A handle is of one group: what it does when others deploy, delete and make again behind its back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalkcompute import ChalkClient, ScalingGroup, ScalingGroupSpec, Status
from chalkcompute.errors import ConflictError, NotFoundError
from tests.unit.service.test_service_read import accept, roll_out

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster

Attach = Callable[[], ScalingGroup]


def serves(cluster: ApiCluster) -> None:
    """What was applied to `web` is ready."""
    roll_out(cluster, 1)
    accept(cluster)


@pytest.fixture
def serve(client: ChalkClient, cluster: ApiCluster) -> Callable[[ScalingGroupSpec], str]:
    """Deploy as somebody else does, until it serves; the id."""

    def deploy(spec: ScalingGroupSpec) -> str:
        info = client.create_scaling_group(spec).info
        serves(cluster)
        return info.id

    return deploy


@pytest.fixture(params=["name", "id"])
def attached(
    request: pytest.FixtureRequest, client: ChalkClient, serve: Callable[..., str], spec: ScalingGroupSpec
) -> ScalingGroup:
    """A handle of a group that serves, which somebody else made."""
    group_id = serve(spec)
    if request.param == "name":
        return ScalingGroup.from_name("web", client=client)
    return ScalingGroup.from_id(group_id, client=client)


def image(client: ChalkClient) -> str:
    return client.get_scaling_group("web").image


def test_deploy_of_an_attached_handle_keeps_what_others_deployed(
    client: ChalkClient, serve: Callable[..., str], spec: ScalingGroupSpec, attached: ScalingGroup
) -> None:
    serve(replace(spec, image="nginx:2"))
    attached.deploy()
    assert (image(client), attached.revision) == ("nginx:2", 2)
    serve(replace(spec, image="nginx:3"))
    attached.deploy()
    assert (image(client), attached.revision) == ("nginx:3", 3)
    attached.refresh()
    serve(replace(spec, image="nginx:4"))
    attached.deploy()
    assert (image(client), attached.revision) == ("nginx:4", 4)


def test_deploy_of_a_handle_with_a_description_takes_what_is_there(
    client: ChalkClient, cluster: ApiCluster, serve: Callable[..., str], spec: ScalingGroupSpec
) -> None:
    group = ScalingGroup(name="web", image="nginx:1", client=client)
    ids = []
    for _ in range(2):
        ids.append(serve(replace(spec, image="nginx:2")))
        cluster.after.append(lambda: serves(cluster))
        group.deploy()
        assert (group.id, group.revision, image(client)) == (ids[-1], 2, "nginx:1")
        client.delete_scaling_group("web")
    assert ids[0] != ids[1]


@pytest.fixture(params=["attached", "own"])
def stale(
    request: pytest.FixtureRequest, client: ChalkClient, serve: Callable[..., str], spec: ScalingGroupSpec
) -> ScalingGroup:
    """A handle whose group was deleted, and another of its name made."""
    first = serve(spec)
    group = ScalingGroup.from_id(first, client=client)
    if request.param == "own":
        group = ScalingGroup(name="web", image="nginx:1", client=client).deploy()
    assert group.id == first
    client.delete_scaling_group("web")
    serve(replace(spec, image="nginx:other"))
    return group


def test_a_new_group_of_the_name_is_not_called(stale: ScalingGroup) -> None:
    with pytest.raises(NotFoundError, match=f"`{stale.id}` is gone; the one of that name") as caught:
        stale.call("/")
    assert "from_name('web')" in (caught.value.hint or "")


def test_refresh_says_that_it_is_deleted(client: ChalkClient, stale: ScalingGroup) -> None:
    before = stale.id
    info = stale.refresh()
    assert (info.status, info.id, stale.id, info.image) == (Status.DELETED, before, before, "nginx:1")
    assert info.deleted_at is not None
    for verb in (stale.call, stale.wait_ready):
        with pytest.raises(NotFoundError, match="was deleted, so"):
            verb()


def test_no_wait_for_a_new_group_of_the_name(stale: ScalingGroup, cluster: ApiCluster) -> None:
    before = stale.id
    with pytest.raises(NotFoundError, match="was deleted, so `wait_ready"):
        stale.wait_ready(timeout=10)
    assert stale.id == before


def test_delete_leaves_a_new_group_of_the_name_alone(client: ChalkClient, stale: ScalingGroup) -> None:
    stale.delete()
    assert stale.id is None
    assert image(client) == "nginx:other"
    stale.delete()
    assert image(client) == "nginx:other"


def test_deploy_of_an_attached_handle_refuses_a_new_group_of_the_name(
    client: ChalkClient, serve: Callable[..., str], spec: ScalingGroupSpec, attached: ScalingGroup
) -> None:
    client.delete_scaling_group("web")
    other = serve(replace(spec, image="nginx:other"))
    with pytest.raises(ConflictError, match=f"another one now, with id `{other}`"):
        attached.deploy()
    assert image(client) == "nginx:other"
    assert client.get_scaling_group("web").revision == 1


def test_deploy_of_a_deleted_one_makes_it_again(
    client: ChalkClient, cluster: ApiCluster, attached: ScalingGroup
) -> None:
    before = attached.id
    client.delete_scaling_group("web")
    cluster.after.append(lambda: serves(cluster))
    attached.deploy()
    assert attached.id not in (None, before)
    assert (image(client), attached.revision) == ("nginx:1", 1)
    assert client.get_scaling_group(id=str(before)).status is Status.DELETED


def test_one_that_is_replaced_while_we_wait_is_not_taken_for_it(
    client: ChalkClient, cluster: ApiCluster, serve: Callable[..., str], spec: ScalingGroupSpec
) -> None:
    group = ScalingGroup(name="web", image="nginx:1", client=client)

    def replaced() -> None:
        client.delete_scaling_group("web")
        serve(replace(spec, image="nginx:other"))

    cluster.after.append(replaced)
    with pytest.raises(NotFoundError, match="deleted"):
        group.deploy()
    assert group.id is not None
    assert group.refresh().status is Status.DELETED


def test_a_call_of_the_client_may_demand_an_id(
    client: ChalkClient, serve: Callable[..., str], spec: ScalingGroupSpec
) -> None:
    serve(spec)
    with pytest.raises(NotFoundError, match="`no-such-id` is gone"):
        client.call("web", id="no-such-id")
