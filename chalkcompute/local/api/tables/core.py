"""The smaller kinds: namespaces, configuration, nodes, events, leases, APIServices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chalkcompute.local.api.tables.columns import (
    NONE,
    UNKNOWN,
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

_ROLE_LABEL = "node-role.kubernetes.io/"
_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _namespace(obj: Manifest, now: datetime) -> Sequence[str | int]:
    return name(obj), section(obj, "status").get("phase", ""), age(obj, now)


def _api_service(obj: Manifest, now: datetime) -> Sequence[str | int]:
    found = condition(obj, "Available")
    available = found.get("status", "Unknown")
    if available != "True" and found.get("reason"):
        available = f"{available} ({found['reason']})"
    return name(obj), "Local", available, age(obj, now)  # one with a Service is not served here


def _config_map(obj: Manifest, now: datetime) -> Sequence[str | int]:
    return name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)


def _secret(obj: Manifest, now: datetime) -> Sequence[str | int]:
    return name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)


def _service_account(obj: Manifest, now: datetime) -> Sequence[str | int]:
    return name(obj), len(obj.get("secrets") or []), age(obj, now)


def _lease(obj: Manifest, now: datetime) -> Sequence[str | int]:
    return name(obj), section(obj, "spec").get("holderIdentity", ""), age(obj, now)


def _claim(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec, status = section(obj, "spec"), section(obj, "status")
    modes = status.get("accessModes") or []
    return (
        name(obj),
        "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", ""),
        ",".join(short for mode, short in _ACCESS_MODES.items() if mode in modes),
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode", "<unset>"),
    )


def _node(obj: Manifest, now: datetime) -> Sequence[str | int]:
    status = section(obj, "status")
    info = status.get("nodeInfo") or {}
    ready = condition(obj, "Ready").get("status")
    word = {"True": "Ready", None: "Unknown"}.get(ready, "NotReady")
    if section(obj, "spec").get("unschedulable"):
        word += ",SchedulingDisabled"
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(key.removeprefix(_ROLE_LABEL) for key in labels if key.startswith(_ROLE_LABEL))
    addresses = {a.get("type"): a.get("address") for a in status.get("addresses") or []}
    return (
        name(obj),
        word,
        ",".join(roles) or NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    )


def _event(obj: Manifest, now: datetime) -> Sequence[str | int]:
    involved, source, series = (
        obj.get("involvedObject") or {},
        obj.get("source") or {},
        obj.get("series") or {},
    )
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return (
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{involved.get('kind', '').lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        obj.get("message", "").strip(),
        since(first, now),
        series.get("count") or obj.get("count") or 1,
        name(obj),
    )


_NAME, _AGE = column("Name"), column("Age")

COLUMNS = {
    "Namespace": Columns((_NAME, column("Status"), _AGE), _namespace),
    "ConfigMap": Columns((_NAME, column("Data"), _AGE), _config_map),
    "Secret": Columns((_NAME, column("Type"), column("Data"), _AGE), _secret),
    "ServiceAccount": Columns((_NAME, column("Secrets"), _AGE), _service_account),
    "Lease": Columns((_NAME, column("Holder"), _AGE), _lease),
    "PersistentVolumeClaim": Columns(
        (
            _NAME,
            column("Status"),
            column("Volume"),
            column("Capacity"),
            column("Access Modes"),
            column("StorageClass"),
            column("VolumeAttributesClass"),
            _AGE,
            wide("VolumeMode"),
        ),
        _claim,
    ),
    "Node": Columns(
        (
            _NAME,
            column("Status"),
            column("Roles"),
            _AGE,
            column("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ),
        _node,
    ),
    "APIService": Columns((_NAME, column("Service"), column("Available"), _AGE), _api_service),
    "Event": Columns(
        (
            column("Last Seen"),
            column("Type"),
            column("Reason"),
            column("Object"),
            wide("Subobject"),
            wide("Source"),
            column("Message"),
            wide("First Seen"),
            wide("Count", "integer"),
            wide("Name"),
        ),
        _event,
    ),
}
