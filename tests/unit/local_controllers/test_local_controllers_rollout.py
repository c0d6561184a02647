"""A Deployment's rollout, step by step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.controllers.actions import Action, Create, Delete, Emit, Update
from chalkcompute.local.controllers.objects import format_time, parse_time
from chalkcompute.local.controllers.pods import is_active, is_ready
from chalkcompute.local.controllers.replicaset import reconcile as reconcile_replica_set
from chalkcompute.local.controllers.replicaset import replica_status
from chalkcompute.local.controllers.rollout import ObservedDeployment, reconcile
from chalkcompute.local.controllers.scaling import max_surge, max_unavailable, replicas_of
from tests.properties import examples

Manifest = dict[str, Any]
Make = Callable[..., Manifest]


class World:
    """A Deployment with its ReplicaSets and Pods, and the two controllers, one step at a time."""

    def __init__(self, deployment: Manifest) -> None:
        self.deployment = deployment
        self.sets: dict[str, Manifest] = {}
        self.pods: dict[str, Manifest] = {}
        self.events: list[str] = []
        self.now = parse_time("2026-11-23T11:22:00Z")
        self._serial = 0

    def _stamp(self, obj: Manifest) -> Manifest:
        self._serial += 1
        created = parse_time("2026-11-23T11:22:00Z")
        assert created is not None
        stored = deepcopy(obj)
        meta = stored["metadata"]
        meta.setdefault("name", f"{meta.get('generateName', '')}{self._serial}")
        meta["uid"] = f"uid-{self._serial}"
        meta["generation"] = 1
        meta["creationTimestamp"] = format_time(created + timedelta(seconds=self._serial))
        return stored

    def step_deployment(self) -> None:
        assert self.now is not None
        owned = list(self.sets.values())
        for action in reconcile(
            ObservedDeployment(self.deployment, owned, list(self.pods.values())), self.now
        ):
            self._act(action)

    def step_replica_set(self, name: str) -> None:
        assert self.now is not None
        rs = self.sets.get(name)
        if rs is None:
            return
        for action in reconcile_replica_set(rs, self._pods_of(rs)):
            self._act(action)
        rs["status"] = replica_status(rs, self._pods_of(rs), None, self.now)

    def step_pods(self) -> None:
        """Every Pod becomes ready; those being deleted go."""
        for name in list(self.pods):
            if "deletionTimestamp" in self.pods[name]["metadata"]:
                del self.pods[name]
            else:
                self.make_ready(name)

    def make_ready(self, name: str) -> None:
        if name in self.pods:
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T11:22:00Z"}
            self.pods[name]["status"] = {"phase": "Running", "conditions": [ready]}

    def change(self, **spec: Any) -> None:
        self.deployment["spec"].update(deepcopy(spec))
        self.deployment["metadata"]["generation"] += 1

    def new_version(self, version: str) -> None:
        template = deepcopy(self.deployment["spec"]["template"])
        template["spec"]["containers"][0]["env"] = [{"name": "V", "value": version}]
        self.change(template=template)

    def settle(self, rounds: int = 30) -> None:
        for _ in range(rounds):
            self.step_deployment()
            for name in list(self.sets):
                self.step_replica_set(name)
            self.step_pods()

    def _pods_of(self, rs: Manifest) -> list[Manifest]:
        uid = rs["metadata"]["uid"]
        return [p for p in self.pods.values() if p["metadata"]["ownerReferences"][0]["uid"] == uid]

    def _act(self, action: Action) -> None:
        match action:
            case Create(obj):
                stored = self._stamp(obj)
                known = self.sets if obj["kind"] == "ReplicaSet" else self.pods
                known[stored["metadata"]["name"]] = stored
            case Update(obj, subresource):
                self._update(obj, subresource)
            case Delete(obj):
                name = obj["metadata"]["name"]
                if obj["kind"] == "ReplicaSet":
                    del self.sets[name]
                else:
                    self.pods[name]["metadata"]["deletionTimestamp"] = "2026-11-23T11:22:00Z"
            case Emit(_, _, reason, message):
                self.events.append(f"{reason}: {message}")

    def _update(self, obj: Manifest, subresource: str) -> None:
        if obj["kind"] == "Deployment":
            assert subresource == "status"
            self.deployment = deepcopy(obj)
            return
        old = self.sets[obj["metadata"]["name"]]
        stored = {**deepcopy(obj), "status": old.get("status") or {}}
        if stored["spec"] != old["spec"]:
            stored["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self.sets[obj["metadata"]["name"]] = stored

    @property
    def conditions(self) -> list[tuple[str, str, str]]:
        found = self.deployment["status"].get("conditions") or []
        return [(c["type"], c["status"], c["reason"]) for c in found]

    @property
    def sizes(self) -> list[int]:
        return [replicas_of(rs) for rs in self.sets.values()]


def no_gap(surge: int = 1, unavailable: int = 0) -> Manifest:
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def test_the_first_step_makes_a_replica_set_with_the_marks_of_a_real_one(deployment: Make) -> None:
    world = World(deployment(2, strategy=no_gap()))
    world.step_deployment()
    (rs,) = world.sets.values()
    label = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{label}"
    assert rs["metadata"]["annotations"] == {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
        "deployment.kubernetes.io/revision": "1",
    }
    assert rs["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": label}}
    assert rs["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": label}
    (owner,) = rs["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("Deployment", True, True)
    assert world.deployment["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    assert world.events == [f"ScalingReplicaSet: Scaled up replica set web-{label} from 0 to 2"]
    assert world.conditions == [
        ("Progressing", "True", "NewReplicaSetCreated"),
        ("Available", "False", "MinimumReplicasUnavailable"),
    ]


def test_a_complete_rollout_reads_as_the_transcript_does(deployment: Make) -> None:
    world = World(deployment(2, strategy=no_gap()))
    world.settle()
    status = dict(world.deployment["status"])
    conditions = status.pop("conditions")
    assert status == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
    }
    (name,) = world.sets
    assert [(c["type"], c["reason"], c["message"]) for c in conditions] == [
        ("Available", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        ("Progressing", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'),
    ]


def test_a_settled_deployment_is_left_alone(deployment: Make) -> None:
    world = World(deployment(3))
    world.settle()
    assert world.now is not None
    assert reconcile(ObservedDeployment(world.deployment, list(world.sets.values())), world.now) == []


def test_a_new_template_rolls_over_and_keeps_the_old_set_at_zero(deployment: Make) -> None:
    world = World(deployment(2, strategy=no_gap()))
    world.settle()
    world.new_version("2")
    world.settle()
    assert world.sizes == [0, 2]
    old, new = world.sets
    assert world.events[1:] == [
        f"ScalingReplicaSet: Scaled up replica set {new} from 0 to 1",
        f"ScalingReplicaSet: Scaled down replica set {old} from 2 to 1",
        f"ScalingReplicaSet: Scaled up replica set {new} from 1 to 2",
        f"ScalingReplicaSet: Scaled down replica set {old} from 1 to 0",
    ]
    assert world.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert world.deployment["status"]["observedGeneration"] == 2
    # The wish was met with the old sets sized before it: annotations follow each resize.
    assert {
        rs["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"] for rs in world.sets.values()
    } == {"3"}


def test_going_back_reuses_the_old_set_with_a_new_revision(deployment: Make) -> None:
    world = World(deployment(2))
    world.settle()
    first = next(iter(world.sets))
    world.new_version("2")
    world.settle()
    world.new_version("1")
    world.settle()
    assert len(world.sets) == 2
    annotations = world.sets[first]["metadata"]["annotations"]
    assert replicas_of(world.sets[first]) == 2
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert world.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_scaling_sizes_the_set_without_a_new_one(deployment: Make) -> None:
    world = World(deployment(2, strategy=no_gap()))
    world.settle()
    world.change(replicas=3)
    world.settle()
    assert world.sizes == [3]
    assert world.conditions == [
        ("Progressing", "True", "NewReplicaSetAvailable"),
        ("Available", "True", "MinimumReplicasAvailable"),
    ]
    (rs,) = world.sets.values()
    assert rs["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] == "3"
    world.change(replicas=0)
    world.settle()
    assert world.sizes == [0]


def test_a_paused_deployment_scales_but_does_not_roll(deployment: Make) -> None:
    world = World(deployment(2))
    world.settle()
    world.change(paused=True)
    world.new_version("2")
    world.change(replicas=4)
    world.settle()
    assert world.sizes == [4]
    assert ("Progressing", "Unknown", "DeploymentPaused") in world.conditions
    world.change(paused=False)
    world.settle()
    assert world.sizes == [0, 4]
    assert ("Progressing", "True", "NewReplicaSetAvailable") in world.conditions


def test_recreate_waits_until_no_old_pod_is_left(deployment: Make) -> None:
    world = World(deployment(2, strategy={"type": "Recreate"}))
    world.settle()
    world.new_version("2")
    world.step_deployment()
    (old,) = list(world.sets)
    world.step_replica_set(old)
    world.step_deployment()
    assert list(world.sets) == [old], "the old Pods are still terminating"
    world.step_pods()
    world.step_replica_set(old)
    world.step_deployment()
    assert world.sizes == [0, 2]


def test_a_stuck_rollout_times_out_and_says_so(deployment: Make) -> None:
    world = World(deployment(2, strategy=no_gap(), progressDeadlineSeconds=5))
    world.settle()
    world.new_version("broken")
    for _ in range(3):
        world.step_deployment()
        for name in list(world.sets):
            world.step_replica_set(name)
    assert world.now is not None
    world.now += timedelta(seconds=6)
    world.step_deployment()
    status = world.deployment["status"]
    assert (status["replicas"], status["updatedReplicas"], status["unavailableReplicas"]) == (3, 1, 1)
    assert world.conditions == [
        ("Available", "True", "MinimumReplicasAvailable"),
        ("Progressing", "False", "ProgressDeadlineExceeded"),
    ]


def test_refused_pods_become_a_condition_between_the_others(deployment: Make) -> None:
    world = World(deployment(2))
    world.step_deployment()
    (rs,) = world.sets.values()
    assert world.now is not None
    text = 'pods "web-x" is forbidden: exceeded quota: q'
    rs["status"] = replica_status(rs, [], ("FailedCreate", text), world.now)
    world.step_deployment()
    rs["status"] = {**rs["status"], "replicas": 1}
    world.step_deployment()
    assert world.conditions == [
        ("Available", "False", "MinimumReplicasUnavailable"),
        ("ReplicaFailure", "True", "FailedCreate"),
        ("Progressing", "True", "ReplicaSetUpdated"),
    ]
    assert world.deployment["status"]["unavailableReplicas"] == 2
    assert world.deployment["status"]["conditions"][1]["message"] == text


def test_history_is_cut_to_its_limit_oldest_first(deployment: Make) -> None:
    world = World(deployment(1, revisionHistoryLimit=1))
    for version in "1234":
        world.new_version(version)
        world.settle()
    revisions = {
        rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for rs in world.sets.values()
    }
    assert revisions == {"3", "4"}


def test_a_name_taken_by_another_makes_a_new_hash(deployment: Make) -> None:
    wish = deployment(1)
    world = World(wish)
    world.step_deployment()
    (name,) = world.sets
    assert world.now is not None
    actions = reconcile(ObservedDeployment(wish, (), taken=frozenset({name})), world.now)
    (update,) = actions
    assert isinstance(update, Update)
    assert update.obj["status"]["collisionCount"] == 1
    retried = reconcile(ObservedDeployment(update.obj, (), taken=frozenset({name})), world.now)
    (created,) = [a.obj["metadata"]["name"] for a in retried if isinstance(a, Create)]
    assert created != name


def test_a_deployment_being_deleted_only_tells_its_status(deployment: Make) -> None:
    wish = deployment(3)
    wish["metadata"]["deletionTimestamp"] = "2026-11-23T11:22:00Z"
    world = World(wish)
    world.step_deployment()
    assert world.sets == {}


def test_annotations_reach_the_set_but_not_those_of_kubectl(deployment: Make) -> None:
    wish = deployment(1)
    last = "kubectl.kubernetes.io/last-applied-configuration"
    wish["metadata"]["annotations"] = {"chalk.ai/revision": "7", last: "{}"}
    world = World(wish)
    world.step_deployment()
    (rs,) = world.sets.values()
    assert rs["metadata"]["annotations"]["chalk.ai/revision"] == "7"
    assert last not in rs["metadata"]["annotations"]


def test_a_status_that_lags_behind_does_not_cost_availability(deployment: Make) -> None:
    world = World(deployment(3, strategy=no_gap(1, 1)))
    world.settle()
    world.new_version("2")
    world.step_deployment()  # makes the new set, one replica large
    old, new = world.sets
    world.step_deployment()  # takes one of the old, whose controller is late
    assert replicas_of(world.sets[old]) == 2
    world.step_replica_set(new)
    world.step_pods()
    world.step_replica_set(new)
    world.step_deployment()
    world.step_replica_set(old)
    assert sum(is_ready(pod) for pod in world.pods.values() if is_active(pod)) == 2


MOVES = ["deployment", "replicaset", "replicaset", "ready", "ready", "gone", "gone"]


@examples(60)
@given(
    replicas=st.integers(1, 6),
    strategy=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 2**32),
)
def test_bounds_hold_at_every_moment_of_every_interleaving(
    replicas: int, strategy: tuple[int, int], seed: int
) -> None:
    """Available Pods never fall below the promise, Pods never exceed it, whoever acts next."""
    world = World(_plain_deployment(replicas, no_gap(*strategy)))
    world.settle()
    lowest = replicas - max_unavailable(world.deployment)
    highest = replicas + max_surge(world.deployment)
    chance = Random(seed)
    for step in range(120):
        move = "version" if step % 25 == 0 else chance.choice(MOVES)
        _move(world, move, chance.randrange(100))
        active = [pod for pod in world.pods.values() if is_active(pod)]
        assert sum(map(is_ready, active)) >= lowest
        assert len(active) <= highest
    world.settle(60)
    assert sorted(world.sizes)[-1] == replicas == sum(world.sizes)
    assert ("Progressing", "True", "NewReplicaSetAvailable") in world.conditions


def _plain_deployment(replicas: int, strategy: Manifest) -> Manifest:
    container = {"name": "app", "image": "python:3.12"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            "strategy": strategy,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
        },
        "status": {},
    }


def _move(world: World, move: str, number: int) -> None:
    sets, pods = list(world.sets), list(world.pods)
    if move == "deployment":
        world.step_deployment()
    elif move == "replicaset":
        world.step_replica_set(sets[number % len(sets)])
    elif move == "version":
        world.new_version(str(number % 4))
    elif pods:
        name = pods[number % len(pods)]
        if move == "ready":
            world.make_ready(name)
        elif "deletionTimestamp" in world.pods[name]["metadata"]:
            del world.pods[name]


@pytest.mark.parametrize("seconds", [None, 2**31 - 1])
def test_without_a_deadline_there_is_no_progressing_condition(deployment: Make, seconds: int | None) -> None:
    world = World(deployment(1, progressDeadlineSeconds=seconds))
    world.settle()
    assert world.conditions == [("Available", "True", "MinimumReplicasAvailable")]
