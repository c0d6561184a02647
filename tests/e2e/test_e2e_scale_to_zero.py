"""A group that sleeps: no replica while nobody asks, one as soon as somebody does.

On another cluster these need KEDA and its HTTP add-on, and are skipped where they are not served or where the
gateway is out of reach from here. The embedded cluster has both, always.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.harness import Chalk, Kubernetes, eventually
from tests.e2e.keda import require_keda
from tests.e2e.load import PROGRAM, Door

NAME = "doze"
IDLE = 2  # seconds


@pytest.fixture(autouse=True)
def _keda(kubernetes: Kubernetes, real: bool) -> None:
    require_keda(kubernetes, real=real)


class Sleeper:
    """One group of no replica or some, and what the cluster says of it."""

    def __init__(self, chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
        self.chalk = chalk
        self.kubernetes = kubernetes
        self.namespace = namespace

    def create(self, *args: str) -> None:
        self.chalk.serve(
            NAME,
            f"--entrypoint={json.dumps(['python', '-c', PROGRAM])}",
            "--min-replicas=0",
            "--max-replicas=2",
            f"--idle-timeout={IDLE}s",
            *args,
        )

    def group(self) -> Any:
        return self.chalk.sg("get", NAME, "-o", "json").json()

    @property
    def replicas(self) -> int:
        return int(self.kubernetes.deployment(self.namespace, NAME)["spec"]["replicas"])

    def pods(self) -> list[Any]:
        return self.kubernetes.pods(self.namespace, NAME)

    def asleep(self) -> None:
        eventually(lambda: self.replicas == 0, "its Deployment has no replica")
        eventually(lambda: self.group()["status"] == "ScaledToZero", "the group is asleep")
        eventually(lambda: self.pods() == [], "its last replica is gone")

    def scale(self, count: int) -> None:
        """As somebody does by hand."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}/scale"
        body = {"spec": {"replicas": count}}
        status, answer = self.kubernetes.request(
            "patch", path, body, content_type="application/merge-patch+json"
        )
        assert status == 200, answer

    def scaled_object(self) -> Any:
        return self.kubernetes.find(
            f"/apis/keda.sh/v1alpha1/namespaces/{self.namespace}/scaledobjects/{NAME}"
        )

    def autoscaler(self) -> Any:
        path = f"/apis/autoscaling/v2/namespaces/{self.namespace}/horizontalpodautoscalers/{NAME}"
        return self.kubernetes.find(path)

    def told(self) -> set[str]:
        """Reasons of the Events of its ScaledObject."""
        events = self.kubernetes.items(f"/api/v1/namespaces/{self.namespace}/events")
        return {
            event["reason"]
            for event in events
            if (event.get("involvedObject") or {}).get("kind") == "ScaledObject"
        }


@pytest.fixture
def sleeper(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> Sleeper:
    return Sleeper(chalk, kubernetes, namespace)


Doors = Callable[[str], Door]


def test_it_sleeps_is_woken_by_a_request_and_sleeps_again(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create()
    sleeper.asleep()
    assert sleeper.autoscaler() is not None, "the autoscaler stays while it sleeps"
    status, _, body = door(NAME).ask("/", timeout=150)
    assert (status, json.loads(body)["length"]) == (200, 0)
    assert "KEDAScaleTargetActivated" in sleeper.told()
    sleeper.asleep()
    assert "KEDAScaleTargetDeactivated" in sleeper.told()
    assert door(NAME).ask("/", timeout=150)[0] == 200
    sleeper.chalk.sg("delete", NAME)
    left = sleeper.kubernetes.group_objects(sleeper.namespace, NAME)
    assert [name for name in left if "chalk-sg-hist-" not in name] == []
    assert (sleeper.scaled_object(), sleeper.autoscaler()) == (None, None)


def test_all_who_wait_are_answered_by_the_first_replica(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create("--max-replicas=1")
    sleeper.asleep()
    found = door(NAME)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: found.ask(f"/?n={n}", timeout=150)[0], range(8)))
    assert answers == [200] * 8


def test_a_long_request_keeps_it_awake(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create()
    sleeper.asleep()
    found = door(NAME)
    assert found.ask("/", timeout=150)[0] == 200
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(found.ask, f"/late?seconds={IDLE + 6}", timeout=150)
        while not long.done():
            seen = sleeper.replicas
            if not long.done():
                assert seen >= 1, "it fell asleep while it was answering"
            time.sleep(0.5)
        assert long.result()[0] == 200
    sleeper.asleep()


def test_who_comes_as_it_falls_asleep_is_answered(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create()
    sleeper.asleep()
    found = door(NAME)
    for late in range(6):
        assert found.ask("/", timeout=150)[0] == 200
        time.sleep(IDLE + 0.3 * late)


def test_counts_set_by_hand_do_not_last(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create("--scaling-interval=2")
    sleeper.asleep()
    sleeper.scale(2)
    sleeper.asleep()
    found = door(NAME)
    assert found.ask("/", timeout=150)[0] == 200
    sleeper.scale(0)
    assert found.ask("/", timeout=150)[0] == 200, "a request wakes what was put to sleep by hand"
    sleeper.asleep()


def test_out_of_zero_and_into_it_again(sleeper: Sleeper, door: Doors) -> None:
    sleeper.create()
    sleeper.asleep()
    sleeper.chalk.serve(NAME, f"--entrypoint={json.dumps(['python', '-c', PROGRAM])}", "--replicas=1")
    assert (sleeper.scaled_object(), sleeper.autoscaler()) == (None, None)
    assert sleeper.replicas == 1
    eventually(lambda: door(NAME).ask("/", timeout=150)[0] == 200, "it answers")
    sleeper.create()
    assert sleeper.scaled_object() is not None
    sleeper.asleep()
    assert door(NAME).ask("/", timeout=150)[0] == 200
