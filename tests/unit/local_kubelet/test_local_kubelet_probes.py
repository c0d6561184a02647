from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from chalkcompute.local.kubelet.probes import ProbeFailedError, check, port_number
from tests.unit.local_kubelet.conftest import Cluster, RunCluster

HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP_BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers every connection with what `answer` holds now; keeps what was asked."""

    def __init__(self) -> None:
        self.answer = HTTP_OK
        self.requests: list[bytes] = []
        self.port = 0
        self._answering: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._answering)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        self.requests.append(await reader.read(4096))
        writer.write(self.answer)
        writer.close()
        with contextlib.suppress(ConnectionError):  # the other side has heard enough
            await writer.wait_closed()


async def unused_port() -> int:
    async with Server() as server:
        return server.port


def failure(probe: Callable[[int], dict[str, Any]], answer: bytes | None) -> str | None:
    """How a probe of a server with this answer (None: no server) fails, if it does."""

    async def main() -> str | None:
        async with Server() as server:
            server.answer = answer or b""
            port = server.port if answer is not None else await unused_port()
            try:
                await check(probe(port), {}, "127.0.0.1")
            except ProbeFailedError as error:
                return str(error).replace(str(port), "PORT")
        return None

    return asyncio.run(main())


def test_tcp() -> None:
    def probe(port: int) -> dict[str, Any]:
        return {"tcpSocket": {"port": port}}

    assert failure(probe, HTTP_OK) is None
    assert failure(probe, None) == "dial tcp 127.0.0.1:PORT: connect: connection refused"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (HTTP_OK, None),
        (b"HTTP/1.1 302 Found\r\n\r\n", None),
        (HTTP_BAD, "HTTP probe failed with statuscode: 503"),
        (b"SMTP ready\r\n", 'Get "http://127.0.0.1:PORT/healthz": net/http: malformed HTTP response'),
        (b"", 'Get "http://127.0.0.1:PORT/healthz": EOF'),
        (None, 'Get "http://127.0.0.1:PORT/healthz": dial tcp 127.0.0.1:PORT: connect: connection refused'),
    ],
)
def test_http(answer: bytes | None, wanted: str | None) -> None:
    assert failure(lambda port: {"httpGet": {"path": "/healthz", "port": port}}, answer) == wanted


def test_http_request() -> None:
    async def main() -> bytes:
        async with Server() as server:
            headers = [{"name": "X-Token", "value": "t"}]
            probe = {"httpGet": {"path": "ready?x=1", "port": server.port, "httpHeaders": headers}}
            await check(probe, {}, "127.0.0.1")
            return server.requests[0]

    request = asyncio.run(main())
    assert request.startswith(b"GET /ready?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Token: t\r\n" in request
    assert b"\r\nUser-Agent: kube-probe/" in request


def test_a_server_that_is_silent_times_out() -> None:
    async def main() -> str:
        release = asyncio.Event()

        async def keep_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.close()

        server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProbeFailedError) as caught:
            await check({"httpGet": {"port": port}, "timeoutSeconds": 0.05}, {}, "127.0.0.1")
        release.set()
        server.close()
        await server.wait_closed()
        return str(caught.value)

    assert "context deadline exceeded" in asyncio.run(main())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def health(message: bytes) -> bytes:
    """SETTINGS, HEADERS (`:status 200`, indexed), DATA, trailers."""
    data = b"\0" + struct.pack("!I", len(message)) + message
    return frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88") + frame(0, 0, 1, data) + frame(1, 5, 1, b"\x88")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (health(b"\x08\x01"), None),
        (health(b"\x08\x02"), 'service unhealthy (responded with "NOT_SERVING")'),
        (health(b""), 'service unhealthy (responded with "UNKNOWN")'),
        (frame(4, 0, 0, b"") + frame(1, 5, 1, b"\x88"), "does not implement the grpc health protocol"),
        (frame(7, 0, 0, bytes(8)), "does not implement the grpc health protocol"),
        (HTTP_BAD, "health rpc failed"),
        (None, "health rpc failed"),
    ],
)
def test_grpc(answer: bytes | None, wanted: str | None) -> None:
    found = failure(lambda port: {"grpc": {"port": port, "service": "model"}}, answer)
    assert (found is None) == (wanted is None)
    assert wanted is None or wanted in str(found)


def test_exec_probes_say_what_they_lack() -> None:
    found = failure(lambda _port: {"exec": {"command": ["true"]}}, HTTP_OK)
    assert found is not None
    assert "exec probes are not supported by the local cluster yet" in found


def test_ports_by_name() -> None:
    container = {"ports": [{"name": "http", "containerPort": 8000}]}
    assert [port_number(port, container) for port in ("http", 80, "81")] == [8000, 80, 81]
    with pytest.raises(ProbeFailedError, match="couldn't find port: grpc"):
        port_number("grpc", container)


def test_readiness_follows_the_server(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 1}
            made.run_pod(readinessProbe=probe)
            await made.running()
            await made.until(lambda: made.events("Unhealthy"))
            assert made.events("Unhealthy") == [
                "Readiness probe failed: HTTP probe failed with statuscode: 503"
            ]
            assert (made.container()["ready"], made.container()["started"]) == (False, True)
            assert made.conditions()["ContainersReady"] == "False"
            server.answer = HTTP_OK
            await made.until(lambda: made.container()["ready"])
            server.answer = HTTP_BAD
            await made.until(lambda: not made.container()["ready"])

    cluster(scenario)


def test_liveness_restarts(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 1}
            made.run_pod(livenessProbe=probe)
            first = await made.running()
            await made.running(2)
            assert first.graces == [7]
            assert made.events("Killing") == ["Container app failed liveness probe, will be restarted"]

    cluster(scenario)


def test_start_up_comes_before_readiness(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1}
            made.run_pod(startupProbe=probe)
            await made.running()
            await made.until(lambda: server.requests)
            assert (made.container()["ready"], made.container()["started"]) == (False, False)
            server.answer = HTTP_OK
            await made.until(lambda: made.container()["ready"])
            assert made.container()["started"] is True

    cluster(scenario)


def test_a_server_on_loopback_only_is_pointed_out(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            probe = {"tcpSocket": {"port": server.port}, "initialDelaySeconds": 1}
            made.run_pod(readinessProbe=probe, ports=[{"containerPort": server.port}])
            replica = await made.running()
            replica.loopback_ports = frozenset({server.port, 1})
            (message,) = await made.until(lambda: made.events("LoopbackOnly"))
            assert f"listens on port {server.port} of 127.0.0.1 only" in message

    cluster(scenario)
