"""Every controller over the real API server, with a kubelet that makes Pods ready at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers import EventRecorder, NodeFacts, run_controllers
from chalkcompute.local.controllers.controller import find, run_once
from chalkcompute.local.controllers.events import EventPruner, last_seen
from chalkcompute.local.controllers.replicaset import ReplicaSetController
from chalkcompute.local.controllers.workqueue import WorkQueue
from chalkcompute.local.measures import NodeUsage, PodUsage
from chalkcompute.local.ports import Api

Manifest = dict[str, Any]

FACTS = NodeFacts(name="node1", cpu=4, memory=8 << 30)


class QuickKubelet:
    """Makes every bound Pod ready, unless its image is `broken`; ends those being deleted."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def run(self) -> None:
        async for change in self.api.changes(("Pod",)):
            meta = change.obj["metadata"]
            pod = find(self.api, "Pod", (meta["namespace"], meta["name"]))
            if pod is None or not pod["spec"].get("nodeName"):
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self.api.delete("Pod", meta["name"], meta["namespace"], grace_seconds=0)
            elif pod["spec"]["containers"][0]["image"] != "broken" and not pod["status"].get("podIP"):
                self._make_ready(pod)

    def _make_ready(self, pod: Manifest) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
        conditions = [*(pod["status"].get("conditions") or []), ready]
        address = f"127.77.0.{len(self.api.list('Pod')) + 1}"
        pod["status"] = {"phase": "Running", "conditions": conditions, "podIP": address}
        self.api.update(pod, manager="kubelet", subresource="status")


class NothingMeasured:
    """Metrics of a cluster that nobody measures."""

    def pods(self, namespace: str = "") -> list[PodUsage]:
        return []

    def node(self) -> NodeUsage | None:
        return None


Scenario = Callable[[Api], Coroutine[Any, Any, None]]


def play(api: Api, clock: Callable[[], datetime], scenario: Scenario) -> None:
    """Run a scenario beside the controllers and the kubelet."""

    async def run(volumes: Path) -> None:
        tasks = [
            asyncio.create_task(
                run_controllers(api, node=FACTS, clock=clock, volumes_dir=volumes, metrics=NothingMeasured())
            ),
            asyncio.create_task(QuickKubelet(api).run()),
        ]
        played = asyncio.create_task(scenario(api))
        try:
            async with asyncio.timeout(60):
                done, _ = await asyncio.wait([played, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            assert played in done, "the controllers ended by themselves"
        finally:
            for task in (played, *tasks):
                task.cancel()
            await asyncio.gather(played, *tasks, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; `play` says how long at most."""
    while not condition():
        await asyncio.sleep(0.005)


def deployment(replicas: int = 2, image: str = "python:3.12", **meta: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", **meta},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    }


def config_map(name: str, **meta: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", **meta},
    }


def status(api: Api) -> Manifest:
    found: Manifest = api.get("Deployment", "web", "default").get("status") or {}
    return found


def owned_by(owner: Manifest) -> list[Manifest]:
    meta = owner["metadata"]
    kind, version = owner["kind"], owner["apiVersion"]
    return [{"apiVersion": version, "kind": kind, "name": meta["name"], "uid": meta["uid"]}]


def absent(api: Api, kind: str, name: str) -> bool:
    return find(api, kind, ("default", name)) is None


def test_a_deployment_comes_up_rolls_over_and_goes(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8000}]},
            },
            manager="test",
        )
        api.create(deployment(3), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 3)
        assert {p["spec"]["nodeName"] for p in api.list("Pod", "default")} == {"node1"}
        annotations = api.get("Deployment", "web", "default")["metadata"]["annotations"]
        assert annotations == {"deployment.kubernetes.io/revision": "1"}
        await eventually(lambda: ready_addresses(api) == 3)

        changed = api.get("Deployment", "web", "default")
        changed["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "V", "value": "2"}]
        api.update(changed, manager="test")
        await eventually(
            lambda: (
                status(api).get("observedGeneration") == 2
                and status(api).get("updatedReplicas") == status(api).get("availableReplicas") == 3
                and status(api).get("replicas") == 3
            )
        )
        assert sorted(rs["spec"]["replicas"] for rs in api.list("ReplicaSet", "default")) == [0, 3]
        await eventually(lambda: status(api)["conditions"][-1]["reason"] == "NewReplicaSetAvailable")

        api.delete("Deployment", "web", "default", propagation="Foreground")
        await eventually(lambda: absent(api, "Deployment", "web"))
        assert api.list("ReplicaSet", "default") == []
        assert api.list("Pod", "default") == []
        await eventually(lambda: ready_addresses(api) == 0)
        api.delete("Service", "web", "default")
        await eventually(lambda: api.list("EndpointSlice", "default") == [])

    play(api, clock, scenario)


def ready_addresses(api: Api) -> int:
    slices = api.list("EndpointSlice", "default", labels={"kubernetes.io/service-name": "web"})
    return sum(e["conditions"]["ready"] for s in slices for e in s.get("endpoints") or [])


def test_what_happened_is_told(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create(deployment(1), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 1)
        events = {e["reason"]: e for e in api.list("Event", "default")}
        (rs,) = (rs["metadata"]["name"] for rs in api.list("ReplicaSet", "default"))
        (pod,) = (p["metadata"]["name"] for p in api.list("Pod", "default"))
        assert events["ScalingReplicaSet"]["message"] == f"Scaled up replica set {rs} from 0 to 1"
        assert events["ScalingReplicaSet"]["source"] == {"component": "deployment-controller"}
        assert events["SuccessfulCreate"]["message"] == f"Created pod: {pod}"
        scheduled = events["Scheduled"]
        assert scheduled["message"] == f"Successfully assigned default/{pod} to node1"
        assert scheduled["action"] == "Binding"
        assert scheduled["eventTime"]
        assert scheduled.get("lastTimestamp") is None

    play(api, clock, scenario)


def test_a_pod_that_goes_is_replaced(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create(deployment(2), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 2)
        gone = api.list("Pod", "default")[0]["metadata"]["name"]
        api.delete("Pod", gone, "default")
        await eventually(
            lambda: (
                absent(api, "Pod", gone)
                and len(api.list("Pod", "default")) == 2
                and status(api).get("availableReplicas") == 2
            )
        )

    play(api, clock, scenario)


def test_what_does_not_fit_waits_until_there_is_room(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        big = deployment(1)
        requests = {"requests": {"cpu": "3"}}
        big["spec"]["template"]["spec"]["containers"][0]["resources"] = requests
        big["spec"]["strategy"] = {"type": "Recreate"}
        api.create(big, manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 1)
        big["metadata"]["name"] = "second"
        big["spec"]["selector"]["matchLabels"] = {"app": "second"}
        big["spec"]["template"]["metadata"]["labels"] = {"app": "second"}
        api.create(big, manager="test")
        await eventually(lambda: any(e["reason"] == "FailedScheduling" for e in api.list("Event")))
        (waiting,) = api.list("Pod", "default", labels={"app": "second"})
        (condition,) = waiting["status"]["conditions"]
        assert condition["reason"] == "Unschedulable"
        assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu. ")
        api.delete("Deployment", "web", "default")
        await eventually(
            lambda: api.get("Deployment", "second", "default")["status"].get("availableReplicas") == 1
        )

    play(api, clock, scenario)


def test_dependents_follow_their_owner_even_when_they_come_later(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        owner = api.create(config_map("owner"), manager="test")
        api.create(config_map("child", ownerReferences=owned_by(owner)), manager="test")
        api.create(deployment(1, ownerReferences=owned_by(owner)), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 1)
        api.delete("ConfigMap", "owner", "default")
        await eventually(lambda: absent(api, "ConfigMap", "child") and absent(api, "Deployment", "web"))
        await eventually(lambda: api.list("Pod", "default") == [] == api.list("ReplicaSet", "default"))
        api.create(config_map("stray", ownerReferences=owned_by(owner)), manager="test")
        await eventually(lambda: absent(api, "ConfigMap", "stray"))

    play(api, clock, scenario)


def test_orphans_stay(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        parent = api.create(config_map("parent"), manager="test")
        api.create(config_map("kid", ownerReferences=owned_by(parent)), manager="test")
        api.delete("ConfigMap", "parent", "default", propagation="Orphan")
        await eventually(lambda: absent(api, "ConfigMap", "parent"))
        assert "ownerReferences" not in api.get("ConfigMap", "kid", "default")["metadata"]

    play(api, clock, scenario)


def test_a_namespace_goes_with_all_that_is_in_it(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}, manager="test")
        await eventually(lambda: find(api, "ServiceAccount", ("team", "default")))
        work = deployment(2)
        work["metadata"]["namespace"] = "team"
        api.create(work, manager="test")
        await eventually(lambda: api.get("Deployment", "web", "team")["status"].get("availableReplicas") == 2)
        api.delete("Namespace", "team")
        await eventually(lambda: find(api, "Namespace", ("", "team")) is None)
        assert api.list("Pod", "team") == []
        assert api.list("Event", "team") == []

    play(api, clock, scenario)


def test_controllers_take_up_what_the_store_held_before_they_started(api: Api, clock: Any) -> None:
    owner = api.create(config_map("owner"), manager="test")
    api.create(config_map("child", ownerReferences=owned_by(owner)), manager="test")
    api.delete("ConfigMap", "owner", "default")
    api.create(deployment(2), manager="test")

    async def scenario(api: Api) -> None:
        await eventually(lambda: status(api).get("availableReplicas") == 2)
        await eventually(lambda: absent(api, "ConfigMap", "child"))

    play(api, clock, scenario)


def test_the_same_event_again_counts_up(api: Api, clock: Any) -> None:
    subject = api.create(config_map("subject"), manager="test")
    recorder = EventRecorder(api, "kubelet", "node1", clock=clock)
    for _ in range(3):
        recorder.event(subject, "Warning", "Unhealthy", "probe failed", "spec.containers{app}")
        clock.advance(10)
    recorder.event(subject, "Normal", "Pulled", "Container image already present")
    first, second = sorted(api.list("Event", "default"), key=lambda e: str(e["metadata"]["name"]))
    assert (first["count"], first["reason"], first["type"]) == (3, "Unhealthy", "Warning")
    assert (first["firstTimestamp"], first["lastTimestamp"]) == (
        "2026-11-23T11:22:00Z",
        "2026-11-23T11:22:20Z",
    )
    assert first["involvedObject"] == {
        "kind": "ConfigMap",
        "namespace": "default",
        "name": "subject",
        "uid": subject["metadata"]["uid"],
        "apiVersion": "v1",
        "resourceVersion": subject["metadata"]["resourceVersion"],
        "fieldPath": "spec.containers{app}",
    }
    assert first["source"] == {"component": "kubelet", "host": "node1"}
    assert (first["reportingComponent"], first["reportingInstance"]) == ("kubelet", "node1")
    assert second["count"] == 1
    clock.advance(601)
    recorder.event(subject, "Warning", "Unhealthy", "probe failed", "spec.containers{app}")
    assert len(api.list("Event", "default")) == 3


def test_events_at_the_same_instant_get_names_of_their_own(api: Api, clock: Any) -> None:
    subject = api.create(config_map("subject"), manager="test")
    recorder = EventRecorder(api, "kubelet", clock=clock)
    for text in ("one", "two", "three"):
        recorder.event(subject, "Normal", "Said", text)
    assert len({e["metadata"]["name"] for e in api.list("Event", "default")}) == 3


def test_an_event_that_is_refused_troubles_nobody(api: Api, clock: Any) -> None:
    nowhere = config_map("subject", uid="u")
    nowhere["metadata"]["namespace"] = "absent"
    recorder = EventRecorder(api, "kubelet", clock=clock)
    recorder.event(nowhere, "Normal", "Said", "hello")
    recorder.scheduling(nowhere, "Normal", "Scheduled", "Binding", "hello")
    assert api.list("Event") == []


def test_events_are_forgotten_after_an_hour(api: Api, clock: Any) -> None:
    subject = api.create(config_map("subject"), manager="test")
    EventRecorder(api, "kubelet", clock=clock).event(subject, "Normal", "Said", "hello")
    (event,) = api.list("Event", "default")
    pruner = EventPruner(api, clock)
    key = ("default", event["metadata"]["name"])
    clock.advance(3000)
    assert pruner.sync(key) == 600
    clock.advance(600)
    assert pruner.sync(key) is None
    assert api.list("Event", "default") == []
    assert pruner.sync(key) is None


def test_last_seen_prefers_the_series() -> None:
    event: Manifest = {"metadata": {}, "eventTime": "2026-11-23T11:22:00.5Z"}
    assert last_seen(event) == datetime(2026, 11, 23, 11, 22, 0, 500_000, tzinfo=UTC)
    event["series"] = {"lastObservedTime": "2026-11-23T12:00:00Z"}
    assert last_seen(event) == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert last_seen({"metadata": {}}) is None


def test_refused_pods_leave_their_reason_in_the_status(
    api: Api, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Quota:
        """The API server with a quota on Pods."""

        def __getattr__(self, name: str) -> Any:
            return getattr(api, name)

        def create(self, obj: Manifest, *, manager: str) -> Manifest:
            if obj["kind"] == "Pod" and api.list("Pod"):
                raise StatusError(403, "Forbidden", "exceeded quota: q")
            return api.create(obj, manager=manager)

    limited: Any = Quota()
    rs = deployment(3)
    rs["kind"] = "ReplicaSet"
    api.create(rs, manager="test")
    controller = ReplicaSetController(
        limited, EventRecorder(api, "replicaset-controller", clock=clock), clock
    )

    async def scenario() -> None:
        queue = WorkQueue()
        run_once(controller, ("default", "web"), queue)
        queue.close()

    asyncio.run(scenario())
    found = api.get("ReplicaSet", "web", "default")["status"]
    assert found["replicas"] == 1
    assert [(c["reason"], c["message"]) for c in found["conditions"]] == [
        ("FailedCreate", "exceeded quota: q")
    ]
    events = {e["reason"]: e for e in api.list("Event", "default")}
    assert events["FailedCreate"]["message"] == "Error creating: exceeded quota: q"
    assert events["FailedCreate"]["type"] == "Warning"
    assert "exceeded quota" in caplog.text


def test_a_pod_that_loses_its_labels_is_let_go_and_replaced(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create(deployment(2), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 2)
        pod = api.list("Pod", "default")[0]
        pod["metadata"]["labels"] = {"app": "debug"}
        api.update(pod, manager="test")
        await eventually(lambda: len(api.list("Pod", "default", labels={"app": "web"})) == 2)
        name = pod["metadata"]["name"]
        assert "ownerReferences" not in api.get("Pod", name, "default")["metadata"]
        pod = api.get("Pod", name, "default")
        (rs,) = api.list("ReplicaSet", "default")
        pod["metadata"]["labels"] = rs["spec"]["selector"]["matchLabels"]
        api.update(pod, manager="test")
        await eventually(lambda: len(api.list("Pod", "default")) == 2)
        await eventually(lambda: status(api).get("availableReplicas") == 2)

    play(api, clock, scenario)


def test_a_restart_writes_nothing_anew(api: Api, clock: Any) -> None:
    kinds = ("Deployment", "ReplicaSet", "Pod", "EndpointSlice", "Node", "Namespace", "Event")

    def versions() -> dict[str, str]:
        return {
            f"{kind} {obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
            for kind in kinds
            for obj in api.list(kind)
        }

    async def first(api: Api) -> None:
        service = {"selector": {"app": "web"}, "ports": [{"port": 8000}]}
        meta = {"name": "web", "namespace": "default"}
        api.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service}, manager="test")
        api.create(deployment(2), manager="test")
        await eventually(lambda: ready_addresses(api) == 2)
        await eventually(lambda: status(api)["conditions"][-1]["reason"] == "NewReplicaSetAvailable")

    async def second(api: Api) -> None:
        owner = api.create(config_map("owner"), manager="test")
        api.create(config_map("child", ownerReferences=owned_by(owner)), manager="test")
        api.delete("ConfigMap", "owner", "default")
        # The collector watches the most kinds of all: once it has acted, everyone has seen the start.
        await eventually(lambda: absent(api, "ConfigMap", "child"))

    play(api, clock, first)
    before = versions()
    assert len(before) > len(kinds)
    play(api, clock, second)
    assert versions() == before


def test_a_new_deployment_takes_in_what_a_deleted_one_orphaned(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        api.create(deployment(2), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 2)
        pods = {pod["metadata"]["uid"] for pod in api.list("Pod", "default")}
        api.delete("Deployment", "web", "default", propagation="Orphan")
        await eventually(lambda: absent(api, "Deployment", "web"))
        (rs,) = api.list("ReplicaSet", "default")
        assert "ownerReferences" not in rs["metadata"]
        made = api.create(deployment(2), manager="test")
        await eventually(lambda: status(api).get("availableReplicas") == 2)
        (rs,) = api.list("ReplicaSet", "default")
        assert [r["uid"] for r in rs["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]
        assert {pod["metadata"]["uid"] for pod in api.list("Pod", "default")} == pods

    play(api, clock, scenario)


def test_an_owner_of_a_kind_that_is_not_served_keeps_its_dependents(api: Api, clock: Any) -> None:
    foreign = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "w"}

    async def scenario(api: Api) -> None:
        api.create(config_map("kept", ownerReferences=[foreign]), manager="test")
        owner = api.create(config_map("owner"), manager="test")
        api.create(config_map("child", ownerReferences=owned_by(owner)), manager="test")
        api.delete("ConfigMap", "owner", "default")
        await eventually(lambda: absent(api, "ConfigMap", "child"))
        assert not absent(api, "ConfigMap", "kept")

    play(api, clock, scenario)


def test_another_object_of_the_owners_name_is_not_the_owner(api: Api, clock: Any) -> None:
    async def scenario(api: Api) -> None:
        first = api.create(config_map("owner"), manager="test")
        api.delete("ConfigMap", "owner", "default")
        api.create(config_map("owner"), manager="test")
        api.create(config_map("child", ownerReferences=owned_by(first)), manager="test")
        await eventually(lambda: absent(api, "ConfigMap", "child"))
        assert not absent(api, "ConfigMap", "owner")

    play(api, clock, scenario)
