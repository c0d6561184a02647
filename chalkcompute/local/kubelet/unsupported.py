"""What a Pod asks for that the local cluster does not do, so that it can be said. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chalkcompute.local.ports import Manifest

__all__ = ["unsupported_fields"]

_POD = (
    "activeDeadlineSeconds",
    "dnsConfig",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostname",
    "priorityClassName",
    "readinessGates",
    "runtimeClassName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
)
_POD_SECURITY = ("fsGroup", "runAsGroup", "runAsNonRoot", "runAsUser", "supplementalGroups", "sysctls")
_CONTAINER_SECURITY = ("privileged", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def unsupported_fields(pod: Manifest) -> list[str]:
    """The fields that are set and have no effect, as paths below `spec`, in order."""
    spec = pod["spec"]
    found = [field for field in _POD if spec.get(field)]
    found += _security("securityContext", spec.get("securityContext"), _POD_SECURITY)
    if spec.get("dnsPolicy") == "None":
        found.append("dnsPolicy")
    if spec.get("serviceAccountName", "default") not in ("", "default"):
        found.append("serviceAccountName")
    for kind in ("podAffinity", "podAntiAffinity"):
        if ((spec.get("affinity") or {}).get(kind) or {}).get(_REQUIRED):
            found.append(f"affinity.{kind}")
    for volume in spec.get("volumes") or ():
        found += [
            f"volumes[{volume['name']}].emptyDir.{field}"
            for field in ("medium", "sizeLimit")
            if (volume.get("emptyDir") or {}).get(field)
        ]
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            found += _of_container(f"{kind}[{container['name']}]", container)
    return found


def _of_container(path: str, container: Mapping[str, Any]) -> Iterator[str]:
    yield from _security(f"{path}.securityContext", container.get("securityContext"), _CONTAINER_SECURITY)
    if (container.get("lifecycle") or {}).get("postStart"):
        yield f"{path}.lifecycle.postStart"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield f"{path}.ports.hostPort"


def _security(path: str, context: Mapping[str, Any] | None, fields: tuple[str, ...]) -> list[str]:
    # 0 is a user, too; `runAsNonRoot: false` asks for nothing.
    return [
        f"{path}.{field}"
        for field in fields
        if (value := (context or {}).get(field)) is not None and value is not False and value != []
    ]
