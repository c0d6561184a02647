"""Events: what components tell about objects, aggregated as the recorders of Kubernetes do.

Source: client-go `tools/record` (everything but the scheduler) and `tools/events` (the scheduler, whose
Events carry `eventTime` and `action` instead of `firstTimestamp`, `lastTimestamp` and `count`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.clock import utc_now
from chalkcompute.local.controllers.actions import Delete, perform
from chalkcompute.local.controllers.controller import Clock, find
from chalkcompute.local.controllers.objects import (
    Key,
    format_micro_time,
    format_time,
    key_of,
    parse_time,
    reference_to,
)
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["EventPruner", "EventRecorder"]

KEPT = timedelta(hours=1)  # kube-apiserver --event-ttl
SERIES_WINDOW = timedelta(minutes=10)  # client-go: the same again within this counts up
_REMEMBERED = 4096
_MANAGERS = {
    "kubelet": "kubelet",
    "default-scheduler": "kube-scheduler",
    "keda-operator": "keda-operator",
}

_EventKey: TypeAlias = tuple[str, str, str, str, str, str]

log = logging.getLogger(__name__)


class EventRecorder:
    """Writes Events for one component.

    Args:
        api: Where to.
        component: `source.component` and `reportingComponent`: `kubelet`, `deployment-controller`, ….
        host: Node name, for components that run on a node.
        clock: The time, in UTC.
    """

    def __init__(self, api: Api, component: str, host: str = "", *, clock: Clock = utc_now) -> None:
        self._api = api
        self._component = component
        self._host = host
        self._clock = clock
        self._manager = _MANAGERS.get(component, "kube-controller-manager")
        self._seen: OrderedDict[_EventKey, tuple[Key, datetime]] = OrderedDict()

    def event(
        self, obj: Manifest, event_type: str, reason: str, message: str, field_path: str | None = None
    ) -> None:
        """Record an Event; the same one again within ten minutes counts up.

        Events are a courtesy: a refusal (the namespace is being deleted) is logged and otherwise ignored.

        Args:
            obj: What it is about.
            event_type: `Normal` or `Warning`.
            reason: CamelCase word for machines.
            message: Sentence for people.
            field_path: Part of the object, `spec.containers{app}`.
        """
        involved = reference_to(obj)
        if field_path:
            involved["fieldPath"] = field_path
        key = (involved["kind"], involved.get("uid", ""), field_path or "", event_type, reason, message)
        try:
            if not self._count_up(key):
                self._remember(key, self._create(involved, event_type, reason, message, {}))
        except StatusError as error:
            log.debug("event %s about %s not recorded: %s", reason, involved["name"], error)

    def scheduling(self, pod: Manifest, event_type: str, reason: str, action: str, message: str) -> None:
        """Record an Event in the style of the scheduler: `eventTime` and `action`, no count."""
        involved = reference_to(pod)
        try:
            self._create(involved, event_type, reason, message, {"action": action})
        except StatusError as error:
            log.debug("event %s about %s not recorded: %s", reason, involved["name"], error)

    def _count_up(self, key: _EventKey) -> bool:
        """Raise the count of an Event that is still there; False when there is none to raise."""
        now = self._clock()
        remembered = self._seen.get(key)
        if remembered is None or now - remembered[1] > SERIES_WINDOW:
            return False
        event = find(self._api, "Event", remembered[0])
        if event is None:  # pruned, or its namespace was emptied
            return False
        event["count"] = event.get("count", 1) + 1
        event["lastTimestamp"] = format_time(now)
        self._api.update(event, manager=self._manager)
        self._remember(key, event)
        return True

    def _remember(self, key: _EventKey, event: Manifest) -> None:
        self._seen[key] = (key_of(event), self._clock())
        self._seen.move_to_end(key)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _create(
        self, involved: dict[str, Any], event_type: str, reason: str, message: str, extra: dict[str, Any]
    ) -> Manifest:
        now = self._clock()
        nanoseconds = int(now.timestamp() * 1_000_000) * 1000
        event: Manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": involved.get("namespace") or "default"},
            "involvedObject": involved,
            "type": event_type,
            "reason": reason,
            "message": message,
            **self._times(now, extra),
        }
        while True:
            event["metadata"]["name"] = f"{involved['name']}.{nanoseconds:x}"
            try:
                return self._api.create(event, manager=self._manager)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                nanoseconds += 1  # two within the clock's resolution

    def _times(self, now: datetime, extra: dict[str, Any]) -> dict[str, Any]:
        if extra:
            return {
                "source": {},
                "firstTimestamp": None,
                "lastTimestamp": None,
                "eventTime": format_micro_time(now),
                "reportingComponent": self._component,
                "reportingInstance": f"{self._component}-{self._host}",
                **extra,
            }
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "source": source,
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "count": 1,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }


def last_seen(event: Manifest) -> datetime | None:
    """When an Event last happened."""
    series = event.get("series") or {}
    for text in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    ):
        if text:
            return parse_time(text)
    return None


class EventPruner:
    """Deletes Events an hour after they last happened, as the real server's lease does."""

    name = "event-ttl"
    kinds = ("Event",)

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    def keys(self, change: Change) -> Iterator[Key]:
        if change.type != "DELETED":
            yield key_of(change.obj)

    def sync(self, key: Key) -> float | None:
        event = find(self._api, "Event", key)
        if event is None:
            return None
        since = last_seen(event)
        left = (since + KEPT - self._clock()).total_seconds() if since else 0.0
        if left > 0:
            return left
        perform(self._api, [Delete(event)])
        return None
