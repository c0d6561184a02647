"""Scaling groups: a replicated, HTTP-fronted, autoscaled service as plain Kubernetes objects.

The public names are those of `__all__`, `chalkcompute.errors` and `chalkcompute.types`. They are
resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chalkcompute.autoscaler import AutoscalerCondition, AutoscalerInfo, ScaleEvent
    from chalkcompute.client import ChalkClient
    from chalkcompute.errors import (
        ApiError,
        CapabilityError,
        ChalkError,
        ClusterError,
        ConfigError,
        ConflictError,
        ConnectionConfigError,
        DeployFailedError,
        ForbiddenError,
        ImageBuildError,
        ImageError,
        ImageNotFoundError,
        InvalidObjectError,
        LocalClusterError,
        NotFoundError,
        NotOwnedError,
        RegistryAuthError,
        RegistryError,
        SpecError,
        UnauthorizedError,
        UnreachableError,
        WaitTimeoutError,
    )
    from chalkcompute.image import Image
    from chalkcompute.probes import ReadinessProbe
    from chalkcompute.scaling_group import ScalingGroup
    from chalkcompute.secret import Secret
    from chalkcompute.spec import ScalingGroupSpec
    from chalkcompute.spec.content import Content
    from chalkcompute.types import (
        Action,
        Cause,
        DeleteResult,
        DeployResult,
        Evidence,
        ListScalingGroupsResponse,
        Manifest,
        Progress,
        ReplicaCounts,
        ScalingGroupInfo,
        Status,
        Target,
        Verdict,
    )
    from chalkcompute.usage import ReplicaUsage, ScalingGroupUsage, Traffic, UsageReport
    from chalkcompute.volume import Volume, VolumeMount

__all__ = [
    "Action",
    "ApiError",
    "AutoscalerCondition",
    "AutoscalerInfo",
    "CapabilityError",
    "Cause",
    "ChalkClient",
    "ChalkError",
    "ClusterError",
    "ConfigError",
    "ConflictError",
    "ConnectionConfigError",
    "Content",
    "DeleteResult",
    "DeployFailedError",
    "DeployResult",
    "Evidence",
    "ForbiddenError",
    "Image",
    "ImageBuildError",
    "ImageError",
    "ImageNotFoundError",
    "InvalidObjectError",
    "ListScalingGroupsResponse",
    "LocalClusterError",
    "Manifest",
    "NotFoundError",
    "NotOwnedError",
    "Progress",
    "ReadinessProbe",
    "RegistryAuthError",
    "RegistryError",
    "ReplicaCounts",
    "ReplicaUsage",
    "ScaleEvent",
    "ScalingGroup",
    "ScalingGroupInfo",
    "ScalingGroupSpec",
    "ScalingGroupUsage",
    "Secret",
    "SpecError",
    "Status",
    "Target",
    "Traffic",
    "UnauthorizedError",
    "UnreachableError",
    "UsageReport",
    "Verdict",
    "Volume",
    "VolumeMount",
    "WaitTimeoutError",
]

_HOMES = {
    "ChalkClient": "client",
    "Image": "image",
    "Content": "spec.content",
    "ReadinessProbe": "probes",
    "ScalingGroup": "scaling_group",
    "ScalingGroupSpec": "spec",
    "Secret": "secret",
    "Volume": "volume",
    "VolumeMount": "volume",
    **dict.fromkeys(("AutoscalerCondition", "AutoscalerInfo", "ScaleEvent"), "autoscaler"),
    **dict.fromkeys(("ReplicaUsage", "ScalingGroupUsage", "Traffic", "UsageReport"), "usage"),
    **dict.fromkeys(
        (
            "Action",
            "Cause",
            "DeleteResult",
            "DeployResult",
            "Evidence",
            "ListScalingGroupsResponse",
            "Manifest",
            "Progress",
            "ReplicaCounts",
            "ScalingGroupInfo",
            "Status",
            "Target",
            "Verdict",
        ),
        "types",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
