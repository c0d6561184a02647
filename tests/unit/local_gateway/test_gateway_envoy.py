"""The translation through a real Envoy: what a client sees."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.gateway import resources
from chalkcompute.local.gateway.authority import Authority, make_authority
from chalkcompute.local.gateway.controller import ConfigFiles
from chalkcompute.local.gateway.envoy import (
    EnvoyFiles,
    EnvoyProcess,
    check_binary,
    clusters_loaded,
    find_binary,
)
from chalkcompute.local.gateway.objects import GatewayPorts, Objects
from chalkcompute.local.gateway.translate import translate
from chalkcompute.local.ports import Manifest
from chalkcompute.local.ports_in_use import PortLostError
from chalkcompute.local.state import ProcessIdentity, read_json
from tests.unit.local_gateway.objects_of_a_cluster import (
    a_gateway,
    a_route,
    a_service,
    a_slice,
    an_endpoint,
)
from tests.unit.reserved_port import reserved_port
from tests.unit.stream_server import stream_server

NOW = datetime.now(UTC)


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class has it so


class EchoServer(http.server.ThreadingHTTPServer):
    """Has room for all who connect at once: of those who find none the kernel makes each wait a second."""

    request_queue_size = 128


@pytest.fixture
def backend() -> Iterator[int]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


@dataclass
class Gateway:
    """A running Envoy and the objects behind it."""

    ports: GatewayPorts
    authority: Authority
    files: ConfigFiles
    process_file: Path

    def show(self, *objects: Manifest) -> None:
        issued = self.authority.issue(("*.gw.localhost", "gw.localhost"), NOW)
        world = Objects([a_gateway(), *objects])
        self.files.write(translate(world, self.ports, issued, self.files.folder).files)

    @property
    def pid(self) -> int:
        return int(read_json(self.process_file)["pid"])

    def get(
        self, path: str = "/", host: str = "dev-web.gw.localhost", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=30)
        return self._ask(connection, path, {"Host": f"{host}:{self.ports.http}", **(headers or {})})

    def get_tls(self, host: str = "dev-web.gw.localhost") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.https, timeout=30)
        context = ssl.create_default_context(cadata=self.authority.pem)
        raw = socket.create_connection(("127.0.0.1", self.ports.https), timeout=30)
        connection.sock = context.wrap_socket(raw, server_hostname=host)
        return self._ask(connection, "/", {"Host": host})

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        with closing(connection):
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read().decode()
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, body or dict(response.getheaders())

    async def eventually(self, expected: int, **request: Any) -> Any:
        """The body, once the answer has this status: Envoy takes files in by and by."""
        deadline = time.monotonic() + 30
        while True:
            status, body = await asyncio.to_thread(self.get, **request)
            if status == expected:
                return body
            assert time.monotonic() < deadline, f"still {status}, not {expected}: {body}"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_gateway(
    tmp_path: Path, *objects: Manifest, process: type[EnvoyProcess] = EnvoyProcess
) -> AsyncIterator[Gateway]:
    files = ConfigFiles(tmp_path / "xds")
    files.clear()
    envoy_files = EnvoyFiles(tmp_path, tmp_path / "envoy.log")
    with reserved_port() as https, reserved_port() as http:
        ports = GatewayPorts(https, http)
        gateway = Gateway(ports, make_authority("gw.localhost", NOW), files, envoy_files.process)
        gateway.show(*objects)
        envoy = process(find_binary(), envoy_files, ("http", "https"), concurrency=1)
        started = asyncio.Event()
        task = asyncio.create_task(envoy.run(started=started.set))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if task.done():
                task.result()  # raises what ended it
            yield gateway
        finally:
            waiting.cancel()
            task.cancel()
            await asyncio.wait({task})
            log = (tmp_path / "envoy.log").read_text()
    assert "rejected" not in log, log
    assert "Unknown field" not in log, log


def test_which_clusters_envoy_has_taken_in(tmp_path: Path, backend: int) -> None:
    piece = a_slice(an_endpoint("127.0.0.1", ready=True), port=backend)

    async def scenario() -> None:
        async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
            (known,) = json.loads((gateway.files.folder / "cds.json").read_text())["resources"]
            await clusters_loaded(tmp_path / "admin.sock", {known["name"]})
            waiting = asyncio.create_task(clusters_loaded(tmp_path / "admin.sock", {known["name"], "late"}))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            content = resources.discovery_response([resources.endpoints("late", [("127.0.0.1", backend)])])
            late = resources.cluster(gateway.files.folder, "late", h2c=False)
            gateway.files.write({resources.endpoints_file("late"): content})
            gateway.files.write({"cds": resources.discovery_response([known, late])})
            await asyncio.wait_for(waiting, 30)
        await clusters_loaded(tmp_path / "admin.sock", {"nobody answers"})

    asyncio.run(scenario())


@pytest.mark.parametrize("watched", [1, 0], ids=["endpoints in a file", "endpoints in the cluster"])
def test_statuses_a_client_sees(
    tmp_path: Path, backend: int, watched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalkcompute.local.gateway.translate._WATCHED", watched)
    piece = a_slice(an_endpoint("127.0.0.1", ready=True), port=backend)

    async def scenario() -> None:
        async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
            body = await gateway.eventually(200, path="/a?b=c")
            assert body["path"] == "/a?b=c"
            assert body["headers"]["x-forwarded-proto"] == "http"
            assert (await asyncio.to_thread(gateway.get_tls))[0] == 200
            await gateway.eventually(404, host="dev-other.gw.localhost")
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(gateway.get_tls, "dev-web.localhost")
            gateway.show(a_route(), a_service(), a_slice())
            await gateway.eventually(503)
            gateway.show(a_route(), a_service(), piece)
            await gateway.eventually(200)
            gateway.show(a_route(rules=[{"backendRefs": [{"name": "gone", "port": 1}]}]))
            await gateway.eventually(500)
            gateway.show()
            await gateway.eventually(404)

    asyncio.run(scenario())


def rules_of_every_sort() -> list[dict[str, Any]]:
    refs = [{"name": "web", "port": 8000}]

    def rule(path: str, kind: str = "PathPrefix", **rest: Any) -> dict[str, Any]:
        return {"matches": [{"path": {"type": kind, "value": path}}], "backendRefs": refs, **rest}

    def rewritten(replacement: str) -> list[dict[str, Any]]:
        path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
        return [{"type": "URLRewrite", "urlRewrite": {"hostname": "inner", "path": path}}]

    return [
        rule("/foo"),
        rule("/exact", "Exact"),
        rule("/v[0-9]+/.*", "RegularExpression"),
        rule("/strip", filters=rewritten("/")),
        rule("/move", filters=rewritten("/to")),
        rule(
            "/headers",
            filters=[
                {
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": "x-a", "value": "100%"}], "remove": ["x-b"]},
                }
            ],
        ),
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/go"}}],
            "filters": [
                {"type": "RequestRedirect", "requestRedirect": {"hostname": "b.example", "statusCode": 301}}
            ],
        },
        {"matches": [{"queryParams": [{"name": "q", "value": "1"}]}], "backendRefs": refs},
    ]


def test_rules_a_client_sees(tmp_path: Path, backend: int) -> None:
    piece = a_slice(an_endpoint("127.0.0.1"), port=backend)

    async def scenario() -> None:
        async with running_gateway(
            tmp_path, a_route(rules=rules_of_every_sort()), a_service(), piece
        ) as gateway:
            await gateway.eventually(200, path="/foo")
            for path, status in {
                "/foo/": 200,
                "/foo/bar": 200,
                "/foobar": 404,
                "/exact": 200,
                "/exact/x": 404,
                "/v12/x": 200,
                "/vx/x": 404,
                "/": 404,
                "/?q=1": 200,
                "/?q=2": 404,
            }.items():
                assert gateway.get(path)[0] == status, path
            assert gateway.get("/strip/x")[1]["path"] == "/x"
            assert gateway.get("/strip")[1]["path"] == "/"
            moved = gateway.get("/move/x")[1]
            assert (moved["path"], moved["headers"]["host"]) == ("/to/x", "inner")
            changed = gateway.get("/headers", headers={"x-b": "1"})[1]["headers"]
            assert changed["x-a"] == "100%"
            assert "x-b" not in changed
            status, answer = gateway.get("/go/x")
            assert (status, answer["location"]) == (301, "http://b.example/go/x")

    asyncio.run(scenario())


def test_timeouts_a_client_sees(tmp_path: Path) -> None:
    """A backend that takes the request and never answers."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def scenario() -> None:
        rules = [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": f"/{field}"}}],
                "timeouts": {field: "100ms"},
                "backendRefs": [{"name": "web", "port": 8000}],
            }
            for field in ("request", "backendRequest")
        ]
        async with stream_server(take) as silent:
            piece = a_slice(an_endpoint("127.0.0.1"), port=silent)
            async with running_gateway(tmp_path, a_route(rules=rules), a_service(), piece) as gateway:
                await gateway.eventually(504, path="/request")
                await gateway.eventually(504, path="/backendRequest")

    asyncio.run(scenario())


def test_a_request_that_was_forwarded_is_not_sent_again(tmp_path: Path) -> None:
    """A backend that reads the request and hangs up: it may have done what was asked."""
    seen: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        writer.close()

    async def scenario() -> None:
        async with stream_server(hang_up) as rude:
            piece = a_slice(an_endpoint("127.0.0.1"), port=rude)
            async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
                while not seen:
                    await asyncio.to_thread(gateway.get, "/once")
                assert (await asyncio.to_thread(gateway.get, "/twice"))[0] == 503

    asyncio.run(scenario())
    assert [line.split()[1] for line in seen] == [b"/once", b"/twice"]


def many(gateway: Gateway) -> list[int]:
    """The statuses of 200 requests, 40 at a time."""
    with ThreadPoolExecutor(40) as pool:
        return [status for status, _ in pool.map(lambda _: gateway.get(), range(200))]


def test_a_replica_that_does_not_listen_is_passed_over(tmp_path: Path, backend: int) -> None:
    piece = a_slice(an_endpoint("127.77.255.254"), an_endpoint("127.0.0.1"), port=backend)

    async def scenario() -> None:
        async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
            await gateway.eventually(200)
            answers = [(await asyncio.to_thread(gateway.get))[0] for _ in range(20)]
            assert answers == [200] * 20
            # Many at once: there is no such number of them that some are not sent to another replica.
            assert await asyncio.to_thread(many, gateway) == [200] * 200

    asyncio.run(scenario())


def test_web_sockets_pass(tmp_path: Path) -> None:
    """The upgrade of RFC 6455, and bytes both ways after it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with stream_server(echo) as port:
            piece = a_slice(an_endpoint("127.0.0.1"), port=port)
            async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports.http)
                writer.write(
                    b"GET / HTTP/1.1\r\nHost: dev-web.gw.localhost\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101"), head
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                writer.close()
                await writer.wait_closed()

    asyncio.run(scenario())


async def answer_with_trailers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/2 without TLS, as gRPC answers: a head, data, and trailers (RFC 9113, sections 3.3 and 8.1)."""

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content

    settings, data, headers, end_stream, end_headers, ack = 4, 0, 1, 0x1, 0x4, 0x1
    await reader.readexactly(24)  # the preface
    writer.write(frame(settings, 0, 0, b""))
    with suppress(asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3]))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
            if kind == settings and not flags & ack:
                writer.write(frame(settings, ack, 0, b""))
            if kind in (data, headers) and flags & end_stream:
                # `:status: 200` of the static table (RFC 7541, 6.1); below a literal, not kept (6.2.2).
                writer.write(frame(headers, end_headers, stream, b"\x88"))
                writer.write(frame(data, 0, stream, b"message"))
                trailer = b"\x00" + b"\x0bgrpc-status" + b"\x010"
                writer.write(frame(headers, end_headers | end_stream, stream, trailer))
    writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_http_2_passes_from_end_to_end_with_its_trailers(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = a_service(appProtocol="kubernetes.io/h2c")
        async with stream_server(answer_with_trailers) as port:
            piece = a_slice(an_endpoint("127.0.0.1"), port=port)
            async with running_gateway(tmp_path, a_route(), service, piece) as gateway:
                await gateway.eventually(200)
                command = ["curl", "--silent", "--http2-prior-knowledge", "--noproxy", "*", "--include"]
                command += ["--header", "Host: dev-web.gw.localhost", "--data", "question"]
                url = f"http://127.0.0.1:{gateway.ports.http}/"
                process = await asyncio.create_subprocess_exec(*command, url, stdout=subprocess.PIPE)
                said = (await process.communicate())[0].decode().splitlines()
                assert said[0].strip() == "HTTP/2 200", said
                assert "message" in "\n".join(said)
                assert "grpc-status: 0" in [line.strip().removeprefix("message") for line in said], said

    asyncio.run(scenario())


def test_it_starts_again_when_it_is_killed(tmp_path: Path, backend: int) -> None:
    piece = a_slice(an_endpoint("127.0.0.1"), port=backend)

    async def scenario() -> None:
        async with running_gateway(tmp_path, a_route(), a_service(), piece) as gateway:
            first = gateway.pid
            os.kill(first, signal.SIGKILL)

            def another() -> bool:
                said = ProcessIdentity.from_mapping(read_json(gateway.process_file))
                return said is not None and said.pid != first

            def answers() -> int:
                try:
                    return gateway.get()[0]
                except (OSError, http.client.HTTPException):
                    return 0

            async with asyncio.timeout(30):
                while not another():
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                while await asyncio.to_thread(answers) != 200:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


class Hesitant(EnvoyProcess):
    """Its first answer about the listeners comes too late, as on a machine that starts sixty replicas."""

    late = True

    async def _admin(self, path: str) -> tuple[int, str]:
        if path.startswith("/listeners") and self.late:
            self.late = False
            return 0, ""
        return await super()._admin(path)


def test_an_answer_that_comes_late_is_no_taken_port(tmp_path: Path, backend: int) -> None:
    piece = a_slice(an_endpoint("127.0.0.1"), port=backend)

    async def scenario() -> None:
        async with running_gateway(tmp_path, a_route(), a_service(), piece, process=Hesitant) as gateway:
            await gateway.eventually(200)

    asyncio.run(scenario())


def test_a_taken_port_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path / "xds")
    files.clear()
    envoy_files = EnvoyFiles(tmp_path, tmp_path / "envoy.log")
    issued = make_authority("gw.localhost", NOW).issue(("gw.localhost",), NOW)
    with socket.socket() as holder, reserved_port() as free:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ports = GatewayPorts(https=holder.getsockname()[1], http=free)
        files.write(translate(Objects([a_gateway()]), ports, issued, files.folder).files)
        envoy = EnvoyProcess(find_binary(), envoy_files, ("http", "https"), concurrency=1)
        with pytest.raises(PortLostError, match="https"):
            asyncio.run(envoy.run())
    assert not envoy_files.process.exists()


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("#!/bin/sh\nexit 3\n", r"does not start \(exit code 3\)"),
        ("no program at all", "cannot be started"),
    ],
)
def test_a_binary_that_does_not_run_is_an_error(tmp_path: Path, program: str, what: str) -> None:
    (tmp_path / "xds").mkdir()
    binary = tmp_path / "envoy"
    binary.write_text(program)
    binary.chmod(0o755)
    envoy = EnvoyProcess(binary, EnvoyFiles(tmp_path, tmp_path / "envoy.log"), ())
    with pytest.raises(LocalClusterError, match=what):
        asyncio.run(envoy.run())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from chalkcompute.local.gateway.envoy import EnvoyFiles, EnvoyProcess, find_binary
folder = Path(sys.argv[1])
(folder / "xds").mkdir()
for name in ("lds", "cds"):
    (folder / "xds" / f"{name}.json").write_text('{"resources": []}')
envoy = EnvoyProcess(find_binary(), EnvoyFiles(folder, folder / "log"), (), concurrency=1)
asyncio.run(envoy.run(started=lambda: print("started", flush=True)))
"""

    async def scenario() -> ProcessIdentity | None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=tmp_path
        )
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"started\n"
        identity = ProcessIdentity.from_mapping(read_json(tmp_path / "envoy.json"))
        parent.kill()
        await parent.communicate()  # to the end of what it printed, so that its pipe is closed
        return identity

    identity = asyncio.run(scenario())
    assert identity is not None
    assert identity.wait_gone(30)


def test_a_stand_in_for_the_binary_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "envoy"
    script.write_text("#!/bin/sh\nexec docker run envoyproxy/envoy\n")
    script.chmod(0o755)
    with pytest.raises(LocalClusterError, match="not an Envoy binary"):
        check_binary(script)
    with pytest.raises(LocalClusterError, match="cannot be read"):
        check_binary(tmp_path / "absent")
