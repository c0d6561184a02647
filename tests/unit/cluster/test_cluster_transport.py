"""The official client against a plain HTTP server on this machine."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import config as kubernetes_config

from chalkcompute.cluster.kubeconfig import Connection
from chalkcompute.cluster.rest import RestCluster
from chalkcompute.cluster.transport import OfficialTransport, Request, clock_ahead
from chalkcompute.errors import (
    ApiError,
    ConnectionConfigError,
    ObjectNotFoundError,
    ServerBusyError,
    UnreachableError,
)

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Server:
    """Answers each request with the next function of `script`; keeps request lines and bodies."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                owner.asked.append((self.command, self.path, dict(self.headers), body))
                owner.script.pop(0)(self, body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing on stderr."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/k8s/clusters/c-1"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def says(code: int, body: object, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def streams(handler: BaseHTTPRequestHandler, *parts: bytes) -> None:
    """Chunked, as API servers stream watches."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for part in parts:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.flush()


def hangs_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def naps() -> list[float]:
    return []


def kubeconfig(path: Path, url: str) -> Connection:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "other",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "s3cret"}}],
                "contexts": [{"name": "mine", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return Connection(server=url, context="mine", files=(path,), context_name="mine")


@pytest.fixture
def transport(server: Server, tmp_path: Path, naps: list[float]) -> OfficialTransport:
    return OfficialTransport(kubeconfig(tmp_path / "config", server.url), sleep=naps.append)


GET = Request("GET", "/api/v1/namespaces/x", about="get namespaces `x`")
PATCH = Request("PATCH", "/api/v1/namespaces/x", body={"a": 1}, content_type="application/merge-patch+json")
BUSY = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "slow down"}


def test_prefix_token_and_warning_header(server: Server, transport: OfficialTransport) -> None:
    server.script = [says(200, {"ok": 1}, Warning='299 - "would violate \\"restricted\\""')]
    response = transport.send(GET)
    assert response.json() == {"ok": 1}
    assert response.warnings == ('would violate "restricted"',)
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/k8s/clusters/c-1/api/v1/namespaces/x")
    assert headers["authorization" if "authorization" in headers else "Authorization"] == "Bearer s3cret"


def test_bodies_travel_as_json(server: Server, transport: OfficialTransport) -> None:
    server.script = [says(200, {}), says(201, {}), says(200, {})]
    transport.send(PATCH)
    apply = Request("PATCH", "/x", (("force", "true"),), {"b": None}, "application/apply-patch+yaml")
    assert transport.send(apply).status == 201
    transport.send(Request("DELETE", "/x", body={"kind": "DeleteOptions"}))
    assert [json.loads(asked[3]) for asked in server.asked] == [
        {"a": 1},
        {"b": None},
        {"kind": "DeleteOptions"},
    ]
    assert server.asked[1][1] == "/k8s/clusters/c-1/x?force=true"


def test_reads_survive_a_broken_connection_and_a_busy_server(
    server: Server, transport: OfficialTransport, naps: list[float]
) -> None:
    server.script = [
        hangs_up,
        says(503, {}, Retry_After="2"),
        says(429, BUSY, Retry_After="1"),
        says(200, {}),
    ]
    assert transport.send(GET).status == 200
    assert naps == [pytest.approx(0.2), 2.0, 1.0]


def test_attempts_are_bounded(server: Server, transport: OfficialTransport, naps: list[float]) -> None:
    server.script = [says(429, BUSY, Retry_After="1") for _ in range(9)]
    with pytest.raises(ServerBusyError, match="slow down"):
        transport.send(GET)
    assert len(server.asked) == 4
    assert len(naps) == 3


def test_a_write_is_repeated_only_where_the_server_did_not_act(
    server: Server, transport: OfficialTransport
) -> None:
    server.script = [says(429, BUSY, Retry_After="1"), says(200, {})]
    assert transport.send(PATCH).status == 200
    server.script = [says(503, {}, Retry_After="1")]
    with pytest.raises(ServerBusyError):
        transport.send(PATCH)
    server.script = [hangs_up]
    with pytest.raises(UnreachableError):
        transport.send(PATCH)
    assert len(server.asked) == 4


def test_no_retry_without_retry_after_or_with_a_long_one(
    server: Server, transport: OfficialTransport, naps: list[float]
) -> None:
    for answer in (says(503, {}), says(429, BUSY, Retry_After="3600"), says(503, {}, Retry_After="later")):
        server.script = [answer]
        with pytest.raises(ServerBusyError):
            transport.send(GET)
    assert naps == []


def test_a_status_becomes_its_error(server: Server, transport: OfficialTransport) -> None:
    body = {"kind": "Status", "code": 404, "reason": "NotFound", "message": 'namespaces "x" not found'}
    server.script = [says(404, body)]
    with pytest.raises(ObjectNotFoundError) as caught:
        transport.send(GET)
    assert caught.value.message == 'namespaces "x" not found'


def test_watch_lines_arrive_one_by_one(server: Server, transport: OfficialTransport) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        streams(handler, b'{"type":"ADD', b'ED","object":{}}\n\n{"type":"MODIFIED","object":{}}\n', b"{}")
        handler.wfile.write(b"0\r\n\r\n")

    server.script = [answer]
    lines = list(transport.lines(GET, read_timeout=30))
    assert [json.loads(line) for line in lines] == [
        {"type": "ADDED", "object": {}},
        {"type": "MODIFIED", "object": {}},
        {},
    ]


def test_silence_ends_a_watch(server: Server, transport: OfficialTransport) -> None:
    release = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        streams(handler, b'{"type":"ADDED","object":{}}\n')
        release.wait(60)

    server.script = [answer]
    try:
        # Not shorter: the first line has to come within it, on a busy machine, too.
        assert len(list(transport.lines(GET, read_timeout=2))) == 1
    finally:
        release.set()


def cut_short(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"kind":')
    handler.close_connection = True


def test_an_answer_that_breaks_off_is_asked_for_again(
    server: Server, transport: OfficialTransport, naps: list[float]
) -> None:
    server.script = [cut_short, says(200, {"kind": "Namespace"})]
    assert transport.send(GET).json() == {"kind": "Namespace"}
    assert len(naps) == 1
    server.script = [cut_short]
    with pytest.raises(UnreachableError):
        transport.send(PATCH)


def test_a_page_that_is_no_api_server(server: Server, transport: OfficialTransport) -> None:
    server.script = [says(200, b"<!DOCTYPE html>\n<title>Log in</title>")]
    with pytest.raises(ApiError, match="<!DOCTYPE html> <title>Log in") as caught:
        transport.send(GET).json()
    assert "login page" in str(caught.value.hint)


def test_the_servers_clock(server: Server, transport: OfficialTransport) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response_only(200)
        handler.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    server.script = [answer]
    transport.send(GET)
    assert timedelta(minutes=59) < transport.ahead <= timedelta(hours=1)


NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead", "sent", "received", "before", "known"),
    [
        # The same clock, whatever the fraction of the second and however long the answer took.
        (0.0, 0.0, 0.1, 0.0, 0.0),
        (0.0, 0.99, 1.2, 0.0, 0.0),
        (0.0, 0.5, 30.5, 0.0, 0.0),
        # What was known fits still, so it stays.
        (-1.6, 0.3, 0.4, -1.3, -1.3),
        # Another clock: at least this much.
        (3600.0, 0.0, 0.0, 0.0, 3600.0),
        (-90.0, 0.5, 0.5, 0.0, -89.5),
    ],
)
def test_what_a_date_tells(ahead: float, sent: float, received: float, before: float, known: float) -> None:
    made = NOON + timedelta(seconds=received + ahead)
    found = clock_ahead(
        format_datetime(made.replace(microsecond=0), usegmt=True),
        NOON + timedelta(seconds=sent),
        NOON + timedelta(seconds=received),
        timedelta(seconds=before),
    )
    assert found.total_seconds() == pytest.approx(known)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Nov 2026 00:00:00 GMT"])
def test_no_date_tells_nothing(date: str | None) -> None:
    assert clock_ahead(date, NOON, NOON, timedelta(seconds=7)) == timedelta(seconds=7)


def test_an_apply_patch_is_utf8(server: Server, transport: OfficialTransport) -> None:
    value = {"data": {"greeting": "h\u00e9 \U0001f600 \\\x7f \x85 \u2028 \uffff"}}
    server.script = [says(200, {}), says(200, {})]
    transport.send(Request("PATCH", "/x", body=value, content_type="application/apply-patch+yaml"))
    transport.send(Request("PATCH", "/x", body=value, content_type="application/merge-patch+json"))
    (_, _, headers, applied), (_, _, _, merged) = server.asked
    assert headers["Content-Type"] == "application/apply-patch+yaml; charset=utf-8"
    assert "\U0001f600" in applied.decode()
    assert json.loads(applied) == json.loads(merged) == yaml.safe_load(applied.decode()) == value


def test_an_absent_server_is_named_with_a_way_out(tmp_path: Path) -> None:
    closed = Server()
    closed.close()
    made = kubeconfig(tmp_path / "config", closed.url)
    with pytest.raises(UnreachableError) as caught:
        RestCluster(OfficialTransport(made)).get("Namespace", "x")
    assert closed.url in caught.value.message
    assert "0x" not in caught.value.message
    local = Connection(
        server=made.server, context="local", source="local", files=made.files, context_name="mine"
    )
    with pytest.raises(UnreachableError) as caught:
        OfficialTransport(local).send(GET)
    assert caught.value.hint is not None
    assert "chalk local up" in caught.value.hint


def test_a_context_that_cannot_be_loaded(tmp_path: Path, server: Server) -> None:
    made = kubeconfig(tmp_path / "config", server.url)
    broken = Connection(server=server.url, context="gone", files=made.files, context_name="gone")
    with pytest.raises(ConnectionConfigError, match="gone"):
        OfficialTransport(broken).send(GET)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [("no-such-plugin", "no-such-plugin"), ("false", "exec: process returned 1")],
)
def test_a_credential_plugin_that_fails_is_named(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str], plugin: str, said: str
) -> None:
    made = kubeconfig(tmp_path / "config", server.url)
    body = json.loads(made.files[0].read_text())
    execution = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": plugin,
        "interactiveMode": "Never",
    }
    body["users"][0]["user"] = {"exec": execution}
    made.files[0].write_text(json.dumps(body))
    with pytest.raises(ConnectionConfigError, match=f"the credential plugin of .*{said}") as caught:
        OfficialTransport(made).send(GET)
    assert caught.value.hint is not None
    assert "install it" in caught.value.hint
    assert server.asked == []
    assert capfd.readouterr().err == ""


def test_errors_of_other_threads_are_none_of_a_credential_plugin(
    server: Server, transport: OfficialTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Any = kubernetes_config.load_kube_config

    def slowly(*args: Any, **options: Any) -> Any:
        other = threading.Thread(target=logging.getLogger().error, args=("card 4111 declined",))
        other.start()
        other.join()
        logging.getLogger("mine").error("of this thread, but not of the client")
        return load(*args, **options)

    monkeypatch.setattr(kubernetes_config, "load_kube_config", slowly)
    server.script = [says(200, {})]
    assert transport.send(GET).status == 200


def test_bodies_are_never_logged(
    server: Server, transport: OfficialTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [says(200, {"data": "canary-value"})]
    transport.send(GET)
    assert logging.getLogger("kubernetes.client.rest").level == logging.INFO
    assert "canary-value" not in caplog.text
    assert "s3cret" not in caplog.text


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    server: Server, transport: OfficialTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.script = [says(200, {})]
    assert transport.send(GET).status == 200
