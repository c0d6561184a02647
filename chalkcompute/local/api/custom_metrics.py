"""custom.metrics.k8s.io: the traffic of HTTPRoutes, made when it is asked for and never stored.

Source: k8s.io/metrics `pkg/apis/custom_metrics/v1beta2`; the refusals of custom-metrics-apiserver
`pkg/provider/errors.go`, which prometheus-adapter answers with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from aiohttp import web

from chalkcompute.local.api import failures
from chalkcompute.local.api.discovery import CUSTOM_METRICS_GROUP, CUSTOM_METRICS_VERSION, ROUTES_RESOURCE
from chalkcompute.local.api.encoding import dumps
from chalkcompute.local.api.listing import select
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.quantity import canonical_quantity
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.objects import format_time
from chalkcompute.local.measures import RouteTraffic, Traffic
from chalkcompute.local.ports import Api, Manifest

__all__ = ["VALUES", "CustomMetricsHandler"]

_MILLI = Decimal("0.001")
_EVERY = "*"

VALUES: Mapping[str, Callable[[RouteTraffic], float | None]] = {
    "request_duration_seconds_p50": lambda traffic: traffic.p50_seconds,
    "request_duration_seconds_p99": lambda traffic: traffic.p99_seconds,
    "requests_in_flight": lambda traffic: traffic.in_flight,
    "requests_per_second": lambda traffic: traffic.requests_per_second,
}
"""What each metric is of a route's traffic; None while it cannot be said."""


class CustomMetricsHandler:
    """Answers requests below `/apis/custom.metrics.k8s.io/v1beta2`.

    Args:
        api: Where the HTTPRoutes are.
        traffic: What the gateway knows of them.
    """

    def __init__(self, api: Api, traffic: Traffic) -> None:
        self._api = api
        self._traffic = traffic

    def handle(self, request: web.BaseRequest, rest: list[str]) -> web.Response:
        """Answer a request; `rest` are the parts of its path after the version.

        Raises:
            StatusError: The refusal.
        """
        match rest:
            case ["namespaces", namespace, resource, name, metric]:
                pass
            case _:
                raise failures.unknown_resource()
        failures.refuse_all_but_reads(request.method, request.query)
        wanted = "" if name == _EVERY else name
        if resource != ROUTES_RESOURCE or metric not in VALUES:
            raise _not_found(metric, resource, wanted)
        labels = request.query.get("labelSelector", "") if not wanted else ""
        selection = select(by_kind("HTTPRoute"), namespace, labels)
        items = [
            item
            for route in self._api.list("HTTPRoute", namespace)
            if selection.includes(route) and wanted in ("", route["metadata"]["name"])
            for item in self._value(route, metric)
        ]
        if wanted and not items:
            raise _not_found(metric, resource, wanted)
        answer = {
            "kind": "MetricValueList",
            "apiVersion": f"{CUSTOM_METRICS_GROUP}/{CUSTOM_METRICS_VERSION}",
            "metadata": {},
            "items": items,
        }
        return web.Response(body=dumps(answer), content_type="application/json")

    def _value(self, route: Manifest, metric: str) -> list[Manifest]:
        """The MetricValue of a route; none while there is no such value."""
        metadata = route["metadata"]
        traffic = self._traffic.of_route("HTTPRoute", metadata["namespace"], metadata["name"])
        value = VALUES[metric](traffic) if traffic is not None else None
        if traffic is None or value is None:
            return []
        described = {
            "kind": "HTTPRoute",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "apiVersion": route["apiVersion"],
        }
        return [
            {
                "describedObject": described,
                "metric": {"name": metric, "selector": None},
                "timestamp": format_time(traffic.timestamp),
                "windowSeconds": round(traffic.window),
                "value": canonical_quantity(str(Decimal(value).quantize(_MILLI))),
            }
        ]


def _not_found(metric: str, resource: str, name: str) -> StatusError:
    of = f"{resource} {name}" if name else resource
    return StatusError(404, "NotFound", f"the server could not find the metric {metric} for {of}")
