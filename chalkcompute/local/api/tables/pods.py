"""Pods: the one word that says how a Pod is doing, and its restarts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chalkcompute.local.api.tables.columns import (
    NONE,
    Columns,
    age,
    column,
    condition,
    name,
    section,
    since,
    wide,
)
from chalkcompute.local.ports import Manifest

__all__ = ["COLUMNS"]


def _pod(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec, status = section(obj, "spec"), section(obj, "status")
    sidecars = _sidecars(obj)
    beside = [s for s in status.get("initContainerStatuses") or [] if s["name"] in sidecars]
    statuses = [*(status.get("containerStatuses") or []), *beside]
    ready = sum(bool(s.get("ready") and "running" in _state(s)) for s in statuses)
    gates = spec.get("readinessGates") or []
    passed = sum(condition(obj, gate.get("conditionType", "")).get("status") == "True" for gate in gates)
    addresses = status.get("podIPs") or []
    return (
        name(obj),
        f"{ready}/{len(spec.get('containers') or []) + len(sidecars)}",
        _status_word(obj),
        _restarts(statuses, now),
        age(obj, now),
        (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    )


def _sidecars(obj: Manifest) -> set[str]:
    """The init containers that run on beside the others."""
    init = section(obj, "spec").get("initContainers") or []
    return {container["name"] for container in init if container.get("restartPolicy") == "Always"}


def _state(status: dict[str, Any]) -> dict[str, Any]:
    return status.get("state") or {}


def _status_word(obj: Manifest) -> str:
    """Phase, or the more telling reason of a container; `Terminating` once deleted."""
    status = section(obj, "status")
    word = status.get("reason") or status.get("phase") or ""
    if condition(obj, "PodScheduled").get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    initializing = _initializing(obj)
    if initializing and condition(obj, "Initialized").get("status") != "True":
        word = initializing
    else:
        statuses = status.get("containerStatuses") or []
        word = _container_word(statuses) or word
        running = any(s.get("ready") and "running" in _state(s) for s in statuses)
        if word == "Completed" and running:
            word = "Running" if condition(obj, "Ready").get("status") == "True" else "NotReady"
    if "deletionTimestamp" in obj["metadata"]:
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in ("Failed", "Succeeded"):
            return "Terminating"
    return str(word)


def _container_word(statuses: list[dict[str, Any]]) -> str:
    """The reason of the first container that has one to give."""
    for status in statuses:
        waiting, terminated = _state(status).get("waiting") or {}, _state(status).get("terminated")
        if waiting.get("reason"):
            return str(waiting["reason"])
        if terminated is not None:
            return _ended(terminated)
    return ""


def _ended(terminated: dict[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _initializing(obj: Manifest) -> str:
    """`Init:…` while an init container has not succeeded."""
    total = len(section(obj, "spec").get("initContainers") or [])
    sidecars = _sidecars(obj)
    for index, status in enumerate(section(obj, "status").get("initContainerStatuses") or []):
        if status["name"] in sidecars and status.get("started"):
            continue
        terminated, waiting = _state(status).get("terminated"), _state(status).get("waiting") or {}
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if terminated is not None:
            return f"Init:{_ended(terminated)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{total}"
    return ""


def _restarts(statuses: list[dict[str, Any]], now: datetime) -> str:
    count = sum(s.get("restartCount", 0) for s in statuses)
    finished = [((s.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for s in statuses]
    last = max((moment for moment in finished if moment), default=None)
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


COLUMNS = {
    "Pod": Columns(
        (
            column("Name"),
            column("Ready"),
            column("Status"),
            column("Restarts"),
            column("Age"),
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ),
        _pod,
    )
}
