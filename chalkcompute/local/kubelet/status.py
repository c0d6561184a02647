"""What a kubelet writes into the status of a Pod. Pure.

Source: `pkg/kubelet/kubelet_pods.go` getPhase, `pkg/kubelet/status/generate.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from chalkcompute.local.apimachinery.pod_resources import amounts_of, has_pod_resources
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.controllers.objects import format_time
from chalkcompute.local.ports import Manifest

__all__ = ["ContainerState", "phase_of", "pod_status", "terminated_state"]

Role: TypeAlias = Literal["main", "init", "sidecar"]
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(slots=True)
class ContainerState:
    """What the kubelet knows of one container.

    Attributes:
        name: Its name.
        image: As in the Pod, or in full once it was pulled.
        waiting: Reason and message; what holds unless it is running or terminated.
        running_since: When it started, None when it does not run.
        terminated: `ContainerStateTerminated` when it ended and is not to run again yet.
        last_terminated: The run before.
        restart_count: Runs after the first.
        started: Its start-up probe has succeeded, or it has none.
        ready: It is started and its readiness probe succeeds, or it has none.
        container_id: `chalk://<id>` of the last run.
        image_id: Of the image, "" before it was pulled.
        resources: `resources` of the container.
        volume_mounts: `volumeMounts` of the container.
        role: A `sidecar` is an init container that runs on beside the others (`restartPolicy: Always`).
    """

    name: str
    image: str
    waiting: tuple[str, str] = ("ContainerCreating", "")
    running_since: datetime | None = None
    terminated: dict[str, Any] | None = None
    last_terminated: dict[str, Any] | None = None
    restart_count: int = 0
    started: bool = False
    ready: bool = False
    container_id: str = ""
    image_id: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    role: Role = "main"

    def wait(self, reason: str, message: str = "") -> None:
        """It waits; what it was becomes its last state."""
        self._end_run()
        self.waiting = (reason, message)

    def run(self, since: datetime, container_id: str) -> None:
        """It runs."""
        self._end_run()
        self.running_since = since
        self.container_id = container_id

    def end(self, terminated: dict[str, Any]) -> None:
        """It has ended."""
        self._end_run()
        self.terminated = terminated

    def _end_run(self) -> None:
        if self.terminated is not None:
            self.last_terminated = self.terminated
        self.terminated = None
        self.running_since = None
        self.ready = self.started = False

    @property
    def began(self) -> bool:
        """Whether it runs, or has run at some time."""
        return bool(self.running_since or self.terminated or self.last_terminated)

    def to_status(self) -> dict[str, Any]:
        """`ContainerStatus`."""
        status: dict[str, Any] = {
            "name": self.name,
            "state": self._state(),
            "lastState": {"terminated": self.last_terminated} if self.last_terminated else {},
            "ready": self.ready or self._is_done(),
            "restartCount": self.restart_count,
            "image": self.image,
            "imageID": self.image_id,
            "started": self.started,
        }
        if self.container_id:
            status["containerID"] = self.container_id
            status["resources"] = dict(self.resources)
        if requests := (self.resources.get("requests") if self.container_id else None):
            status["allocatedResources"] = dict(requests)
        if self.volume_mounts:
            status["volumeMounts"] = [_volume_mount_status(mount) for mount in self.volume_mounts]
        return status

    def _is_done(self) -> bool:
        """Whether it is an init container that has done its work."""
        return self.role == "init" and self.terminated is not None and self.terminated["exitCode"] == 0

    def _state(self) -> dict[str, Any]:
        if self.running_since is not None:
            return {"running": {"startedAt": format_time(self.running_since)}}
        if self.terminated is not None:
            return {"terminated": self.terminated}
        reason, message = self.waiting
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    def resume(self, status: Mapping[str, Any], now: datetime) -> None:
        """Take over from what an earlier kubelet wrote: no process of that time lives any more."""
        self.restart_count = status.get("restartCount", 0)
        self.image_id = status.get("imageID", "")
        self.container_id = status.get("containerID", "")
        state = status.get("state") or {}
        self.last_terminated = (status.get("lastState") or {}).get("terminated")
        if "running" in state:
            self.terminated = {
                "exitCode": 255,
                "reason": "Unknown",
                "startedAt": state["running"].get("startedAt") or _EPOCH,
                "finishedAt": format_time(now),
                "containerID": self.container_id,
            }
        elif "terminated" in state:
            self.terminated = state["terminated"]


def _volume_mount_status(mount: Mapping[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def terminated_state(
    exit_code: int,
    reason: str,
    *,
    message: str,
    started_at: datetime | None,
    finished_at: datetime,
    container_id: str,
) -> dict[str, Any]:
    """`ContainerStateTerminated`."""
    return {
        "exitCode": exit_code,
        "reason": reason,
        **({"message": message} if message else {}),
        "startedAt": format_time(started_at) if started_at else _EPOCH,
        "finishedAt": format_time(finished_at),
        "containerID": container_id,
    }


def phase_of(restart_policy: str, init: Sequence[ContainerState], main: Sequence[ContainerState]) -> str:
    """`status.phase`."""
    for state in init:
        if state.role == "sidecar":
            if not state.started and not (state.terminated or state.last_terminated):
                return "Pending"
            continue
        code = None if state.terminated is None else state.terminated["exitCode"]
        if code not in (None, 0) and restart_policy == "Never":
            return "Failed"
        if code is None and not state.started:
            return "Pending"
    if not all(state.began for state in main):
        return "Pending"
    sidecars = [state for state in init if state.role == "sidecar"]
    if any(state.running_since is not None for state in (*main, *sidecars)):
        return "Running"
    ended = [state.terminated for state in main if state.terminated is not None]
    if restart_policy == "Always" or len(ended) < len(main):
        return "Running"
    if all(end["exitCode"] == 0 for end in ended):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" else "Running"


def pod_status(
    pod: Manifest,
    *,
    init: Sequence[ContainerState],
    main: Sequence[ContainerState],
    pod_ip: str,
    host_ip: str,
    now: datetime,
    phase: str | None = None,
) -> dict[str, Any]:
    """The whole status. Times of conditions that stay as they are stay, too.

    Args:
        pod: The Pod as stored.
        init: Init containers, in order.
        main: Containers, in order.
        pod_ip: Its address, "" before it has one.
        host_ip: The node's.
        now: The time.
        phase: Overrides the phase (a Pod that was stopped).
    """
    old = pod.get("status") or {}
    phase = phase or phase_of(pod["spec"].get("restartPolicy", "Always"), init, main)
    status: dict[str, Any] = {
        "observedGeneration": pod["metadata"].get("generation", 1),
        "phase": phase,
        "conditions": _conditions(pod, init, main, bool(pod_ip), phase, format_time(now)),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": old.get("startTime") or format_time(now),
        "containerStatuses": [state.to_status() for state in main],
        "qosClass": qos_class(pod),
        "resources": pod["spec"].get("resources") or {},
    }
    if requests := amounts_of(pod["spec"], "requests"):
        status["allocatedResources"] = requests
    if pod_ip:
        status |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    if init:
        status["initContainerStatuses"] = [state.to_status() for state in init]
    return status


def qos_class(pod: Manifest) -> str:
    """`status.qosClass`: who is the first to go when memory runs out (`pkg/apis/core/v1/helper/qos`)."""
    spec = pod["spec"]
    holders = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    if has_pod_resources(spec):  # what it says as a whole is all that counts
        holders = (spec,)
    resources = [each.get("resources") or {} for each in holders]
    asked = [
        (kind, name)
        for each in resources
        for kind in ("requests", "limits")
        for name, amount in (each.get(kind) or {}).items()
        if name in ("cpu", "memory") and parse_quantity(str(amount))
    ]
    if not asked:
        return "BestEffort"
    return "Guaranteed" if all(_is_guaranteed(each) for each in resources) else "Burstable"


def _is_guaranteed(resources: Mapping[str, Any]) -> bool:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits and parse_quantity(str(limits[name])) == parse_quantity(str(requests.get(name, "0")))
        for name in ("cpu", "memory")
    )


def _conditions(
    pod: Manifest,
    init: Sequence[ContainerState],
    main: Sequence[ContainerState],
    has_address: bool,
    phase: str,
    now: str,
) -> list[dict[str, Any]]:
    serving = (*(state for state in init if state.role == "sidecar"), *main)
    unready = [state.name for state in serving if not state.ready]
    if phase in ("Succeeded", "Failed"):
        why = {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
        ready: tuple[bool, dict[str, str]] = (False, why)
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        ready = (False, {"reason": "ContainersNotReady", "message": message})
    else:
        ready = (True, {})
    incomplete = [
        state.name
        for state in init
        if not state.started and (state.terminated is None or state.terminated["exitCode"] != 0)
    ]
    initialized: tuple[bool, dict[str, str]] = (True, {})
    if phase == "Succeeded":
        initialized = (True, {"reason": "PodCompleted"})
    elif incomplete and not any(state.began for state in main):
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initialized = (False, {"reason": "ContainersNotInitialized", "message": message})
    wanted: dict[str, tuple[bool, dict[str, str]]] = {
        "PodReadyToStartContainers": (has_address, {}),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": (True, {}),
    }
    old = {condition["type"]: condition for condition in (pod.get("status") or {}).get("conditions") or ()}
    conditions = [
        _condition(kind, true, why, old.get(kind), pod["metadata"].get("generation", 1), now)
        for kind, (true, why) in wanted.items()
    ]
    return conditions + [condition for kind, condition in old.items() if kind not in wanted]


def _condition(
    kind: str, true: bool, why: dict[str, str], old: dict[str, Any] | None, generation: int, now: str
) -> dict[str, Any]:
    value = "True" if true else "False"
    since = old.get("lastTransitionTime") if old is not None and old["status"] == value else None
    return {
        "type": kind,
        "observedGeneration": generation,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": since or now,
        **why,
    }
