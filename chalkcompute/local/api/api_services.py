"""apiregistration.k8s.io: the API groups that servers of their own answer on a real cluster.

By `kubectl get apiservice v1beta1.metrics.k8s.io` people see whether metrics can be had. Here the API server
answers those groups itself, so that none has a Service. APIServices can only be read.

Source: k8s.io/kube-aggregator `pkg/apis/apiregistration/v1` and `pkg/controllers/status`; the priorities are
those of the manifests of metrics-server and prometheus-adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web

from chalkcompute.local.api import failures
from chalkcompute.local.api.discovery import API_SERVICE
from chalkcompute.local.api.encoding import answer_read, presented
from chalkcompute.local.api.listing import select
from chalkcompute.local.api.tables.printer import TablePrinter
from chalkcompute.local.controllers.objects import format_time
from chalkcompute.local.ports import Manifest

__all__ = ["ApiServicesHandler"]

_PRIORITY = 100
_AVAILABLE = {"reason": "Local", "message": "Local APIServices are always available", "status": "True"}
_UNAVAILABLE = {
    "reason": "FailedDiscoveryCheck",
    "message": "nothing is measured on this cluster",
    "status": "False",
}


class ApiServicesHandler:
    """Answers requests below `/apis/apiregistration.k8s.io/v1`.

    Args:
        served: Group and version of each, and whether it is available.
        now: The time, in UTC.
    """

    def __init__(self, served: Mapping[tuple[str, str], bool], now: Callable[[], datetime]) -> None:
        self._now = now
        since = format_time(now())
        self._found = [_api_service(*group, since, available=up) for group, up in sorted(served.items())]

    def handle(self, request: web.BaseRequest, rest: list[str]) -> web.Response:
        """Answer a request; `rest` are the parts of its path after the version.

        Raises:
            StatusError: The refusal.
        """
        match rest:
            case ["apiservices", *names] if len(names) < 2:
                name = "".join(names)
            case _:
                raise failures.unknown_resource()
        query = request.query
        failures.refuse_all_but_reads(request.method, query)
        chosen = select(API_SERVICE, "", query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = [obj for obj in self._found if chosen.includes(obj) and name in ("", obj["metadata"]["name"])]
        if name and not found:
            raise failures.not_found(API_SERVICE, name)

        def table() -> Manifest:
            include = query.get("includeObject", "Metadata")
            objects = [presented(API_SERVICE, obj, API_SERVICE.api_version) for obj in found]
            return TablePrinter(API_SERVICE, self._now, include=include).table(objects, "")

        body, media_type = answer_read(
            request.headers.get("Accept", ""),
            API_SERVICE.kind,
            API_SERVICE.api_version,
            found,
            one=bool(name),
            table=table,
        )
        return web.Response(body=body, content_type=media_type)


def _api_service(group: str, version: str, since: str, *, available: bool) -> Manifest:
    condition = {"lastTransitionTime": since, **(_AVAILABLE if available else _UNAVAILABLE)}
    return {
        "metadata": {"name": f"{version}.{group}", "creationTimestamp": since},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": _PRIORITY,
            "versionPriority": _PRIORITY,
        },
        "status": {"conditions": [{"type": "Available", **condition}]},
    }
