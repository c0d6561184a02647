"""The activator: takes requests for groups without a replica, holds them, and passes them on.

It stands where KEDA's HTTP add-on has its interceptor. Envoy is its only client: plain HTTP/1.1 on loopback,
one request per connection. Once the target has a ready endpoint, Envoy goes there by itself (`translate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.gateway.endpoints import Addresses, ready_addresses
from chalkcompute.local.gateway.heads import (
    HEAD_LIMIT,
    BadRequestError,
    Head,
    answer,
    forwarded,
    host_name,
    parse_head,
)
from chalkcompute.local.gateway.holding import Bounds, Key, RefusedError, Seat, WaitingRoom
from chalkcompute.local.gateway.interceptors import find_route, key, readiness, target
from chalkcompute.local.gateway.objects import Objects
from chalkcompute.local.gateway.tunnel import finish, tunnel
from chalkcompute.local.interceptor import INTERCEPTOR_PORT, INTERCEPTOR_SERVICE, KEDA_NAMESPACE
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["MARKER", "Activator"]

MARKER = "x-chalk-activator"
"""Header of our own refusals; its value says why."""

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_KINDS = ("InterceptorRoute", "Service", "EndpointSlice")
_MANAGER = "chalk-gateway"
_SLICE = f"{INTERCEPTOR_SERVICE}-local"
_HEAD_SECONDS = 30.0
_CONNECT_SECONDS = 1.0
_AGAIN_SECONDS = 0.1  # after all endpoints have refused a connection
_STOP_SECONDS = 1.0
_BACKLOG = 1024
_TIMEOUT_RETRY = 10


class _Reader(asyncio.StreamReader):
    """Tells at once when more has come or the client has gone, though nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=HEAD_LIMIT)
        self.wake = asyncio.Event()
        self.gone = False
        self.taken = 0  # bytes from the network; asyncio stops by itself at twice the limit

    def feed_data(self, data: Any) -> None:  # bytes or a bytearray; typeshed says an Iterable
        super().feed_data(data)
        self.taken += len(data)
        self.wake.set()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._end()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        self.gone = True
        self.wake.set()


@dataclass(slots=True)
class _Exchange:
    """One request, and whom to answer."""

    head: Head
    announced: int  # bytes: the head, and the body as far as the head says its length
    reader: _Reader
    writer: asyncio.StreamWriter

    @property
    def size(self) -> int:
        """Bytes to hold: a body that says no length counts as it comes, so that a small one is small."""
        return max(self.announced, self.reader.taken)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer of our own."""

    status: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


class Activator:
    """The server.

    Args:
        bounds: What is held at once.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.room = WaitingRoom(bounds)
        self._objects = Objects()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Event] = set()
        self._turns: dict[Key, int] = {}
        self._stopping = False

    async def start(self) -> int:
        """Listen on loopback; the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(_Reader(), self._accept), _LOOPBACK, 0, backlog=_BACKLOG
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Refuse what is held, and end what is passed on."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        self._wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(self, api: Api, port: int) -> None:
        """Follow the cluster's objects until cancelled; `port` is what `start` gave."""
        async for change in api.changes(_KINDS):
            self.update(change)
            if _is_about_our_slice(change):
                try:
                    _write_slice(api, port)
                except StatusError as error:  # gone meanwhile, perhaps with its namespace: that comes, too
                    _log.info("the activator's EndpointSlice is not written: %s", error)

    def update(self, change: Change) -> None:
        """Take one change in."""
        self._objects.update(change)
        self._wake()

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        try:
            refusal = await self._serve(reader, writer)
            if refusal is not None and not reader.gone:
                writer.write(refusal)
            await finish(reader, writer)
        except ConnectionError:
            pass  # the client has gone
        except Exception:
            _log.exception("the activator failed on a request")
        finally:
            writer.close()

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter) -> bytes | None:
        """Read one request and see it through; what to answer where no replica does."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                raw = await reader.readuntil(b"\r\n\r\n")
            head = parse_head(raw)
        except (asyncio.IncompleteReadError, TimeoutError):
            return None
        except asyncio.LimitOverrunError:
            return answer("431 Request Header Fields Too Large", f"the head is over {HEAD_LIMIT} bytes")
        except BadRequestError as error:
            return answer("400 Bad Request", f"the local cluster's activator refuses this request: {error}")
        host = host_name(head.host)
        route = find_route(self._objects.all("InterceptorRoute"), host, head.path, head.by_name())
        if route is None:
            text = f"no InterceptorRoute has host `{host}` and path `{head.path}`"
            return _in_bytes(head, _Refusal("404 Not Found", text))
        exchange = _Exchange(head, len(raw) + (head.length or 0), reader, writer)
        with self.room.visit(key(route)):
            refusal = await self._pass(exchange, key(route))
        return _in_bytes(head, refusal) if refusal is not None else None

    async def _pass(self, exchange: _Exchange, route: Key) -> _Refusal | None:
        """Hold a request while there is no endpoint, then pass it on."""
        try:
            replica = await self._endpoint(exchange, route)
        except RefusedError as error:
            headers = ((MARKER, error.reason), ("Retry-After", str(error.retry_after)))
            return _Refusal("503 Service Unavailable", str(error), headers)
        if replica is None:
            return None
        try:
            replica[1].write(forwarded(exchange.head))
            await tunnel((exchange.reader, exchange.writer), replica, exchange.head.length)
        finally:
            replica[1].close()
        return None

    async def _endpoint(
        self, exchange: _Exchange, route: Key
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to a ready endpoint; None when the client has gone.

        Raises:
            RefusedError: It is not held, or was held for long enough.
        """
        loop, wake = asyncio.get_running_loop(), exchange.reader.wake
        begun = loop.time()
        seat: Seat | None = None
        with contextlib.ExitStack() as leaving:
            while not exchange.reader.gone:
                wake.clear()
                found = self._objects.get("InterceptorRoute", *route)
                addresses, problem = self._ready(found)
                connection = await self._connect(route, addresses)
                if connection is not None:
                    return connection
                limit = readiness(found) if found is not None else 0.0
                self._still_patient(route, problem, loop.time() - begun, limit)
                if seat is None:
                    seat = leaving.enter_context(self.room.seat(route))
                    self._waiting.add(wake)
                    leaving.callback(self._waiting.discard, wake)
                seat(exchange.size)
                until = min(begun + limit, loop.time() + _AGAIN_SECONDS if addresses else begun + limit)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await wake.wait()
        return None

    def _still_patient(self, route: Key, problem: str, waited: float, limit: float) -> None:
        namespace, name = route
        if self._stopping:
            raise RefusedError("stopping", "the local cluster stops: `chalk local up` starts it again", 1)
        if waited >= limit:
            within = f" within {limit:g} s" if limit else ""
            raise RefusedError(
                "timeout",
                f"no replica of InterceptorRoute `{name}` in namespace `{namespace}` was ready{within} "
                f"({problem}): see what `chalk scaling-group get` and its Pods' logs say",
                _TIMEOUT_RETRY,
            )

    def _ready(self, route: Manifest | None) -> tuple[Addresses, str]:
        """Endpoints that a route leads to, and what to say when there is none."""
        if route is None:
            return (), "the InterceptorRoute was deleted"
        found = target(route, self._objects)
        if isinstance(found, str):
            return (), found
        slices = self._objects.slices_of(found.namespace, found.service)
        addresses = ready_addresses(found, slices)
        if addresses and found.h2c:
            raise RefusedError(
                "again",
                "the first replica is ready; as it speaks HTTP/2, requests that came before cannot be passed "
                "on: send this one again",
                1,
            )
        return addresses, f"Service `{found.service}` has no ready endpoint"

    async def _connect(
        self, route: Key, addresses: Addresses
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connect to one of them, each request to the next one; None when none takes it."""
        turn = self._turns[route] = self._turns.get(route, -1) + 1
        for number in range(len(addresses)):
            address, port = addresses[(turn + number) % len(addresses)]
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port)
        return None


def _in_bytes(head: Head, refusal: _Refusal) -> bytes:
    return answer(refusal.status, refusal.text, refusal.headers, body=head.method != "HEAD")


def _is_about_our_slice(change: Change) -> bool:
    metadata = change.obj["metadata"]
    if metadata.get("namespace") != KEDA_NAMESPACE or change.kind == "InterceptorRoute":
        return False
    if change.kind == "Service":
        return change.type != "DELETED" and metadata["name"] == INTERCEPTOR_SERVICE
    return bool(metadata["name"] == _SLICE)


def _write_slice(api: Api, port: int) -> None:
    """The EndpointSlice that makes us the interceptor's endpoint, as it should be."""
    namespace, name = KEDA_NAMESPACE, INTERCEPTOR_SERVICE
    service = api.get("Service", name, namespace)
    wanted: Manifest = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": _SLICE,
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": _MANAGER,
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": name,
                    "uid": service["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [_LOOPBACK],
                "conditions": {"ready": True, "serving": True, "terminating": False},
            }
        ],
        "ports": [{"name": INTERCEPTOR_PORT, "port": port, "protocol": "TCP"}],
    }
    try:
        live = api.get("EndpointSlice", _SLICE, namespace)
    except StatusError as error:
        if error.code != 404:
            raise
        api.create(wanted, manager=_MANAGER)
        return
    changed = {**live, **wanted, "metadata": {**live["metadata"], **wanted["metadata"]}}
    if changed != live:
        api.update(changed, manager=_MANAGER)
