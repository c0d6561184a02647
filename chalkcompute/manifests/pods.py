"""Reading a pod: the few facts that status and verdicts need, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chalkcompute.manifests import labels
from chalkcompute.manifests.deployment import CONTAINER
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Manifest

__all__ = ["Pod", "condition", "event_time", "events_about", "log_lines", "probe_says", "seconds_since"]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LOG_LINES_MAX = 20
_PROBES = ("readinessProbe", "startupProbe")
_TEMPLATE_KEYS = ("image", "command", "args", "env", "ports", "resources", *_PROBES, "lifecycle")


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, read through its container `app`.

    Attributes:
        manifest: The pod as the API has it.
    """

    manifest: Manifest

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return str(self.manifest["metadata"]["name"])

    @property
    def created(self) -> datetime:
        """`metadata.creationTimestamp`."""
        return parse_time(self.manifest["metadata"].get("creationTimestamp")) or _LONG_AGO

    @property
    def status(self) -> Mapping[str, Any]:
        """`status`, empty before there is one."""
        return self.manifest.get("status") or {}

    @property
    def started(self) -> datetime | None:
        """When the node took it on (`status.startTime`)."""
        return parse_time(self.status.get("startTime"))

    @property
    def is_over(self) -> bool:
        """Being deleted, ended or evicted: it says nothing about the group any more."""
        ended = self.status.get("phase") in ("Failed", "Succeeded")
        return ended or self.manifest["metadata"].get("deletionTimestamp") is not None

    @property
    def container(self) -> Mapping[str, Any]:
        """`status.containerStatuses[]` of our container, empty before there is one."""
        statuses: Sequence[Mapping[str, Any]] = self.status.get("containerStatuses") or ()
        return next((s for s in statuses if s.get("name") == CONTAINER), {})

    @property
    def restarts(self) -> int:
        """How often the container was started again."""
        return int(self.container.get("restartCount", 0))

    @property
    def waiting(self) -> Mapping[str, Any]:
        """Why the container is not running, `{reason, message}`, empty if it is."""
        return (self.container.get("state") or {}).get("waiting") or {}

    @property
    def running_since(self) -> datetime | None:
        """When the container that runs was started, None if none runs."""
        running = (self.container.get("state") or {}).get("running")
        return None if running is None else (parse_time(running.get("startedAt")) or _LONG_AGO)

    @property
    def termination(self) -> Mapping[str, Any]:
        """How the container ended last, empty if it never did."""
        for key in ("state", "lastState"):
            if ended := (self.container.get(key) or {}).get("terminated"):
                return dict(ended)
        return {}

    @property
    def is_running(self) -> bool:
        """Whether its container runs."""
        return self.running_since is not None

    @property
    def is_ready(self) -> bool:
        """Condition `Ready`."""
        return condition(self.manifest, "Ready").get("status") == "True"

    @property
    def serves(self) -> bool:
        """Whether our container is ready, whatever a sidecar or a readiness gate still waits for."""
        return self.is_ready or bool(self.container.get("ready"))

    @property
    def image(self) -> str:
        """The image as it was asked for."""
        return str(_declared(self.manifest).get("image", ""))

    def limit(self, resource: str) -> str | None:
        """The container's limit of a resource."""
        found = ((_declared(self.manifest).get("resources") or {}).get("limits") or {}).get(resource)
        return None if found is None else str(found)

    @property
    def requests(self) -> Mapping[str, Any]:
        """What the container requests, by resource."""
        return (_declared(self.manifest).get("resources") or {}).get("requests") or {}

    def request(self, resource: str) -> str | None:
        """The container's request of a resource."""
        found = self.requests.get(resource)
        return None if found is None else str(found)

    @property
    def startup_probe(self) -> Mapping[str, Any]:
        """The startup probe of the container, empty without one."""
        return _declared(self.manifest).get("startupProbe") or {}

    @property
    def startup_seconds(self) -> int:
        """How long a start is left alone: the first probe comes at once, the last failure ends it."""
        probe = self.startup_probe
        return (int(probe.get("failureThreshold", 3)) - 1) * int(probe.get("periodSeconds", 10))

    @property
    def has_started(self) -> bool:
        """Whether the startup probe has been passed, or there is none."""
        return not self.startup_probe or bool(self.container.get("started"))

    @property
    def node_selector(self) -> Mapping[str, str]:
        """`spec.nodeSelector`."""
        return (self.manifest.get("spec") or {}).get("nodeSelector") or {}

    @property
    def probe(self) -> Mapping[str, Any]:
        """The readiness probe of the container."""
        return _declared(self.manifest).get("readinessProbe") or {}

    def is_made_from(self, template: Mapping[str, Any]) -> bool:
        """Whether a pod template, as the API server has it, gives this pod."""
        wanted = (template.get("metadata") or {}).get("labels") or {}
        declared, made = _declared(template), _declared(self.manifest)
        same = all(declared.get(key) == made.get(key) for key in _TEMPLATE_KEYS)
        return same and all(self.label(key) == value for key, value in wanted.items())

    def contains(self, template: Mapping[str, Any]) -> bool:
        """Whether all that a pod template says of our container is in this pod, whatever else is.

        A mesh adds variables, a LimitRange adds limits, both after the Deployment has made the pod.
        """
        wanted = (template.get("metadata") or {}).get("labels") or {}
        declared, made = _declared(template), _declared(self.manifest)
        inside = all(_is_within(declared[key], made.get(key)) for key in _TEMPLATE_KEYS if key in declared)
        return inside and all(self.label(key) == value for key, value in wanted.items())

    @property
    def substituted(self) -> str | None:
        """What the node says of something else that runs in the place of the image, or None."""
        value = (self.manifest["metadata"].get("annotations") or {}).get(labels.SUBSTITUTED_ANNOTATION)
        return value if isinstance(value, str) and value else None

    def label(self, key: str) -> str | None:
        """A label, or None."""
        value = (self.manifest["metadata"].get("labels") or {}).get(key)
        return value if isinstance(value, str) else None


def _declared(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Our container as a pod or a pod template declares it."""
    declared: Sequence[Mapping[str, Any]] = (pod.get("spec") or {}).get("containers") or ()
    return next((c for c in declared if c.get("name") == CONTAINER), {})


def _is_within(part: Any, whole: Any) -> bool:
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(_is_within(value, whole.get(key)) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        if all(isinstance(item, Mapping) and "name" in item for item in (*part, *whole)):
            named = {item["name"]: item for item in whole}
            return all(_is_within(item, named.get(item["name"])) for item in part)
        return part == whole
    return bool(part == whole)


def condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """`status.conditions[]` of a type, empty if it has none."""
    found: Sequence[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c.get("type") == kind), {})


def events_about(events: Sequence[Manifest] | None, pod: Pod, *reasons: str) -> list[Manifest]:
    """Events of these reasons about a pod, oldest first."""
    found = [
        event
        for event in events or ()
        if event.get("reason") in reasons and event.get("involvedObject", {}).get("name") == pod.name
    ]
    return sorted(found, key=lambda event: event_time(event) or _LONG_AGO)


def event_time(event: Manifest) -> datetime | None:
    """When it happened last: scheduler events have an `eventTime` only, kubelet events the other two."""
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text)


def probe_says(message: str) -> str:
    """What an Event says of a probe, without its kind and its result, which the kubelet puts before it."""
    result = r"^(Readiness|Startup) probe (failed|errored and resulted in \w+ state):"
    return re.sub(result, "", message).strip()


def log_lines(message: str | None) -> tuple[str, ...]:
    """The last lines of a termination message, which under FallbackToLogsOnError is the end of the log."""
    return tuple((message or "").rstrip().splitlines()[-_LOG_LINES_MAX:])


def seconds_since(moment: datetime | None, now: datetime) -> float:
    """Seconds that have passed; 0 for a moment that is not known or, by another clock, yet to come."""
    return max((now - moment).total_seconds(), 0.0) if moment is not None else 0.0
