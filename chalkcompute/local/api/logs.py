"""`pods/log`: what a container printed, from the file that its runtime appends to.

Source: k8s.io/kubernetes `pkg/registry/core/pod/strategy.go` LogLocation and
`pkg/kubelet/kubelet.go` validateContainerLogStatus, for the refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from chalkcompute.local.api.failures import bad_request, invalid
from chalkcompute.local.api.logfile import LogFile
from chalkcompute.local.api.store import Store, Subscription
from chalkcompute.local.apimachinery.status import Cause
from chalkcompute.local.ports import Manifest

__all__ = ["LogQuery", "LogSource", "stream_log"]

_POLL_SECONDS = 0.1


class LogSource(Protocol):
    """Finds the files that containers' output is appended to."""

    def open(self, namespace: str, pod: str, pod_uid: str, container: str, previous: bool) -> Path | None:
        """The file of the current (or the previous) run of a container, or None if it has none."""
        ...


@dataclass(frozen=True, slots=True)
class LogQuery:
    """`PodLogOptions`.

    Attributes:
        container: Its name, "" for the only one.
        follow: Go on until the container ends.
        previous: The run before this one.
        tail_lines: Only the last lines, None for all.
        limit_bytes: Stop after so many bytes, None for no limit.
        timestamps: Put its time before every line.
        since_seconds: Only what was printed within so many seconds, None for all.
        since: Only what was printed from then on, None for all.
    """

    container: str = ""
    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    timestamps: bool = False
    since_seconds: int | None = None
    since: datetime | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> LogQuery:
        """From a request's query.

        Raises:
            StatusError: 422 Invalid for a number out of range, 400 for what is no number.
        """
        return cls(
            container=query.get("container", ""),
            follow=query.get("follow") in ("true", "1"),
            previous=query.get("previous") in ("true", "1"),
            tail_lines=_number(query, "tailLines", 0),
            limit_bytes=_number(query, "limitBytes", 1),
            timestamps=query.get("timestamps") in ("true", "1"),
            since_seconds=_number(query, "sinceSeconds", 1),
            since=_time(query, "sinceTime"),
        )

    def since_time(self, now: datetime) -> datetime | None:
        """From when on output is wanted."""
        return now - timedelta(seconds=self.since_seconds) if self.since_seconds else self.since


def _number(query: Mapping[str, str], name: str, least: int) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError as exc:
        raise bad_request(f'unable to parse {name} "{text}": must be an integer') from exc
    if number < least:
        message = f"Invalid value: {number}: must be greater than or equal to {least}"
        raise invalid("PodLogOptions", "", "", Cause(name, message))
    return number


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise bad_request(f'unable to parse {name} "{text}": must be an RFC 3339 time') from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def choose_container(pod: Manifest, wanted: str) -> str:
    """The container whose log is meant.

    Raises:
        StatusError: 400 when it does not exist, or none is named and there are several.
    """
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [c["name"] for c in spec.get("containers") or []]
    init_names = [c["name"] for c in spec.get("initContainers") or []]
    if not wanted:
        if len(names) == 1:
            return str(names[0])
        also = f" or one of the init containers: [{' '.join(init_names)}]" if init_names else ""
        raise bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{also}"
        )
    if wanted not in (*names, *init_names):
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted


def container_status(pod: Manifest, container: str) -> dict[str, Any]:
    """The status of a container, {} when there is none yet."""
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    found: dict[str, Any] = next((s for s in statuses if s.get("name") == container), {})
    return found


def log_file(logs: LogSource, pod: Manifest, container: str, previous: bool) -> Path:
    """The file to read.

    Raises:
        StatusError: 400 when there is no such run of the container.
    """
    metadata, status = pod["metadata"], container_status(pod, container)
    name, state, last = metadata["name"], status.get("state") or {}, status.get("lastState") or {}
    # A container that waits to be restarted shows what its last run printed.
    earlier = previous or ("waiting" in state and "terminated" in last)
    for run in (previous, earlier):
        path = logs.open(metadata["namespace"], name, metadata["uid"], container, run)
        if path is not None and (not previous or "terminated" in last):
            return path
    if previous:
        raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    if waiting := state.get("waiting"):
        reason = waiting.get("reason", "")
        if reason in ("ErrImagePull", "ImagePullBackOff"):
            reason = "trying and failing to pull image"
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    raise bad_request(f'container "{container}" in pod "{name}" is not available')


async def stream_log(
    request: web.BaseRequest,
    store: Store,
    logs: LogSource,
    pod: Manifest,
    query: LogQuery,
    closing: Subscription,
    now: datetime,
) -> web.StreamResponse:
    """Answer a request for a log.

    Args:
        request: The request to answer.
        store: Where the Pod's state is read while following.
        logs: Where the files are.
        pod: The Pod.
        query: Which container, and how much.
        closing: Finished when the server stops; ends following.
        now: What `sinceSeconds` counts from.

    Raises:
        StatusError: 400 when there is no such container or run.
    """
    container = choose_container(pod, query.container)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    if not pod["spec"].get("nodeName"):
        await response.prepare(request)
        return response
    path = log_file(logs, pod, container, query.previous)
    with LogFile(path, stamped=query.timestamps) as file:
        await response.prepare(request)
        file.begin(query.tail_lines, query.since_time(now))
        left = query.limit_bytes
        while left is None or left > 0:
            ended = not query.follow or closing.finished or not _still_runs(store, pod, container)
            block = file.read()
            last = not block and ended
            block = file.rest() if last else block
            if block:
                await response.write(block[:left])
                left = None if left is None else left - len(block)
            if last:
                break
            if not block:
                await asyncio.sleep(_POLL_SECONDS)
    return response


def _still_runs(store: Store, pod: Manifest, container: str) -> bool:
    """Whether the run that is followed may still print: same Pod, same restart, not terminated."""
    metadata = pod["metadata"]
    now = store.get("Pod", metadata["namespace"], metadata["name"])
    if now is None or now["metadata"]["uid"] != metadata["uid"]:
        return False
    before, after = container_status(pod, container), container_status(now, container)
    if after.get("restartCount", 0) != before.get("restartCount", 0):
        return False
    state = after.get("state") or {}
    return "terminated" not in state and not (
        "waiting" in state and "terminated" in (after.get("lastState") or {})
    )
