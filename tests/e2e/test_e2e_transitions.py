"""The twelve ways from one autoscaler to another, up and down, on a running cluster.

While each deploy is under way, the live count is looked at all the time: it never drops below what it was,
or below what is asked for where that is less. On a cluster without KEDA the ways from it and to it cannot be
gone: they are skipped there, and fail on the local cluster, which has all that they need.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.harness import Chalk, Kubernetes, eventually
from tests.e2e.keda import require_keda
from tests.e2e.load import PROGRAM, Door, Traffic

# A replica that uses all it may use is at 100 % of its request: an autoscaler that measures has no reason
# to add replicas in the middle of a test.
FULL = "--target-cpu=100"
ASLEEP = 0

WAYS = [
    # from, live replicas, to, replicas asked for at least
    ("fixed", 1, "hpa", 2),
    ("fixed", 3, "hpa", 1),
    ("fixed", 1, "keda", 0),
    ("fixed", 3, "keda", 0),
    ("hpa", 1, "fixed", 2),
    ("hpa", 3, "fixed", 1),
    ("hpa", 1, "keda", 0),
    ("hpa", 3, "keda", 0),
    ("keda", ASLEEP, "fixed", 2),
    ("keda", 1, "fixed", 1),
    ("keda", ASLEEP, "hpa", 2),
    ("keda", 1, "hpa", 1),
]


def flags(mode: str, count: int, *, idle: str | None = None) -> list[str]:
    if mode == "fixed":
        return [f"--replicas={count}"]
    if mode == "hpa":
        return [f"--min-replicas={count}", f"--max-replicas={count + 2}", FULL]
    return ["--min-replicas=0", "--max-replicas=4", *([f"--idle-timeout={idle}"] if idle else [])]


def replicas(kubernetes: Kubernetes, namespace: str) -> int:
    return int(kubernetes.deployment(namespace, "web")["spec"]["replicas"])


def autoscalers(kubernetes: Kubernetes, namespace: str) -> tuple[Any, Any]:
    """The HorizontalPodAutoscaler and the ScaledObject of the group, each None if there is none."""
    hpa = kubernetes.find(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/web")
    if not kubernetes.serves("keda.sh/v1alpha1", "scaledobjects"):
        return hpa, None
    return hpa, kubernetes.find(f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects/web")


def is_kedas(hpa: Any) -> bool:
    owners = hpa["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner["kind"] == "ScaledObject" for owner in owners)


@contextmanager
def looking(kubernetes: Kubernetes, namespace: str) -> Iterator[list[int]]:
    """The live counts that are seen meanwhile."""
    counts: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            counts.append(replicas(kubernetes, namespace))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield counts
    finally:
        ended.set()
        thread.join()


def begin(chalk: Chalk, kubernetes: Kubernetes, namespace: str, mode: str, live: int) -> None:
    """A group of that mode that has so many replicas."""
    idle = "1" if live == ASLEEP else None
    chalk.serve("web", *flags(mode, live, idle=idle))
    eventually(lambda: replicas(kubernetes, namespace) == live, f"{live} replicas")
    if live == ASLEEP:
        eventually(lambda: not kubernetes.pods(namespace, "web"), "the group is asleep")


@pytest.mark.parametrize(("before", "live", "after", "asked"), WAYS)
def test_a_transition(
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    answer: Callable[..., tuple[int, str]],
    real: bool,
    before: str,
    live: int,
    after: str,
    asked: int,
) -> None:
    if "keda" in (before, after):
        require_keda(kubernetes, real=real)
    begin(chalk, kubernetes, namespace, before, live)
    pods = {pod["metadata"]["uid"] for pod in kubernetes.pods(namespace, "web")}
    with looking(kubernetes, namespace) as counts:
        deploy = chalk.serve("web", *flags(after, asked))
    wanted = asked if after == "fixed" else max(live, asked)
    assert replicas(kubernetes, namespace) == wanted
    assert counts
    assert min(counts) >= min(live, wanted), counts
    if wanted >= live:
        assert pods <= {pod["metadata"]["uid"] for pod in kubernetes.pods(namespace, "web")}
    hpa, scaled = autoscalers(kubernetes, namespace)
    assert (scaled is not None) == (after == "keda")
    assert (hpa is not None and not is_kedas(hpa)) == (after == "hpa")
    assert ("the number of replicas is fixed at" in deploy.err) == (after == "fixed")
    assert chalk.sg("get", "web", "-o", "json").json()["status"] == "Available"
    assert answer("web")[0] == 200


def test_no_request_is_lost_on_the_way(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, door: Callable[[str], Door], real: bool
) -> None:
    """Requests go on while the gateway is led to KEDA's interceptor and away from it."""
    require_keda(kubernetes, real=real)
    program = [f"--entrypoint={json.dumps(['python', '-c', PROGRAM])}", "--shutdown-delay=5"]
    chalk.serve("web", *flags("fixed", 2), *program)
    found = door("web")
    eventually(lambda: found.ask("/")[0] == 200, "it answers through the gateway")
    with Traffic(found) as traffic:
        for mode, count in (("hpa", 2), ("keda", 0), ("fixed", 2), ("keda", 0), ("hpa", 2), ("fixed", 1)):
            chalk.serve("web", *flags(mode, count), *program)
            traffic.flow(60)
    assert not traffic.ledger.lost, str(traffic.ledger)
