"""KEDA's operator, and that of its HTTP add-on: observe, let `keda_reconcile` decide, act.

Requests wake a workload by `Traffic.wakes`, within the turn of the loop that says so; that it is idle is
seen by looking at `Traffic`, once a second while it has replicas.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers import keda_reconcile
from chalkcompute.local.controllers.actions import Emit, Recorder, perform
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.keda_autoscaler import autoscaler_name
from chalkcompute.local.controllers.keda_objects import MANAGER
from chalkcompute.local.controllers.keda_reconcile import Observed, Outcome, target_reference
from chalkcompute.local.controllers.keda_triggers import NAME_LABEL, route_names, route_of_metric
from chalkcompute.local.controllers.objects import Key, controller_of, format_time, is_deleting, key_of
from chalkcompute.local.controllers.scaling import replicas_of
from chalkcompute.local.measures import RouteTraffic, Traffic
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["InterceptorRouteController", "RouteMetrics", "ScaledObjectController"]

FINALIZER = "finalizer.keda.sh"
_RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class ScaledObjectController:
    """Scales between zero and one, and makes the autoscaler that scales beyond.

    Args:
        api: The API server.
        recorder: Of the component `keda-operator`.
        clock: The time, in UTC.
        traffic: What the gateway sees of requests; None where no gateway runs.
    """

    name = "keda"
    kinds = ("ScaledObject", "InterceptorRoute", "HorizontalPodAutoscaler", "Deployment")

    def __init__(self, api: Api, recorder: Recorder, clock: Clock, traffic: Traffic | None) -> None:
        self._api = api
        self._recorder = recorder
        self._clock = clock
        self._traffic = traffic

    def keys(self, change: Change) -> Iterator[Key]:
        """The ScaledObject itself, or those that a change of something else concerns."""
        obj, namespace = change.obj, change.obj["metadata"]["namespace"]
        if change.kind == "ScaledObject":
            yield key_of(obj)
        elif change.kind == "HorizontalPodAutoscaler":
            owner = controller_of(obj, "ScaledObject")
            if owner is not None and (change.type == "DELETED" or _differs(change)):
                yield namespace, owner["name"]
        elif change.kind == "InterceptorRoute":
            yield from self._waiting_for(namespace, obj["metadata"]["name"])
        elif change.type != "MODIFIED" or _fell_to_zero(change):
            for scaled_object in self._api.list("ScaledObject", namespace):
                if target_reference(scaled_object) == (change.kind, obj["metadata"]["name"]):
                    yield key_of(scaled_object)

    def _waiting_for(self, namespace: str, route: str) -> Iterator[Key]:
        for scaled_object in self._api.list("ScaledObject", namespace):
            if route in route_names(scaled_object):
                yield key_of(scaled_object)

    async def follow_wakes(self) -> None:
        """Wake what requests wait for, until cancelled."""
        while self._traffic is not None:
            try:
                async for namespace, route in self._traffic.wakes():
                    self.wake(namespace, route)
            except Exception:
                log.exception("%s: waiting requests are not heard of; it starts again", self.name)
            await asyncio.sleep(_RESTART_SECONDS)

    def wake(self, namespace: str, route: str) -> None:
        """A request waits at an InterceptorRoute. What fails now is tried again when that is said again."""
        for key in self._waiting_for(namespace, route):
            try:
                self._sync(key, woken=True)
            except StatusError as error:
                log.warning("%s %s: not woken: %s", self.name, "/".join(key), error)

    def sync(self, key: Key) -> float | None:
        return self._sync(key, woken=False)

    def _sync(self, key: Key, *, woken: bool) -> float | None:
        scaled_object = find(self._api, "ScaledObject", key)
        if scaled_object is None:
            return None
        if is_deleting(scaled_object):
            self._let_go(scaled_object)
            return None
        seen = self._observe(self._adopted(scaled_object), woken=woken)
        outcome = keda_reconcile.reconcile(seen, self._clock())
        self._scale(seen, outcome)
        perform(self._api, outcome.actions, self._recorder, manager=MANAGER)
        return outcome.again

    def _adopted(self, scaled_object: Manifest) -> Manifest:
        """With KEDA's finalizer, and the label that its metrics are found by."""
        meta = scaled_object["metadata"]
        finalizers, labels = meta.get("finalizers") or [], meta.get("labels") or {}
        if FINALIZER in finalizers and labels.get(NAME_LABEL) == meta["name"]:
            return scaled_object
        meta["labels"] = {**labels, NAME_LABEL: meta["name"]}
        meta["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
        return self._api.update(scaled_object, manager=MANAGER)

    def _observe(self, scaled_object: Manifest, *, woken: bool) -> Observed:
        namespace, _ = key_of(scaled_object)
        kind, name = target_reference(scaled_object)
        names = route_names(scaled_object)
        routes = {n: r for n in names if (r := find(self._api, "InterceptorRoute", (namespace, n)))}
        wanted, before = autoscaler_name(scaled_object), (scaled_object.get("status") or {}).get("hpaName")
        return Observed(
            scaled_object,
            target=find(self._api, kind, (namespace, name)),
            autoscaler=find(self._api, "HorizontalPodAutoscaler", (namespace, wanted)),
            before=find(self._api, "HorizontalPodAutoscaler", (namespace, before))
            if before and before != wanted
            else None,
            routes=routes,
            traffic=self._seen(namespace, names),
            woken=woken,
        )

    def _seen(self, namespace: str, routes: Iterable[str]) -> dict[str, RouteTraffic]:
        if self._traffic is None:
            return {}
        found = {name: self._traffic.of_route("InterceptorRoute", namespace, name) for name in routes}
        return {name: traffic for name, traffic in found.items() if traffic is not None}

    def _scale(self, seen: Observed, outcome: Outcome) -> None:
        if outcome.replicas is None or seen.target is None:
            return
        try:
            self._set_replicas(seen.target, outcome.replicas)
        except StatusError:
            if outcome.scaled is not None:
                perform(self._api, [_failure(outcome.scaled)], self._recorder)
            raise
        if outcome.scaled is not None:
            perform(self._api, [outcome.scaled], self._recorder)

    def _set_replicas(self, target: Manifest, replicas: int) -> None:
        namespace, name = key_of(target)
        self._api.scale(target["kind"], name, namespace, replicas, manager=MANAGER)

    def _let_go(self, scaled_object: Manifest) -> None:
        """What KEDA does before its ScaledObject may go; its autoscaler goes with its owner."""
        meta = scaled_object["metadata"]
        if FINALIZER not in (meta.get("finalizers") or ()):
            return
        status = scaled_object.get("status") or {}
        restore = (scaled_object["spec"].get("advanced") or {}).get("restoreToOriginalReplicaCount")
        kind, name = target_reference(scaled_object)
        target = find(self._api, kind, (meta["namespace"], name))
        before = status.get("originalReplicaCount")
        if restore and target is not None and before is not None and replicas_of(target) != before:
            self._set_replicas(target, before)
        meta["finalizers"] = [f for f in meta["finalizers"] if f != FINALIZER]
        self._api.update(scaled_object, manager=MANAGER)
        told = (
            Emit(scaled_object, "Normal", "KEDAScalersStopped", "Stopped scalers watch"),
            Emit(scaled_object, "Warning", "ScaledObjectDeleted", "ScaledObject was deleted"),
        )
        perform(self._api, told, self._recorder)


def _failure(told: Emit) -> Emit:
    up = told.reason == "KEDAScaleTargetActivated"
    text = told.message.removeprefix("Scaled ").removeprefix("Deactivated ").partition(", triggered")[0]
    message = f"Failed to {'scaled' if up else 'deactivate'} {text}"  # KEDA's grammar
    reason = f"{told.reason.removesuffix('ed')}ionFailed"
    return Emit(told.obj, "Warning", reason, message)


def _differs(change: Change) -> bool:
    """Whether more changed than what an autoscaler tells of itself."""
    if change.old is None:
        return True
    old, new = change.old, change.obj
    fields = ("labels", "annotations", "ownerReferences")
    return old["spec"] != new["spec"] or any(
        old["metadata"].get(field) != new["metadata"].get(field) for field in fields
    )


def _fell_to_zero(change: Change) -> bool:
    return change.old is not None and replicas_of(change.old) > 0 and replicas_of(change.obj) == 0


class InterceptorRouteController:
    """Says that an InterceptorRoute is ready, as the HTTP add-on's operator does: of every one."""

    name = "interceptorroute"
    kinds = ("InterceptorRoute",)

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    def keys(self, change: Change) -> Iterable[Key]:
        """The route."""
        return [key_of(change.obj)]

    def sync(self, key: Key) -> float | None:
        route = find(self._api, "InterceptorRoute", key)
        if route is None or is_deleting(route):
            return None
        status = ready_status(route, format_time(self._clock()))
        if status != route.get("status"):
            self._api.update({**route, "status": status}, manager=MANAGER, subresource="status")
        return None


def ready_status(route: Manifest, now: str) -> Manifest:
    """The status of a route that was taken up. Pure."""
    status = route.get("status") or {}
    conditions = status.get("conditions") or []
    before = next((c for c in conditions if c["type"] == "Ready"), None)
    ready = {
        "type": "Ready",
        "status": "True",
        "observedGeneration": route["metadata"].get("generation", 0),
        "lastTransitionTime": before["lastTransitionTime"]
        if before is not None and before["status"] == "True"
        else now,
        "reason": "Reconciled",
        "message": "InterceptorRoute reconciled",
    }
    return {**status, "conditions": [*(c for c in conditions if c["type"] != "Ready"), ready]}


class RouteMetrics:
    """The metrics that KEDA's autoscalers ask for: requests under way, and their rate (`ExternalMetrics`).

    The rate is over the gateway's own window, whatever `scalingMetric.requestRate.window` says.

    Args:
        api: The API server.
        traffic: What the gateway sees; None where no gateway runs, and nothing is known.
    """

    def __init__(self, api: Api, traffic: Traffic | None) -> None:
        self._api = api
        self._traffic = traffic

    def value(self, namespace: str, metric: str, selector: Mapping[str, str]) -> float | None:
        """The sum of the series of that name with these labels, or None when there is none."""
        scaled_object = find(self._api, "ScaledObject", (namespace, selector.get(NAME_LABEL, "")))
        asked = None if scaled_object is None else route_of_metric(scaled_object, metric)
        if asked is None or self._traffic is None:
            return None
        route, what = asked
        if find(self._api, "InterceptorRoute", (namespace, route)) is None:
            return None
        traffic = self._traffic.of_route("InterceptorRoute", namespace, route)
        if traffic is None:
            return 0.0
        return float(traffic.in_flight) if what == "concurrency" else traffic.requests_per_second
