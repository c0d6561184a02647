"""Two clients at once: each moment at which one may come between two requests of the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import Action, ChalkClient, ScalingGroupSpec, Status
from chalkcompute.errors import ConflictError, DeployFailedError, NotFoundError
from chalkcompute.manifests import labels
from chalkcompute.service.scope import World
from chalkcompute.settings import Settings

if TYPE_CHECKING:
    from tests.unit.service.conftest import ApiCluster, Clock, FailingCluster

    Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]

WRITES = ("create", "replace", "apply", "merge", "delete")


class Stalled:
    """A client that stops for `seconds` around its n-th write, counted from 1; `meanwhile` happens then."""

    def __init__(
        self,
        cluster: ApiCluster,
        meanwhile: Callable[[], object],
        *,
        after: int = 0,
        before: tuple[str, str] = ("", ""),
        seconds: float = 61,
    ) -> None:
        self.cluster, self.meanwhile, self.after, self.before = cluster, meanwhile, after, before
        self.seconds, self.writes = seconds, 0

    def stop(self) -> None:
        self.cluster.clock.sleep(self.seconds)
        self.meanwhile()

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.cluster, verb)

        def call(*args: Any, **options: Any) -> Any:
            writes = verb in WRITES and not options.get("dry_run")
            if writes and (verb, args[0] if isinstance(args[0], str) else args[0]["kind"]) == self.before:
                self.before = ("", "")
                self.stop()
            result = method(*args, **options)
            self.writes += writes
            if writes and self.writes == self.after:
                self.stop()
            return result

        return call if callable(method) else method


def left(cluster: ApiCluster) -> list[str]:
    return [name for name in cluster.everything() if "chalk-sg-hist-" not in name]


@pytest.fixture
def bob(cluster: ApiCluster, world: World) -> ChalkClient:
    return ChalkClient.over(cluster, Settings(), replace(world, holder=lambda: "bob@ci:7"))


@pytest.mark.parametrize("kind", ["ConfigMap", "Service", "Deployment", "HTTPRoute"])
def test_a_delete_that_finds_no_record_does_not_tear_what_someone_creates_meanwhile(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec, kind: str
) -> None:
    made: list[str] = []
    late, _ = reconnect(
        before={("list", kind): lambda: made.append(client.create_scaling_group(spec).info.id)}
    )
    try:
        late.delete_scaling_group("web")
    except NotFoundError:  # the create came after it
        again = client.create_scaling_group(spec)
        assert (again.action, again.warnings) == (Action.UNCHANGED, ())
    else:  # it came after the create: a delete like any other
        assert left(cluster) == []
        assert cluster.seen("ConfigMap", f"chalk-sg-hist-{made[0]}") is not None


def test_leftovers_that_someone_clears_away_meanwhile(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    for kind in ("Service", "Deployment"):
        obj = cluster.api.get(kind, "web", "default")
        obj["metadata"]["ownerReferences"] = []
        cluster.api.update(obj, manager="restore")
    cluster.delete("ConfigMap", "chalk-sg-web", "default")

    def made_again() -> None:
        client.delete_scaling_group("web")
        client.create_scaling_group(spec)

    late, _ = reconnect(before={("delete", "Service"): made_again})
    late.delete_scaling_group("web")
    again = client.create_scaling_group(spec)
    assert (again.action, again.warnings) == (Action.UNCHANGED, ())


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", [("get", "Service"), ("create", "Pod"), ("replace", "ConfigMap")])
def test_a_group_that_someone_deletes_meanwhile_is_created(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec, moment: tuple[str, str], again: bool
) -> None:
    client.create_scaling_group(spec)

    def deleted() -> None:
        client.delete_scaling_group("web")
        if again:
            client.create_scaling_group(spec)

    late, _ = reconnect(before={moment: deleted})
    result = late.create_scaling_group(replace(spec, image="nginx:2"))
    assert result.action is (Action.UPDATED if again else Action.CREATED)
    assert client.get_scaling_group("web").spec["image"] == "nginx:2"


@pytest.mark.parametrize("moment", [("get", "Deployment"), ("apply", "Service")])
def test_a_group_that_comes_and_goes_meanwhile_is_created(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec, moment: tuple[str, str]
) -> None:
    def goes() -> None:
        client.delete_scaling_group("web")

    def comes() -> None:
        client.create_scaling_group(spec)
        failing.before[("get", "ConfigMap")] = goes

    late, failing = reconnect(before={moment: comes})
    assert late.create_scaling_group(spec).action is Action.CREATED


@pytest.mark.parametrize("last", range(1, 6))  # record, revision, Service, Deployment, HTTPRoute
def test_a_deploy_that_outlives_its_lease_undoes_nothing_of_who_took_over(
    cluster: ApiCluster, bob: ChalkClient, world: World, spec: ScalingGroupSpec, last: int
) -> None:
    theirs = replace(spec, image="nginx:2", min_replicas=2, max_replicas=4)
    stalled = Stalled(cluster, lambda: bob.create_scaling_group(theirs), after=last)
    with pytest.raises(ConflictError):
        ChalkClient.over(stalled, Settings(), world).create_scaling_group(spec)
    again = bob.create_scaling_group(theirs)
    assert (again.action, again.warnings) == (Action.UNCHANGED, ())


@pytest.mark.parametrize("last", range(1, 6))
def test_a_deploy_that_outlives_its_lease_does_not_touch_the_next_group_of_that_name(
    cluster: ApiCluster, bob: ChalkClient, world: World, spec: ScalingGroupSpec, last: int
) -> None:
    def made_again() -> None:
        bob.delete_scaling_group("web")
        bob.create_scaling_group(spec)

    stalled = Stalled(cluster, made_again, after=last)
    with pytest.raises((ConflictError, NotFoundError)):
        ChalkClient.over(stalled, Settings(), world).create_scaling_group(spec)
    cluster._collect()
    again = bob.create_scaling_group(spec)
    assert (again.action, again.warnings) == (Action.UNCHANGED, ())


def test_a_deploy_of_a_group_that_is_deleted_says_so(
    cluster: ApiCluster, bob: ChalkClient, world: World, spec: ScalingGroupSpec
) -> None:
    stalled = Stalled(
        cluster, lambda: bob.delete_scaling_group("web"), before=("merge", "Deployment")
    )  # `replicas.lift`
    with pytest.raises((ConflictError, NotFoundError)):
        ChalkClient.over(stalled, Settings(), world).create_scaling_group(
            replace(spec, min_replicas=2, max_replicas=5)
        )


@pytest.mark.parametrize("last", range(1, 6))
def test_two_threads_of_one_process_are_kept_apart_too(
    cluster: ApiCluster, world: World, clock: Clock, spec: ScalingGroupSpec, last: int
) -> None:
    other = ChalkClient.over(cluster, Settings(), world)  # has the same holder
    theirs = replace(spec, image="nginx:2")
    began = clock.seconds
    slow = Stalled(cluster, lambda: other.create_scaling_group(theirs), after=last, seconds=0)
    with pytest.raises(ConflictError):
        ChalkClient.over(slow, Settings(), world).create_scaling_group(spec)
    assert clock.seconds - began > 55  # it has waited until the lease was over


@pytest.mark.parametrize("kind", ["Deployment", "HTTPRoute"])
def test_a_look_that_a_delete_overtakes_says_that_it_is_gone(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec, kind: str
) -> None:
    client.create_scaling_group(spec)
    late, _ = reconnect(before={("get", kind): lambda: client.delete_scaling_group("web")})
    with pytest.raises(NotFoundError):
        late.get_scaling_group("web")


def test_a_list_that_a_delete_overtakes_has_it_no_more(
    client: ChalkClient, reconnect: Reconnect, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec)
    late, _ = reconnect(before={("list", "Deployment"): lambda: client.delete_scaling_group("web")})
    assert late.list_scaling_groups().scaling_groups == ()


def test_a_group_that_is_being_deleted_is_listed_once(
    client: ChalkClient, spec: ScalingGroupSpec, delete_dies: Callable[[int], None]
) -> None:
    client.create_scaling_group(spec)
    delete_dies(2)
    found = client.list_scaling_groups(include_deleted=True).scaling_groups
    assert [info.status for info in found] == [Status.DELETING]


@pytest.fixture
def collect_later(cluster: ApiCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The garbage collector, which from now on comes when it is called; records go at once."""
    collect = cluster._collect

    def only_let_go() -> None:
        for obj in cluster.api.list("ConfigMap", "default"):
            if obj["metadata"].get("deletionTimestamp"):
                meta = {**obj["metadata"], "finalizers": []}
                cluster.api.update({**obj, "metadata": meta}, manager="gc")

    monkeypatch.setattr(cluster, "_collect", only_let_go)
    return collect


def test_a_create_waits_for_the_collector(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    world: World,
    clock: Clock,
    delete_dies: Callable[[int], None],
    collect_later: Callable[[], None],
) -> None:
    client.create_scaling_group(spec)
    delete_dies(4)
    assert "Deployment/web" in left(cluster)
    assert "ConfigMap/chalk-sg-web" not in left(cluster)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        collect_later()

    later = ChalkClient.over(cluster, Settings(), replace(world, sleep=sleep))
    assert later.create_scaling_group(spec).action is Action.CREATED


def test_a_revision_of_an_earlier_group_that_is_not_collected_yet_is_not_taken_for_ours(
    client: ChalkClient,
    cluster: ApiCluster,
    spec: ScalingGroupSpec,
    delete_dies: Callable[[int], None],
    collect_later: Callable[[], None],
) -> None:
    client.create_scaling_group(spec)
    delete_dies(4)
    for kind in ("Deployment", "Service"):  # the collector has come as far as these
        cluster.api.delete(kind, "web", "default", grace_seconds=0)
    made = client.create_scaling_group(replace(spec, image="nginx:2")).info
    collect_later()
    revision = cluster.seen("ConfigMap", "chalk-sg-web-r1")
    assert revision is not None
    assert labels.group_id_of(revision) == made.id


def test_an_outcome_is_not_noted_with_the_next_group_of_that_name(
    client: ChalkClient, cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec, clock: Clock
) -> None:
    client.create_scaling_group(spec)
    clock.seconds += 300

    def made_again() -> None:
        client.delete_scaling_group("web")
        client.create_scaling_group(spec)

    late, _ = reconnect(before={("merge", "ConfigMap"): made_again})
    with pytest.raises(DeployFailedError):  # nobody answers for the route
        late.wait_scaling_group("web", timeout=1)
    revision = cluster.seen("ConfigMap", "chalk-sg-web-r1")
    assert revision is not None
    assert labels.OUTCOME_ANNOTATION not in (revision["metadata"].get("annotations") or {})


def test_forgetting_old_revisions_spares_the_next_group_of_that_name(
    client: ChalkClient, cluster: ApiCluster, bob: ChalkClient, world: World, spec: ScalingGroupSpec
) -> None:
    for n in range(1, 21):
        client.create_scaling_group(replace(spec, image=f"nginx:{n}"))

    def made_again() -> None:
        bob.delete_scaling_group("web")
        bob.create_scaling_group(spec)

    stalled = Stalled(cluster, made_again, before=("delete", "ConfigMap"))
    with contextlib.suppress(ConflictError, NotFoundError):
        ChalkClient.over(stalled, Settings(), world).create_scaling_group(replace(spec, image="nginx:21"))
    assert "ConfigMap/chalk-sg-web-r1" in left(cluster)


def test_a_revision_whose_deploy_died_at_once_is_in_the_history_all_the_same(
    client: ChalkClient,
    cluster: ApiCluster,
    reconnect: Reconnect,
    bob: ChalkClient,
    spec: ScalingGroupSpec,
    killed: type[BaseException],
) -> None:
    client.create_scaling_group(spec)
    dying, _ = reconnect(kill_after=1)
    with pytest.raises(killed):
        dying.create_scaling_group(replace(spec, image="nginx:2"))
    assert bob.create_scaling_group(replace(spec, image="nginx:3")).info.revision == 3
    assert "ConfigMap/chalk-sg-web-r2" in left(cluster)
