from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.kubelet.grpc_health import grpc_status
from chalkcompute.local.kubelet.probes import ProbeFailedError, Tally, check, port_number
from tests.properties import examples
from tests.unit.local_kubelet.conftest import Cluster, RunCluster
from tests.unit.reserved_port import reserved_port
from tests.unit.stream_server import stream_server

HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP_BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PATIENT = {"timeoutSeconds": 30}
"""Of a probe whose answer is what the test is about: a busy machine may not give it within a second."""


class Server:
    """Answers every connection with what `answer` holds now; keeps what was asked."""

    def __init__(self) -> None:
        self.answer = HTTP_OK
        self.requests: list[bytes] = []
        self.port = 0
        self._serving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Server:
        self.port = await self._serving.enter_async_context(stream_server(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._serving.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.read(4096))
        writer.write(self.answer)
        writer.close()
        with contextlib.suppress(ConnectionError):  # the other side has heard enough
            await writer.wait_closed()


def failure(probe: Callable[[int], dict[str, Any]], answer: bytes | None) -> str | None:
    """How a probe of a server with this answer (None: no server) fails, if it does."""

    async def main() -> str | None:
        with reserved_port() as nobody:
            async with Server() as server:
                server.answer = answer or b""
                port = server.port if answer is not None else nobody
                try:
                    await check({**probe(port), **PATIENT}, {}, "127.0.0.1")
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
        (b"SMTP", 'Get "http://127.0.0.1:PORT/healthz": BROKEN: unexpected EOF'),
        (b"SMTP\r\n", 'Get "http://127.0.0.1:PORT/healthz": BROKEN: malformed HTTP response "SMTP"'),
        (
            b'\x15\xff"\xc3\xa9\t\n',
            'Get "http://127.0.0.1:PORT/healthz": BROKEN: malformed HTTP response "\\x15\\xff\\"é\\t"',
        ),
        (
            b"SMTP ready\r\n",
            'Get "http://127.0.0.1:PORT/healthz": BROKEN: malformed HTTP status code "ready"',
        ),
        (
            b"SMTP 220 ready\r\n",
            'Get "http://127.0.0.1:PORT/healthz": BROKEN: malformed HTTP version "SMTP"',
        ),
        (
            b"HTTP/1.1 200 OK\r\nnone\r\n",
            'Get "http://127.0.0.1:PORT/healthz": BROKEN: malformed MIME header: missing colon: "none"',
        ),
        (
            bytes(70_000),
            'Get "http://127.0.0.1:PORT/healthz": BROKEN: net/http: server response headers exceeded 65536 '
            "bytes; aborted",
        ),
        (b"", 'Get "http://127.0.0.1:PORT/healthz": EOF'),
        (None, 'Get "http://127.0.0.1:PORT/healthz": dial tcp 127.0.0.1:PORT: connect: connection refused'),
    ],
)
def test_http(answer: bytes | None, wanted: str | None) -> None:
    wanted = wanted and wanted.replace("BROKEN", "net/http: HTTP/1.x transport connection broken")
    assert failure(lambda port: {"httpGet": {"path": "/healthz", "port": port}}, answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (HTTP_OK, "http: server gave HTTP response to HTTPS client"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "remote error: tls: handshake failure"),
        (b"", "EOF"),
        (None, "dial tcp 127.0.0.1:PORT: connect: connection refused"),
    ],
)
def test_a_server_without_tls(answer: bytes | None, wanted: str) -> None:
    found = failure(lambda port: {"httpGet": {"path": "/", "port": port, "scheme": "HTTPS"}}, answer)
    assert found == f'Get "https://127.0.0.1:PORT/": {wanted}'


def test_a_server_that_resets_the_connection() -> None:
    async def main() -> str:
        async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with stream_server(reset) as port:
            with pytest.raises(ProbeFailedError) as caught:
                await check({"httpGet": {"port": port}, **PATIENT}, {}, "127.0.0.1")
            return str(caught.value).replace(str(port), "PORT")

    ends = r"127\.0\.0\.1:\d+->127\.0\.0\.1:PORT"
    assert re.fullmatch(
        rf'Get "http://127.0.0.1:PORT/": read tcp {ends}: read: connection reset by peer', asyncio.run(main())
    )


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "server misbehaving"),
    ],
)
def test_hosts_that_have_no_address(monkeypatch: pytest.MonkeyPatch, error: OSError, wanted: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("socket.getaddrinfo", fail)
    for probe, before in (
        ({"tcpSocket": {"host": "db.test", "port": 1}}, ""),
        ({"httpGet": {"host": "db.test", "port": 1}}, 'Get "http://db.test:1/": '),
    ):
        with pytest.raises(ProbeFailedError) as caught:
            asyncio.run(check({**probe, **PATIENT}, {}, "127.0.0.1"))
        assert str(caught.value) == f"{before}dial tcp: lookup db.test: {wanted}"


def test_a_host_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 0)) for n in (2, 1)]

    async def main() -> None:
        async with Server() as server:
            with reserved_port() as nobody:
                for port in (nobody, server.port):
                    now = [(*entry[:4], (entry[4][0], port)) for entry in found]
                    monkeypatch.setattr("socket.getaddrinfo", lambda *_, now=now, **__: now)
                    if port == nobody:
                        with pytest.raises(
                            ProbeFailedError, match=f"^dial tcp 127.0.0.2:{nobody}: connect: "
                        ):
                            await check({"tcpSocket": {"host": "db.test", "port": port}, **PATIENT}, {}, "")
                    else:
                        await check({"tcpSocket": {"host": "db.test", "port": port}, **PATIENT}, {}, "")

    asyncio.run(main())


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
        async def keep_silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with stream_server(keep_silent) as port:
            with pytest.raises(ProbeFailedError) as caught:
                await check({"httpGet": {"port": port}, "timeoutSeconds": 0.05}, {}, "127.0.0.1")
        return str(caught.value)

    assert "context deadline exceeded" in asyncio.run(main())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0, b"")
UNCONNECTED = 'timeout: failed to connect service "127.0.0.1:PORT" within 30s: context deadline exceeded'
NOT_IMPLEMENTED = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
RPC = "error: health rpc probe failed: rpc error: code ="
NO_MESSAGE = "cardinality violation: received no response message from non-server-streaming RPC"


CODED = SETTINGS + frame(
    1,
    0x2D,
    1,
    bytes.fromhex(
        "02 00000000 00 88 40 88 9acac8b21234da8f 81 6f"
        "40 89 9acac8b5254207317f 8b b6aeb51fc54a20b677310b 0000"
    ),
)
"""Trailers with padding and a priority, their literals in Huffman code: grpc-status 5, `unknown service`."""


def refused(code: int, message: bytes) -> bytes:
    """SETTINGS and trailers alone."""
    status = b"\x00\x0bgrpc-status" + bytes((len(str(code)),)) + str(code).encode()
    return SETTINGS + frame(1, 5, 1, b"\x88" + status + b"\x40\x0cgrpc-message" + message)


def health(message: bytes, code: bytes = b"0") -> bytes:
    """SETTINGS, HEADERS (`:status 200`, indexed), DATA, trailers."""
    data = b"\0" + struct.pack("!I", len(message)) + message
    trailers = frame(1, 5, 1, b"\x00\x0bgrpc-status\x01" + code)
    return frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88") + frame(0, 0, 1, data) + trailers


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (health(b"\x08\x01"), None),
        (health(b"\x08\x02"), 'service unhealthy (responded with "NOT_SERVING")'),
        (health(b""), 'service unhealthy (responded with "UNKNOWN")'),
        (health(b"", b"5"), f"{RPC} NotFound desc = "),
        (SETTINGS + frame(1, 5, 1, b"\x88"), NOT_IMPLEMENTED),
        (
            refused(12, b"\x26unknown service grpc.health.v1.Health%"),
            f"{NOT_IMPLEMENTED}: unknown service grpc.health.v1.Health%",
        ),
        (
            CODED,
            f"{RPC} NotFound desc = unknown service",
        ),
        (refused(4, b"\x04late"), "timeout: health rpc did not complete within 30s"),
        (refused(14, b"\x08not%0Aup"), f"{RPC} Unavailable desc = not\nup"),
        (refused(0, b"\x00"), f"{RPC} Internal desc = {NO_MESSAGE}"),
        (SETTINGS + frame(7, 0, 0, bytes(8)), f"{RPC} Unavailable desc = the connection is draining"),
        (
            SETTINGS + frame(3, 0, 1, b"\0\0\0\x08"),
            f"{RPC} Canceled desc = stream terminated by RST_STREAM with error code: CANCEL",
        ),
        (SETTINGS + frame(7, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0") + health(b"\x08\x01"), None),
        (health(b"\x08\x01") + frame(0, 1, 7, b"stray"), None),
        (SETTINGS, f"{RPC} Unavailable desc = error reading from server: EOF"),
        (frame(7, 0, 0, bytes(8)), UNCONNECTED),
        (HTTP_BAD, UNCONNECTED),
        (b"", UNCONNECTED),
        (None, UNCONNECTED),
    ],
)
def test_grpc(answer: bytes | None, wanted: str | None) -> None:
    found = failure(lambda port: {"grpc": {"port": port, "service": "model"}}, answer)
    assert found == wanted


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (SETTINGS, "timeout: health rpc did not complete within 2s"),
        (b"", 'timeout: failed to connect service "127.0.0.1:PORT" within 2s: context deadline exceeded'),
    ],
)
def test_a_grpc_server_that_is_silent(said: bytes, wanted: str) -> None:
    async def main() -> str:
        async def begin(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            await asyncio.Event().wait()

        async with stream_server(begin) as port:
            with pytest.raises(ProbeFailedError) as caught:
                await check({"grpc": {"port": port}, "timeoutSeconds": 2}, {}, "127.0.0.1")
            return str(caught.value).replace(str(port), "PORT")

    assert asyncio.run(main()) == wanted


@given(st.lists(st.tuples(st.sampled_from((b"grpc-status", b"grpc-message", b"te")), st.binary(max_size=9))))
@examples(300)
def test_headers_of_any_kind_have_a_status_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    assert grpc_status(headers)[0] in {None, *range(17)}
    assert grpc_status([*headers, (b"grpc-status", b"14")])[0] == 14


@pytest.mark.parametrize("rubbish", [b"\xff" * 64, frame(1, 5, 1, b"\xff\xff\xff"), frame(0, 1, 7, b"x")])
def test_a_grpc_server_that_breaks_the_rules_is_not_healthy(rubbish: bytes) -> None:
    found = failure(lambda port: {"grpc": {"port": port}}, SETTINGS + rubbish)
    assert found is not None
    assert found.startswith(f"{RPC} Unavailable desc = error reading from server: ")


def test_exec_probes_say_what_they_lack() -> None:
    found = failure(lambda _port: {"exec": {"command": ["true"]}}, HTTP_OK)
    assert found is not None
    assert "exec probes are not supported by the local cluster yet" in found


def test_ports_by_name() -> None:
    container = {"ports": [{"name": "http", "containerPort": 8000}]}
    assert [port_number(port, container) for port in ("http", 80, "81")] == [8000, 80, 81]
    with pytest.raises(ProbeFailedError, match="parsing") as caught:
        port_number("grpc", container)
    assert caught.value.event == (
        'errored and resulted in unknown state: strconv.Atoi: parsing "grpc": invalid syntax'
    )


def test_checks_that_cannot_be_made_count_neither_way(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"
        async with Server() as server:
            server.answer = HTTP_OK
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 1, **PATIENT}
            made.run_pod(livenessProbe=probe, readinessProbe=probe)
            await made.running()
            await made.until(lambda: made.container()["ready"])
            server.answer = cut
            said = {
                f"{kind} probe errored and resulted in failure state: unexpected EOF"
                for kind in ("Liveness", "Readiness")
            }
            await made.until(lambda: set(made.events("Unhealthy")) == said)
            asked = len(server.requests)
            await made.until(lambda: len(server.requests) > asked)
            assert made.events("Killing") == []
            assert made.container()["ready"]

    cluster(scenario)


def test_readiness_follows_the_server(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 1, **PATIENT}
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


def test_probes_that_fail_by_our_fault_are_logged(
    cluster: RunCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    async def scenario(made: Cluster) -> None:
        made.run_pod(readinessProbe={"httpGet": {"port": 8000}})
        await made.until(lambda: ": its probes ended" in caplog.text)

    monkeypatch.setattr("chalkcompute.local.kubelet.probes.check", broken)
    cluster(scenario)
    assert "a mistake of ours" in caplog.text


def test_who_starts_slowly_need_not_wait_for_its_period(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 3600, **PATIENT}
            made.run_pod(readinessProbe=probe)
            await made.running()
            await made.until(lambda: made.events("Unhealthy"))
            server.answer = HTTP_OK
            await made.until(lambda: made.container()["ready"])
            assert len(made.events("Unhealthy")) == 1

    cluster(scenario)


def test_liveness_restarts(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            probe = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 1, **PATIENT}
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


class Paths:
    """Answers by path; keeps what was asked, and can be slow."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = {f"/{name}": answer for name, answer in answers.items()}
        self.requests: list[bytes] = []
        self.port = 0
        self._serving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Paths:
        self.port = await self._serving.enter_async_context(stream_server(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._serving.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(asked)
        first, wait, rest = self.answers[asked.split()[1].decode()].partition(b"WAIT")
        with contextlib.suppress(ConnectionError):
            writer.write(first.replace(b"PORT", str(self.port).encode()))
            await writer.drain()
            if wait:
                await asyncio.Event().wait()
            writer.write(rest)
            writer.close()
            await writer.wait_closed()


def checked(
    path: str, http: dict[str, Any] | None = None, *, seconds: float = 30, **answers: bytes
) -> tuple[str | None, list[bytes]]:
    """How an HTTP probe of a path fails, if it does, and what was asked."""

    async def main() -> tuple[str | None, list[bytes]]:
        async with Paths(**answers) as server:
            asked = {"path": path, "port": server.port, **(http or {})}
            probe = {"httpGet": asked, "timeoutSeconds": seconds}
            try:
                await check(probe, {}, "127.0.0.1")
            except ProbeFailedError as error:
                return str(error).replace(str(server.port), "PORT"), server.requests
            return None, server.requests

    return asyncio.run(main())


def redirect(target: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()


def test_redirects_on_the_host_are_followed() -> None:
    why, asked = checked("/old", old=redirect("/new"), new=HTTP_BAD)
    assert why == "HTTP probe failed with statuscode: 503"
    assert [request.split()[1] for request in asked] == [b"/old", b"/new"]
    assert checked("/old", old=redirect("http://127.0.0.1:PORT/new"), new=HTTP_OK)[0] is None


@pytest.mark.parametrize("target", ["http://example.org/login", "ftp://127.0.0.1/x"])
def test_redirects_to_elsewhere_are_a_success(target: str) -> None:
    assert checked("/old", old=redirect(target))[0] is None


@pytest.mark.parametrize("target", ["http://127.0.0.1:99999/", "http://[bad/"])
def test_a_redirect_to_what_is_no_address_is_a_failure(target: str) -> None:
    why, _ = checked("/old", old=redirect(target))
    assert why is not None
    assert why.startswith(f'Get "http://127.0.0.1:PORT/old": failed to parse Location header "{target}": ')


@pytest.mark.parametrize("length", ["abc", "-1", "1 2"])
def test_a_length_that_is_none_is_a_failure_that_counts(length: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    wanted = f'transport connection broken: bad Content-Length "{length}"'
    assert (checked("/x", x=answer)[0] or "").endswith(wanted)


def test_a_host_that_makes_no_address_counts_neither_way() -> None:
    with pytest.raises(ProbeFailedError) as caught:
        asyncio.run(check({"httpGet": {"port": 1, "host": "[::1]"}}, {}, "127.0.0.1"))
    assert caught.value.state == "unknown"


def test_redirects_in_a_circle_end() -> None:
    why, asked = checked("/round", round=redirect("/round"))
    assert why == 'Get "http://127.0.0.1:PORT/round": stopped after 10 redirects'
    assert len(asked) == 10


def test_headers_of_a_probe_replace_the_kubelets_own() -> None:
    headers = [
        {"name": "host", "value": "model.example"},
        {"name": "User-agent", "value": "me"},
        {"name": "Accept", "value": ""},
        {"name": "X-A", "value": "1"},
        {"name": "X-A", "value": "2"},
    ]
    _, (asked,) = checked("/own", {"httpHeaders": headers}, own=HTTP_OK)
    lines = asked.decode().split("\r\n")[1:]
    assert sorted(line for line in lines if line) == [
        "Connection: close",
        "User-agent: me",
        "X-A: 1",
        "X-A: 2",
        "host: model.example",
    ]


@pytest.mark.parametrize(
    ("answer", "fails"),
    [
        (b"WAIT" + HTTP_OK, "context deadline exceeded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nokWAITabc", "context deadline exceeded"),
        (b"HTTP/1.1 200 OK\r\n\r\nokWAIT", "context deadline exceeded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokWAIT", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + bytes(10240) + b"WAIT", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nWAIT", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nWAIT", "deadline exceeded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "EOF"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HTTP_OK, None),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
    ],
    ids=["head", "body", "endless", "kept open", "long", "chunks", "chunks cut", "short", "interim", "empty"],
)
def test_the_whole_answer_counts_to_the_time(answer: bytes, fails: str | None) -> None:
    # What is to be in time has all the time of a busy machine.
    late = fails is not None and "deadline" in fails
    why, _ = checked("/x", x=answer, seconds=0.3 if late else 30)
    assert (why is None) == (fails is None)
    assert fails is None or fails in str(why)


def test_a_start_that_takes_too_long_ends_in_a_restart(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server:
            server.answer = HTTP_BAD
            start = {"httpGet": {"port": server.port}, "periodSeconds": 1, "failureThreshold": 2, **PATIENT}
            ready = {"tcpSocket": {"port": server.port}, "periodSeconds": 1}
            made.run_pod(startupProbe=start, readinessProbe=ready, livenessProbe=ready)
            first = await made.running()
            await made.running(2)
            assert first.graces == [7]
            why = "HTTP probe failed with statuscode: 503"
            assert made.events("Unhealthy") == [f"Startup probe failed: {why}"]
            assert made.events("Killing") == ["Container app failed startup probe, will be restarted"]
            assert not made.container()["started"]

    cluster(scenario)


def test_what_a_probe_ends_has_its_hook_before(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as server, Server() as hook:
            server.answer = HTTP_BAD
            probe = {
                "httpGet": {"port": server.port},
                "periodSeconds": 1,
                "failureThreshold": 1,
                "terminationGracePeriodSeconds": 4,
                **PATIENT,
            }
            lifecycle = {"preStop": {"httpGet": {"port": hook.port, "path": "/drain"}}}
            made.run_pod(livenessProbe=probe, lifecycle=lifecycle)
            first = await made.running()
            await made.running(2)
            assert hook.requests[0].startswith(b"GET /drain ")
            (grace,) = first.graces
            assert 2 <= grace <= 4  # what the hook has left of it
            assert len(made.events("Killing")) == 1

    cluster(scenario)


@pytest.mark.parametrize(
    ("thresholds", "results", "wanted"),
    [
        ((1, 3), "+", "+"),
        ((1, 3), "--", "  "),
        ((1, 3), "---+", "  -+"),
        ((1, 3), "--+---", "  +  -"),
        ((2, 1), "-+-++", "-   +"),
        ((1, 1), "++--", "+ - "),
        ((3, 2), "+++--+-+++", "  + -    +"),
    ],
)
def test_results_in_a_row_make_a_verdict(thresholds: tuple[int, int], results: str, wanted: str) -> None:
    tally = Tally(*thresholds)
    signs = {True: "+", False: "-", None: " "}
    assert "".join(signs[tally.note(result == "+")] for result in results) == wanted


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
@examples(200)
def test_verdicts_take_turns_and_have_their_results_behind_them(
    successes: int, failures: int, results: list[bool]
) -> None:
    tally = Tally(successes, failures)
    said: list[bool] = []
    for number, result in enumerate(results, 1):
        verdict = tally.note(result)
        if verdict is not None:
            assert not said or said[-1] != verdict
            needed = successes if verdict else failures
            assert results[number - needed : number] == [verdict] * needed
            said.append(verdict)


def test_initial_delays_count_from_the_start_of_the_container(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        async with Server() as start, Server() as ready:
            start.answer = HTTP_BAD
            startup = {"httpGet": {"port": start.port}, "periodSeconds": 1, "failureThreshold": 30, **PATIENT}
            readiness = {"httpGet": {"port": ready.port}, "initialDelaySeconds": 1}
            made.run_pod(startupProbe=startup, readinessProbe=readiness)
            await made.running()
            await made.until(lambda: len(made.events("Unhealthy")) == 1)  # a second has passed
            assert not ready.requests  # the start comes first
            start.answer = HTTP_OK
            await made.until(lambda: made.container()["started"])
            await made.until(lambda: made.container()["ready"])
            assert ready.requests

    cluster(scenario)
