"""From each way of setting the replicas to each other one, up and down, with KEDA's operator at work.

Twelve ways: the six pairs of fixed, HPA and KEDA, each with more replicas live than are asked for and with
fewer. What has to hold at every moment: the live count never drops below what it was or is asked to be, and
no two autoscalers are there at once.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from chalkcompute import ChalkClient, ScalingGroupSpec
from chalkcompute.errors import ConflictError
from chalkcompute.settings import Settings
from tests.unit.service.conftest import ApiCluster, Clock, FailingCluster, Killed

if TYPE_CHECKING:
    from chalkcompute.service.scope import World

FINALIZER = "finalizer.keda.sh"
HPA, SCALED = "HorizontalPodAutoscaler", "ScaledObject"
OWN = {"fixed": None, "hpa": HPA, "keda": SCALED}
PAIRS = list(permutations(OWN, 2))


def a_spec(mode: str, count: int) -> ScalingGroupSpec:
    """A spec that asks for `count` replicas at least; of KEDA, for none."""
    low, high = {"fixed": (count, count), "hpa": (count, count + 5), "keda": (0, count + 5)}[mode]
    return ScalingGroupSpec(name="web", image="i:1", min_replicas=low, max_replicas=high)


class Operated:
    """A cluster in which KEDA's operator works: slowly, as operators do.

    Attributes:
        counts: The live count after every call.
        writes: Every write, `verb Kind`.
        both: Autoscalers that were there at once, a ScaledObject and the HPA of its own aside.
    """

    LINGERS = 3

    def __init__(self, cluster: ApiCluster) -> None:
        self.cluster = cluster
        self.counts: list[int] = []
        self.writes: list[str] = []
        self.both: list[str] = []
        self._lingers = self.LINGERS
        cluster.collects = lambda obj: not kedas(obj)  # the garbage collector is slow too

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.cluster, verb)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            if verb in FailingCluster.WRITES and not options.get("dry_run"):
                kind = args[0] if isinstance(args[0], str) else args[0]["kind"]
                self.writes.append(f"{verb} {kind}")
            self._operate(looked_at=args[0] if verb in ("get", "list") else "")
            self._look()
            return result

        return call

    def _operate(self, looked_at: str) -> None:
        """What is deleted lingers until it was looked at some times: whoever does not wait meets it."""
        scaled, hpa = self.cluster.seen(SCALED, "web"), self.cluster.seen(HPA, "web")
        if scaled is None:
            if hpa is not None and kedas(hpa) and looked_at == HPA:
                self._lingers -= 1
                if self._lingers <= 0:
                    self._lingers = self.LINGERS
                    self.cluster.api.delete(HPA, "web", "default", grace_seconds=0)
        elif scaled["metadata"].get("deletionTimestamp"):
            self._lingers -= looked_at == SCALED
            if self._lingers <= 0:
                self._lingers = self.LINGERS
                bare = {**scaled, "metadata": {**scaled["metadata"], "finalizers": []}}
                self.cluster.api.update(bare, manager="keda")
        elif FINALIZER not in (scaled["metadata"].get("finalizers") or ()):
            held = {**scaled, "metadata": {**scaled["metadata"], "finalizers": [FINALIZER]}}
            self.cluster.api.update(held, manager="keda")
        elif hpa is None:
            owner = {"apiVersion": "keda.sh/v1alpha1", "kind": SCALED, "name": "web", "controller": True}
            made = {
                "apiVersion": "autoscaling/v2",
                "kind": HPA,
                "metadata": {
                    "name": "web",
                    "namespace": "default",
                    "ownerReferences": [{**owner, "uid": scaled["metadata"]["uid"]}],
                },
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "maxReplicas": 9,
                },
            }
            self.cluster.api.create(made, manager="keda")

    def _look(self) -> None:
        deployment = self.cluster.seen("Deployment", "web")
        if deployment is not None:
            self.counts.append(deployment["spec"]["replicas"])
        hpa, scaled = self.cluster.seen(HPA, "web"), self.cluster.seen(SCALED, "web")
        if hpa is not None and scaled is not None and not kedas(hpa):
            self.both.append("a ScaledObject beside our HorizontalPodAutoscaler")
        if hpa is not None and len(hpa["metadata"].get("ownerReferences") or ()) > 1:
            self.both.append("our HorizontalPodAutoscaler upon KEDA's")


def kedas(hpa: dict[str, Any]) -> bool:
    return any(owner.get("controller") for owner in hpa["metadata"].get("ownerReferences") or ())


@pytest.fixture
def operated(cluster: ApiCluster) -> Operated:
    cluster.with_keda()
    return Operated(cluster)


@pytest.fixture
def over(operated: Operated, world: World) -> ChalkClient:
    return ChalkClient.over(operated, Settings(), world)


def begin(client: ChalkClient, cluster: ApiCluster, mode: str, live: int) -> None:
    """A group of that mode with so many replicas, by whoever sets them in it."""
    client.create_scaling_group(a_spec(mode, live if mode == "fixed" else 1))
    if mode != "fixed":
        cluster.merge("Deployment", "web", {"spec": {"replicas": live}}, "default", subresource="scale")


def expected(mode: str, asked: int, live: int) -> int:
    """The count right after: a fixed one is what was asked for, else nothing is taken away."""
    return asked if mode == "fixed" else max(live, 0 if mode == "keda" else asked)


def complete(cluster: ApiCluster, mode: str) -> None:
    """All that the mode needs is there, and nothing that another one needed."""
    hpa = cluster.seen(HPA, "web")
    assert (cluster.seen(SCALED, "web") is not None) == (mode == "keda")
    assert (hpa is not None) == (mode != "fixed")
    assert hpa is None or kedas(hpa) == (mode == "keda")
    assert (cluster.seen("InterceptorRoute", "web") is not None) == (mode == "keda")
    assert (cluster.seen("Service", "web-vip") is not None) == (mode == "keda")
    route = cluster.seen("HTTPRoute", "web")
    assert route is not None
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert (backend.get("namespace") == "keda") == (mode == "keda")
    deployment = cluster.seen("Deployment", "web")
    assert deployment is not None
    held = [
        entry["manager"]
        for entry in deployment["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
    assert ("chalk" in held) == (mode == "fixed"), "an apply takes the count from the autoscaler"


@pytest.mark.parametrize(("live", "asked"), [(2, 5), (5, 2)], ids=["up", "down"])
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_transition(
    over: ChalkClient, operated: Operated, cluster: ApiCluster, before: str, after: str, live: int, asked: int
) -> None:
    begin(over, cluster, before, live)
    operated.counts.clear()
    operated.writes.clear()
    over.create_scaling_group(a_spec(after, asked))
    assert operated.both == []
    assert operated.counts[-1] == expected(after, asked, live)
    assert min(operated.counts) >= min(live, operated.counts[-1])
    complete(cluster, after)
    if before != "fixed":
        gone = operated.writes.index(f"delete {OWN[before]}")
        assert gone < operated.writes.index("apply Deployment")
    if after != "fixed":
        assert operated.writes.index("apply Deployment") < operated.writes.index(f"apply {OWN[after]}")
        assert operated.writes.index(f"apply {OWN[after]}") < operated.writes.index("apply HTTPRoute")
    if after == "keda":
        assert operated.writes.index("apply InterceptorRoute") < operated.writes.index(f"apply {SCALED}")
    if before == "keda":
        assert operated.writes.index("apply HTTPRoute") < operated.writes.index("delete InterceptorRoute")


@pytest.mark.parametrize(("after", "count"), [("hpa", 3), ("fixed", 3)])
def test_a_group_that_sleeps_is_woken_before_what_could_not_wake_it(
    over: ChalkClient, operated: Operated, cluster: ApiCluster, after: str, count: int
) -> None:
    begin(over, cluster, "keda", 0)
    operated.writes.clear()
    over.create_scaling_group(a_spec(after, count))
    assert operated.counts[-1] == count
    complete(cluster, after)
    if after == "hpa":
        lifted = operated.writes.index("merge Deployment")
        assert operated.writes.index(f"delete {SCALED}") < lifted < operated.writes.index(f"apply {HPA}")


@pytest.mark.parametrize("starts_after", [0.0, 20.0, None], ids=["serves", "starts", "never starts"])
def test_the_route_leads_to_replicas_once_one_of_them_serves(
    operated: Operated, cluster: ApiCluster, clock: Clock, world: World, starts_after: float | None
) -> None:
    served: list[bool] = []

    class Starting:
        """The one replica gets ready at its time; notes whether it was when the route was applied."""

        def __getattr__(self, verb: str) -> Any:
            method = getattr(operated, verb)

            def call(*args: Any, **options: Any) -> Any:
                deployment = cluster.seen("Deployment", "web")
                is_due = starts_after is not None and clock.seconds >= starts_after
                if deployment is not None and is_due:
                    status = {**(deployment.get("status") or {}), "replicas": 1, "readyReplicas": 1}
                    cluster.api.update(
                        {**deployment, "status": status}, manager="kubelet", subresource="status"
                    )
                if verb == "apply" and args[0]["kind"] == "HTTPRoute" and not options.get("dry_run"):
                    live = cluster.seen("Deployment", "web") or {}
                    served.append(bool((live.get("status") or {}).get("readyReplicas")))
                return method(*args, **options)

            return call if callable(method) else method

    begin(ChalkClient.over(operated, Settings(), world), cluster, "keda", 0)
    client = ChalkClient.over(Starting(), Settings(), world)
    client.create_scaling_group(a_spec("fixed", 1))
    assert served == [starts_after is not None]
    complete(cluster, "fixed")
    route = cluster.seen("HTTPRoute", "web")
    assert route is not None
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "web"


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_broken_off_anywhere_the_same_deploy_finishes_it(
    tmp_path: Any, cluster: ApiCluster, clock: Clock, world: World, before: str, after: str
) -> None:
    cluster.with_keda()
    calm = ChalkClient.over(Operated(cluster), Settings(), world)
    kill_after, finished = 1, False
    while not finished:
        begin(calm, cluster, before, 4)
        operated = Operated(cluster)
        failing = FailingCluster(operated, kill_after=kill_after)  # type: ignore[arg-type]
        dying = ChalkClient.over(failing, Settings(), world)
        try:
            dying.create_scaling_group(a_spec(after, 2))
            finished = True
        except Killed:
            clock.sleep(120)  # its lease is over, and the operator has seen to what was deleted
            while (cluster.seen(SCALED, "web") or {"metadata": {}})["metadata"].get("deletionTimestamp"):
                operated.list(SCALED, "default")
            again = ChalkClient.over(operated, Settings(), world)
            again.create_scaling_group(a_spec(after, 2))
        assert operated.both == []
        assert operated.counts[-1] == expected(after, 2, 4), kill_after
        assert min(operated.counts) >= min(4, operated.counts[-1])
        complete(cluster, after)
        calm.delete_scaling_group("web")
        while cluster.seen(HPA, "web") is not None:
            operated.list(HPA, "default")
        kill_after += 1
    assert kill_after > 8, "every write was broken off after"


def test_an_autoscaler_that_does_not_go_away_is_named(
    over: ChalkClient, operated: Operated, cluster: ApiCluster
) -> None:
    begin(over, cluster, "keda", 2)
    operated._lingers = 10**6  # no operator runs
    with pytest.raises(
        ConflictError, match="ScaledObject `web` in namespace `default` was deleted but"
    ) as caught:
        over.create_scaling_group(a_spec("hpa", 2))
    assert "is KEDA's operator running" in (caught.value.hint or "")
    assert "kubectl patch scaledobject web -n default --type=merge" in (caught.value.hint or "")
    assert cluster.seen("Deployment", "web")["spec"]["replicas"] == 2  # type: ignore[index]
    operated._lingers = 1
    over.create_scaling_group(a_spec("hpa", 2))
    complete(cluster, "hpa")


@pytest.mark.parametrize(("before", "goes"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_a_fixed_count_says_what_it_ends(
    over: ChalkClient, cluster: ApiCluster, operated: Operated, before: str, goes: str
) -> None:
    begin(over, cluster, before, 4)
    said = over.create_scaling_group(a_spec("fixed", 3), dry_run=True).warnings
    assert said == over.create_scaling_group(a_spec("fixed", 3)).warnings
    (warning,) = said
    assert "fixed at 3 from now on" in warning
    assert f"{goes} go, and 1 of 4 replicas with them" in warning
    assert over.create_scaling_group(a_spec("fixed", 3)).warnings == ()
