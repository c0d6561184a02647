"""The API server's HTTP face: TLS on loopback, one bearer token, Kubernetes-shaped failures."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from chalkcompute.local.api import discovery, failures
from chalkcompute.local.api.api_services import ApiServicesHandler
from chalkcompute.local.api.custom_metrics import CustomMetricsHandler
from chalkcompute.local.api.discovery import (
    API_SERVICE,
    CUSTOM_METRICS_GROUP,
    CUSTOM_METRICS_VERSION,
    METRICS_GROUP,
    METRICS_VERSION,
    REVIEWS,
)
from chalkcompute.local.api.encoding import AGGREGATED_DISCOVERY, JSON, accepted, dumps
from chalkcompute.local.api.handlers import ResourceHandler
from chalkcompute.local.api.logs import LogSource
from chalkcompute.local.api.resource_metrics import MetricsHandler
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.routes import UnknownGroupVersionError, group_versions, parse_target
from chalkcompute.local.apimachinery import openapi_v2
from chalkcompute.local.apimachinery.openapi import openapi_v3
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.measures import Metrics, Traffic

__all__ = ["ApiServer"]

logger = logging.getLogger(__name__)

_REVIEWS = frozenset((group, version, plural) for group, version, plural, _ in REVIEWS)
# What the real server tells strangers too (ClusterRole system:public-info-viewer).
_PUBLIC = ("healthz", "livez", "readyz", "version")
_SHUTDOWN_SECONDS = 1.0
# A client that reads answers the TLS close in a round trip; one that does not is cut off.
_CLOSING_SECONDS = 0.3
# etcd's limit on a request is 1.5 MiB; the API server's on a body is 3 MiB.
_BODY_LIMIT = 3 * 1024 * 1024


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A request as aiohttp makes it, but for its own limit on bodies, which is 1 MiB."""
    loop, limit = asyncio.get_running_loop(), _BODY_LIMIT + 1  # it refuses what reaches its limit
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=limit)


class _Connections(web.Server):
    """aiohttp's server; knows when the last socket is really closed, which for TLS is later than asked."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        # A watch whose client has gone must end at once, not at its next event.
        super().__init__(handler, request_factory=_request, handler_cancellation=True, access_log=None)
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._closed = asyncio.Event()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open[handler] = transport

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)
        if not self._open:
            self._closed.set()

    async def closed(self) -> None:
        """Wait until every connection that was told to close is closed; cut off those that linger."""
        for seconds in (_CLOSING_SECONDS, _CLOSING_SECONDS):
            if not self._open:
                return
            self._closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
            for transport in self._open.values():
                # Python before 3.11.4 lets go of a TLS transport's protocol before it says that it is closed.
                with contextlib.suppress(AttributeError):
                    transport.abort()


class ApiServer:
    """Serves a `ResourceApi` over HTTPS.

    Args:
        api: The resources to serve.
        token: The bearer token that requests must carry.
        ssl_context: Certificate and key; None serves plain HTTP (for tests).
        logs: Where containers' output lies.
        metrics: What replicas use; None where nothing is measured: then metrics.k8s.io is unavailable.
        traffic: What the gateway knows of requests; None likewise, for custom.metrics.k8s.io.
    """

    def __init__(
        self,
        api: ResourceApi,
        *,
        token: str,
        ssl_context: ssl.SSLContext | None,
        logs: LogSource,
        metrics: Metrics | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._api = api
        self._token = f"Bearer {token}".encode()
        self._ssl_context = ssl_context
        self._handler = ResourceHandler(api, logs)
        self._metrics: dict[tuple[str, str], MetricsHandler | CustomMetricsHandler | None] = {
            (METRICS_GROUP, METRICS_VERSION): (
                MetricsHandler(api, metrics, api.now) if metrics is not None else None
            ),
            (CUSTOM_METRICS_GROUP, CUSTOM_METRICS_VERSION): (
                CustomMetricsHandler(api, traffic) if traffic is not None else None
            ),
        }
        served = {group_version: handler is not None for group_version, handler in self._metrics.items()}
        self._api_services = ApiServicesHandler(served, api.now)
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port (0 asks for any free one).

        Raises:
            OSError: The address is in use or not ours.
        """
        connections = _Connections(self._handle)
        runner = web.ServerRunner(connections, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=self._ssl_context)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner, self._connections = runner, connections
        bound: int = runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """End watches and close all connections."""
        self._handler.finish_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            await self._connections.closed()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except StatusError as exc:
            return _status(exc)
        except UnknownGroupVersionError:
            return web.Response(text="404 page not found\n", status=404)
        except ConnectionError as exc:
            # The client went in the middle of its answer: aiohttp would log that as an error of ours.
            raise asyncio.CancelledError from exc
        except web.HTTPRequestEntityTooLarge:  # a body in chunks, whose length nobody had said
            return _status(_too_large())
        except web.HTTPException:
            raise
        except Exception as exc:
            logger.exception("%s %s failed", request.method, request.path)
            return _status(StatusError(500, "InternalError", f"Internal error occurred: {exc!r}"))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = [part for part in request.path.split("/") if part]
        top = segments[0] if segments else ""
        if top not in _PUBLIC:
            self._authenticate(request)
        if (request.content_length or 0) > _BODY_LIMIT:
            raise _too_large()
        if top == "apis" and len(segments) > 3 and (segments[1], segments[2]) in self._metrics:
            handler = self._metrics[segments[1], segments[2]]
            if handler is None:
                raise failures.unavailable()
            return handler.handle(request, segments[3:])
        if top == "apis" and len(segments) > 3 and tuple(segments[1:3]) in group_versions(API_SERVICE):
            return self._api_services.handle(request, segments[3:])
        if (top == "api" and len(segments) > 2) or (top == "apis" and len(segments) > 3):
            return await self._handler.handle(request, parse_target(segments, _REVIEWS))
        if request.method not in ("GET", "HEAD"):
            raise failures.method_not_allowed()
        return self._information(request, segments)

    def _authenticate(self, request: web.BaseRequest) -> None:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._token):
            raise StatusError(401, "Unauthorized", "Unauthorized")

    def _information(self, request: web.BaseRequest, segments: list[str]) -> web.Response:
        """Discovery, OpenAPI, version and health."""
        match segments:
            case []:
                return _json(discovery.root_paths())
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(discovery.version())
            case ["api"] | ["apis"]:
                return _groups(request, core=segments == ["api"])
            case ["api", version] if version in discovery.versions(""):
                return _json(discovery.api_resources("", version))
            case ["apis", group] if group in discovery.groups():
                return _json(discovery.api_group(group))
            case ["apis", group, version] if group in discovery.groups() and version in discovery.versions(
                group
            ):
                return _json(discovery.api_resources(group, version))
            case ["openapi", "v2"] if openapi_v2.ASKED_TYPE in request.headers.get("Accept", ""):
                return web.Response(body=openapi_v2.openapi_v2(), content_type=openapi_v2.MEDIA_TYPE)
            case ["openapi", "v3"]:
                return _json(discovery.openapi_index())
            case ["openapi", "v3", *rest] if "/".join(rest) in discovery.openapi_paths():
                return _json(openapi_v3(discovery.openapi_paths()["/".join(rest)]))
        raise UnknownGroupVersionError


def _groups(request: web.BaseRequest, *, core: bool) -> web.Response:
    wanted = accepted(request.headers.get("Accept", ""), forms=(AGGREGATED_DISCOVERY,))
    if wanted.form:
        content_type = f"{JSON};g=apidiscovery.k8s.io;v=v2;as={AGGREGATED_DISCOVERY}"
        return web.Response(
            body=dumps(discovery.aggregated(core=core)), headers={"Content-Type": content_type}
        )
    return _json(discovery.api_versions() if core else discovery.api_groups())


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dumps(value), status=status, content_type=JSON)


def _too_large() -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {_BODY_LIMIT}")


def _status(exc: StatusError) -> web.Response:
    status = exc.to_status()
    response = _json(status, exc.code)
    if seconds := exc.details.get("retryAfterSeconds"):
        response.headers["Retry-After"] = str(seconds)
    return response
