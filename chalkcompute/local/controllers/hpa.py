"""The HorizontalPodAutoscaler controller: observes, lets `hpa_decision` decide, scales, and says so.

Every autoscaler is looked at once per period, and for the first time one period after it was made, as by
kube-controller-manager.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind, by_group_kind, parse_group_version
from chalkcompute.local.apimachinery.scale import to_scale
from chalkcompute.local.apimachinery.selectors import LabelSelector, match_label_selector, parse_labels
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.actions import MANAGER, Recorder, Update, perform
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.hpa_behavior import History, after_scaling
from chalkcompute.local.controllers.hpa_decision import (
    Decision,
    Scale,
    decide,
    rescaled,
    tolerances_of,
    unscalable,
)
from chalkcompute.local.controllers.hpa_metrics import Sources
from chalkcompute.local.controllers.objects import Key, key_of
from chalkcompute.local.measures import ExternalMetrics, Metrics
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["SYNC_SECONDS", "AutoscalerController"]

# kube-controller-manager takes 15 s, as its metrics do; here both are 5 s, since somebody watches.
SYNC_SECONDS = 5.0


@dataclass(slots=True)
class _Known:
    """What is remembered of one autoscaler.

    Attributes:
        uid: Its uid: another of the same name starts anew.
        due: When to look at it next.
        history: What it recommended and did.
        selector: Which Pods it scales; None before the first look.
    """

    uid: str
    due: datetime
    history: History = field(default_factory=History)
    selector: LabelSelector | None = None


class _NoTargetError(Exception):
    """What an autoscaler scales cannot be had."""


class AutoscalerController:
    """Scales what HorizontalPodAutoscalers name.

    Args:
        api: The API server from the inside.
        recorder: Of the component `horizontal-pod-autoscaler`.
        clock: The time, in UTC.
        metrics: What Pods use.
        external: What metrics of type External say; None where nobody answers them.
    """

    name = "horizontal-pod-autoscaler"
    kinds = ("HorizontalPodAutoscaler",)

    def __init__(
        self,
        api: Api,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        external: ExternalMetrics | None = None,
    ) -> None:
        self._api = api
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._external = external
        self._known: dict[Key, _Known] = {}

    def keys(self, change: Change) -> Iterator[Key]:
        yield key_of(change.obj)

    def sync(self, key: Key) -> float | None:
        hpa = find(self._api, "HorizontalPodAutoscaler", key)
        if hpa is None:
            self._known.pop(key, None)
            return None
        now, uid = self._clock(), hpa["metadata"]["uid"]
        known = self._known.get(key)
        if known is None or known.uid != uid:
            known = self._known[key] = _Known(uid, now + timedelta(seconds=SYNC_SECONDS))
        wait = (known.due - now).total_seconds()
        if 0 < wait <= SYNC_SECONDS:  # longer than that when the clock was set back
            return wait
        known.due = now + timedelta(seconds=SYNC_SECONDS)
        decision = self._look(hpa, known, now)
        known.history = decision.history
        for event_type, reason, message in decision.events:
            self._recorder.event(hpa, event_type, reason, message)
        if decision.status != hpa.get("status"):
            perform(self._api, [Update({**hpa, "status": decision.status}, "status")])
        return SYNC_SECONDS

    def _look(self, hpa: Manifest, known: _Known, now: datetime) -> Decision:
        try:
            target = self._target(hpa)
        except _NoTargetError as error:
            return unscalable(hpa, str(error), known.history, now)
        scale = _scale_of(target)
        known.selector = parse_labels(scale.selector) if scale.selector else None
        sources = self._sources(hpa, target, scale, now)
        decision = decide(hpa, scale, sources, self._rivals(hpa, sources.pods), known.history)
        if decision.scale_to is None:
            return decision
        failure = self._rescale(target, decision.scale_to)
        done = rescaled(decision, hpa.get("status") or {}, now, failure)
        if failure is not None:
            return done
        behavior: Mapping[str, Any] | None = hpa["spec"].get("behavior")
        history = after_scaling(decision.history, behavior, scale.replicas, decision.scale_to, now)
        return Decision(done.status, done.events, history)

    def _target(self, hpa: Manifest) -> Manifest:
        """What it scales.

        Raises:
            _NoTargetError: In the words of a client that asks for its scale.
        """
        reference = hpa["spec"]["scaleTargetRef"]
        kind = _served(reference)
        try:
            return self._api.get(kind.kind, reference["name"], hpa["metadata"]["namespace"])
        except StatusError as error:
            raise _NoTargetError(error.message) from error

    def _rescale(self, target: Manifest, replicas: int) -> str | None:
        """Scale; why not, where that is refused."""
        meta = target["metadata"]
        try:
            self._api.scale(target["kind"], meta["name"], meta["namespace"], replicas, manager=MANAGER)
        except StatusError as error:
            return error.message
        return None

    def _sources(self, hpa: Manifest, target: Manifest, scale: Scale, now: datetime) -> Sources:
        namespace = hpa["metadata"]["namespace"]
        selector = target["spec"].get("selector") or {}
        selected = [
            pod
            for pod in self._api.list("Pod", namespace, labels=selector.get("matchLabels"))
            if match_label_selector(selector, pod["metadata"].get("labels") or {})
        ]
        uids = {pod["metadata"]["uid"] for pod in selected}
        return Sources(
            namespace=namespace,
            current=scale.replicas,
            running=scale.running,
            pods=selected,
            usages=[usage for usage in self._metrics.pods(namespace) if usage.uid in uids],
            external=self._external,
            tolerances=tolerances_of(hpa),
            now=now,
        )

    def _rivals(self, hpa: Manifest, pods: Sequence[Manifest]) -> list[str]:
        """All autoscalers that select any of these Pods."""
        namespace = hpa["metadata"]["namespace"]
        return sorted(
            "/".join(key)
            for key, known in self._known.items()
            if key[0] == namespace
            and known.selector is not None
            and any(known.selector.matches(pod["metadata"].get("labels")) for pod in pods)
        )


def _served(reference: Mapping[str, Any]) -> Kind:
    """The kind that a `scaleTargetRef` names, which must have a scale.

    Its version says nothing: kube-controller-manager asks for the scale under the one that is served.
    """
    try:
        group, _ = parse_group_version(reference.get("apiVersion") or "")
    except ValueError as error:
        raise _NoTargetError(str(error)) from error
    kind = by_group_kind(group, reference["kind"])
    if kind is None:
        raise _NoTargetError(f'no matches for kind "{reference["kind"]}" in group "{group}"')
    if not kind.scale:
        raise _NoTargetError("the server could not find the requested resource")
    return kind


def _scale_of(target: Manifest) -> Scale:
    scale = to_scale(target)
    status = scale["status"]
    return Scale(scale["spec"].get("replicas", 0), status["replicas"], status.get("selector", ""))
