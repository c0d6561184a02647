"""Who owns `spec.replicas`, and how it changes hands without the live count ever dropping.

With a fixed count we do, through the apply; with an autoscaler nobody applies it. Facts behind it:
an apply that drops `replicas` resets it to 1 unless another manager has applied it too; an HPA never
lifts a Deployment from 0; KEDA refuses a Deployment that an HPA already scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ConflictError, ForbiddenError, ObjectNotFoundError
from chalkcompute.manifests import labels
from chalkcompute.manifests.record import Record
from chalkcompute.service import existing
from chalkcompute.service.ownership import applied_fields
from chalkcompute.service.read import describe
from chalkcompute.service.scope import World
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["HandOver", "Remove", "Scale", "Step", "await_first", "lift", "plan", "run"]

_REMOVAL_SECONDS = 30.0
_FIRST_REPLICA_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an autoscaler, this very one, and wait until these kinds of that name are gone."""

    kind: str
    uid: str
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    """Apply the count as `chalk-replicas`, so that it stays when our own apply drops it."""

    replicas: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Set the count through the `scale` subresource."""

    replicas: int


Step = Remove | HandOver | Scale


def plan(
    spec: ScalingGroupSpec,
    deployment: Manifest | None,
    autoscaler: Manifest | None,
    scaled_object: Manifest | None,
) -> tuple[Step, ...]:
    """What to do before the objects of `spec` are applied (pure).

    Args:
        spec: What the group shall be.
        deployment: The live Deployment, or None.
        autoscaler: The live HorizontalPodAutoscaler of its name, or None.
        scaled_object: The live ScaledObject of its name, or None.
    """
    steps: list[Step] = []
    if scaled_object is not None and (spec.mode != "keda" or _is_going(scaled_object)):
        # KEDA's own HPA has the group's name too: it must be gone before ours comes.
        uid = scaled_object["metadata"]["uid"]
        steps.append(Remove("ScaledObject", uid, ("ScaledObject", "HorizontalPodAutoscaler")))
    if autoscaler is not None and scaled_object is None:
        # Without its ScaledObject, which an earlier deploy may have removed, KEDA's own is about to go too.
        others = existing.has_controller(autoscaler) or _is_going(autoscaler)
        if spec.mode != "hpa" or others:
            uid = autoscaler["metadata"]["uid"]
            steps.append(Remove("HorizontalPodAutoscaler", uid, ("HorizontalPodAutoscaler",)))
    if deployment is None or spec.mode == "fixed":
        return tuple(steps)
    live = int(deployment.get("spec", {}).get("replicas", 1))
    wanted = max(live, spec.min_replicas)
    if "f:replicas" in applied_fields(deployment).get("f:spec", {}):
        steps.append(HandOver(wanted))
    elif live < wanted:
        steps.append(Scale(wanted))
    return tuple(steps)


def run(
    cluster: Cluster,
    namespace: str,
    name: str,
    steps: tuple[Step, ...],
    world: World,
    say: Callable[[str], None],
) -> None:
    """Carry the steps out, in order.

    Raises:
        ConflictError: An autoscaler does not go away.
    """
    for step in steps:
        match step:
            case Remove(kind, uid, gone):
                say(f"removing {kind}/{name}")
                existing.remove(cluster, kind, name, namespace, uid)
                _wait_gone(cluster, gone, name, namespace, world)
            case HandOver(replicas):
                cluster.apply(_only_replicas(name, namespace, replicas), manager=labels.REPLICAS_MANAGER)
            case Scale(replicas):
                try:
                    _scale(cluster, namespace, name, replicas)
                except ForbiddenError:  # of `deployments/scale`, a right of its own; the autoscaler is gone
                    cluster.apply(_only_replicas(name, namespace, replicas), manager=labels.REPLICAS_MANAGER)


def lift(cluster: Cluster, spec: ScalingGroupSpec, deployment: Manifest) -> str | None:
    """Bring a Deployment that just came into being up to the minimum at once.

    The HPA would do so by itself within 15 seconds; so a refusal is only worth a warning, returned.
    """
    if spec.mode != "hpa" or int(deployment["spec"].get("replicas", 1)) >= spec.min_replicas:
        return None
    meta = deployment["metadata"]
    try:
        _scale(cluster, meta["namespace"], meta["name"], spec.min_replicas)
    except ObjectNotFoundError:
        return None  # someone deletes the group: whoever deploys learns it from the record
    except ForbiddenError as error:
        return f"the autoscaler has to lift the group to its minimum by itself: {error.message}"
    return None


def await_first(cluster: Cluster, record: Record, world: World, hold: Callable[[Record], Record]) -> Record:
    """Wait for a replica that serves, before the route leads past what holds requests until there is one.

    It ends after a minute, and as soon as it is certain that none will start: to explain that is for whoever
    waits for the deploy.

    Args:
        cluster: The cluster.
        record: The group's, leased by us.
        world: Clock and sleep.
        hold: Keeps the lease, between two looks.
    """
    until = world.monotonic() + _FIRST_REPLICA_SECONDS
    while world.monotonic() < until:
        seen = describe(cluster, record, world=world)
        if seen.ready_replicas or (seen.verdict is not None and seen.verdict.terminal):
            break
        world.sleep(0.5)
        record = hold(record)
    return record


def _scale(cluster: Cluster, namespace: str, name: str, replicas: int) -> None:
    patch = {"spec": {"replicas": replicas}}
    cluster.merge("Deployment", name, patch, namespace, subresource="scale")


def _wait_gone(cluster: Cluster, kinds: tuple[str, ...], name: str, namespace: str, world: World) -> None:
    until = world.monotonic() + _REMOVAL_SECONDS
    for kind in kinds:
        while _exists(cluster, kind, name, namespace):
            if world.monotonic() >= until:
                forced = f"; {existing.let_go(name, namespace)}" if kind == "ScaledObject" else ""
                raise ConflictError(
                    f"{kind} `{name}` in namespace `{namespace}` was deleted but does not go away",
                    hint="a finalizer holds it: is KEDA's operator running? Deploy again once it is gone"
                    + forced,
                )
            world.sleep(0.25)


def _is_going(obj: Manifest) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def _exists(cluster: Cluster, kind: str, name: str, namespace: str) -> bool:
    try:
        cluster.get(kind, name, namespace)
    except ObjectNotFoundError:
        return False
    return True


def _only_replicas(name: str, namespace: str, replicas: int) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas},
    }
