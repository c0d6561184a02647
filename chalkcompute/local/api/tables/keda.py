"""ScaledObjects and InterceptorRoutes: the `additionalPrinterColumns` of KEDA's CustomResourceDefinitions.

What is absent is null, which kubectl leaves blank: so the API server prints custom resources.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chalkcompute.local.api.tables.columns import Columns, age, column, condition, name, section
from chalkcompute.local.ports import Manifest

__all__ = ["COLUMNS"]

_CONDITIONS = ("Ready", "Active", "Fallback", "Paused")


def _scaled_object(obj: Manifest, now: datetime) -> Sequence[str | int | None]:
    spec, status = section(obj, "spec"), section(obj, "status")
    return (
        name(obj),
        status.get("scaleTargetKind"),
        (spec.get("scaleTargetRef") or {}).get("name"),
        spec.get("minReplicaCount"),
        spec.get("maxReplicaCount"),
        *(condition(obj, type_).get("status") for type_ in _CONDITIONS),
        status.get("triggersTypes"),
        status.get("authenticationsTypes"),
        age(obj, now),
    )


def _interceptor_route(obj: Manifest, now: datetime) -> Sequence[str | int | None]:
    return (
        name(obj),
        (section(obj, "spec").get("target") or {}).get("service"),
        condition(obj, "Ready").get("status"),
        age(obj, now),
    )


_NAME, _AGE = column("Name"), column("Age", "date")

COLUMNS = {
    "ScaledObject": Columns(
        (
            _NAME,
            column("ScaleTargetKind"),
            column("ScaleTargetName"),
            column("Min", "integer"),
            column("Max", "integer"),
            *(column(type_) for type_ in _CONDITIONS),
            column("Triggers"),
            column("Authentications"),
            _AGE,
        ),
        _scaled_object,
    ),
    "InterceptorRoute": Columns((_NAME, column("TargetService"), column("Ready"), _AGE), _interceptor_route),
}
