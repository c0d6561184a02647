"""Calls to a group's URL: what is tried again, what is not."""

import http.server
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from chalkcompute.errors import SpecError, UnreachableError
from chalkcompute.local.gateway.authority import make_authority, pem_files, server_certificate
from chalkcompute.service.call import send_call
from chalkcompute.service.request import Call, join

URL = "https://env-web.gw.test"
ENVOY = {"server": "envoy"}
BEFORE_HEADERS = "upstream connect error or disconnect/reset before headers. "
COLD = httpx.Response(503, headers=ENVOY, text="no healthy upstream")


def envoy_says(reason: str) -> httpx.Response:
    return httpx.Response(503, headers=ENVOY, text=f"{BEFORE_HEADERS}{reason}")


NO_CONNECTION = envoy_says("reset reason: remote connection failure")
FROM_A_REPLICA = {**ENVOY, "x-envoy-upstream-service-time": "3"}


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Answer = httpx.Response | Exception


class Gateway(httpx.BaseTransport):
    """Gives each answer once, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def send(gateway: Gateway, clock: Clock, call: Call) -> httpx.Response:
    return send_call(URL, call, transport=gateway, sleep=clock.sleep, monotonic=clock.monotonic)


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h", "", "https://h/"),
        ("https://h", "a", "https://h/a"),
        ("https://h/", "/a/b?c=d", "https://h/a/b?c=d"),
        ("https://h:8443", "//a", "https://h:8443/a"),
    ],
)
def test_exactly_one_slash(base: str, path: str, url: str) -> None:
    assert join(base, path) == url


def test_what_is_sent(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200, text="hi"))
    response = send(
        gateway, clock, Call(path="predict", json={"a": 1}, headers={"x-a": "b"}, params={"q": "1"})
    )
    asked = gateway.asked[0]
    assert (asked.method, str(asked.url)) == ("POST", f"{URL}/predict?q=1")
    assert asked.content == b'{"a":1}'
    assert asked.headers["x-a"] == "b"
    assert (response.text, str(response.url)) == ("hi", f"{URL}/predict?q=1")


def test_a_query_in_the_path_is_kept(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200))
    send(gateway, clock, Call(path="/x?a=b", method="GET"))
    assert str(gateway.asked[0].url) == f"{URL}/x?a=b"


@pytest.mark.parametrize(
    "bodies", [{"json": 1, "data": {}}, {"data": {}, "content": b""}, {"json": 0, "content": b""}]
)
def test_one_body(bodies: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="one body"):
        Call(**bodies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "BAD METHOD"}, "`method` 'BAD METHOD' is no HTTP method"),
        ({"method": ""}, "is no HTTP method"),
        ({"path": 3}, "`path` must be a string, not `int`"),
        ({"path": "/\0"}, "`path` cannot be part of a URL"),
        ({"headers": {"x-count": 3}}, "`headers`: `x-count` must be a string, not `int`"),
        ({"headers": {"x count": "3"}}, "`headers`: 'x count' is no name of a header"),
        ({"headers": {"x-a": "b\r\nx-c: d"}}, "the value of `x-a` has characters"),
        ({"headers": {"x-a": "Grüße"}}, "the value of `x-a` has characters"),
        ({"headers": [("x-a", "b")]}, "`headers` must be a dictionary"),
        ({"headers": {1: "b"}}, "`headers` must be a dictionary"),
        ({"params": "a=b"}, "`params` must be a dictionary"),
        ({"params": {"a": {"b": 1}}}, "`params`: `a` must be text"),
        ({"params": {"a": [1, b"2"]}}, "`params`: `a` must be text"),
        ({"data": b"a=b"}, "`data` must be a dictionary"),
        ({"data": {"a": object()}}, "`data`: `a` must be text"),
        ({"json": {1, 2}}, "`json` cannot be sent"),
        ({"json": float("nan")}, "`json` cannot be sent"),
        ({"content": 5}, "`content` cannot be sent"),
        ({"timeout": 0}, "`timeout` must be a number of seconds, more than 0, not 0"),
        ({"timeout": "30"}, "`timeout` must be a number of seconds"),
        ({"cold_start_timeout": -1}, "`cold_start_timeout` must be a number of seconds, 0 or more"),
        ({"cold_start_timeout": float("nan")}, "`cold_start_timeout` must be a number of seconds"),
    ],
)
def test_what_can_be_no_request_is_said_and_not_sent(
    clock: Clock, wrong: dict[str, object], said: str
) -> None:
    gateway = Gateway(httpx.Response(200))
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        send(gateway, clock, Call(**wrong))  # type: ignore[arg-type]
    assert caught.value.field == next(iter(wrong))
    assert gateway.asked == []


def test_a_credential_that_cannot_be_sent_is_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        Call(headers={"authorization": "Bearer s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_lists_numbers_and_truth_values_are_parameters(clock: Clock) -> None:
    gateway = Gateway(httpx.Response(200))
    send(gateway, clock, Call(params={"a": [1, "b"], "c": True, "d": None, "e": 0.5}))
    assert gateway.asked[0].url.query == b"a=1&a=b&c=true&d=&e=0.5"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "refusal",
    [
        COLD,
        httpx.Response(503, headers={"server": "istio-envoy"}, text="no healthy upstream"),
        NO_CONNECTION,
        envoy_says("reset reason: connection failure"),
        envoy_says("reset reason: local connection failure"),
        envoy_says("reset reason: connection timeout"),
        envoy_says(
            "reset reason: remote connection failure, transport failure reason: delayed connect error: 111"
        ),
    ],
)
def test_what_the_gateway_refused_is_tried_again(clock: Clock, method: str, refusal: httpx.Response) -> None:
    gateway = Gateway(refusal, refusal, httpx.Response(200))
    assert send(gateway, clock, Call(method=method, json={"a": 1})).status_code == 200
    assert [request.content for request in gateway.asked] == [b'{"a":1}'] * 3
    assert clock.now == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503, text="no healthy upstream"),
        httpx.Response(503, headers=ENVOY, text="busy: no healthy upstream"),
        httpx.Response(503, headers=ENVOY, text="no healthy upstream is what I have"),
        httpx.Response(502, headers=ENVOY, text="no healthy upstream"),
        httpx.Response(500, headers=ENVOY),
        httpx.Response(404, headers=FROM_A_REPLICA),
        httpx.Response(503, headers=FROM_A_REPLICA, text="no healthy upstream"),
        httpx.Response(503, headers=FROM_A_REPLICA, text=NO_CONNECTION.text),
        envoy_says("reset reason: connection termination"),
        envoy_says("reset reason: remote reset"),
        envoy_says("retried and the latest reset reason: remote connection failure"),
    ],
)
def test_what_may_have_reached_a_replica_is_returned_at_once(
    clock: Clock, method: str, answer: httpx.Response
) -> None:
    gateway = Gateway(answer)
    assert send(gateway, clock, Call(method=method)).status_code == answer.status_code
    assert len(gateway.asked) == 1


@pytest.mark.parametrize(("patience", "most"), [(0.0, 0.0), (3.0, 3.0), (60.0, 60.0)])
def test_patience_is_bounded_and_the_last_answer_returned(clock: Clock, patience: float, most: float) -> None:
    gateway = Gateway(COLD)
    response = send(gateway, clock, Call(cold_start_timeout=patience))
    assert response.status_code == 503
    assert clock.now <= most
    assert (len(gateway.asked) == 1) == (patience == 0)


def test_a_connection_that_cannot_be_made_is_tried_for_a_while(clock: Clock) -> None:
    gateway = Gateway(httpx.ConnectError("refused"), httpx.Response(200))
    assert send(gateway, clock, Call()).status_code == 200
    with pytest.raises(UnreachableError, match="refused"):
        send(Gateway(httpx.ConnectError("refused")), clock, Call())
    assert clock.now < 60


def _tls_error() -> httpx.ConnectError:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    return error


@pytest.mark.parametrize(
    "make", [lambda: httpx.ReadTimeout("slow"), lambda: httpx.ReadError("cut"), _tls_error]
)
def test_what_waiting_cannot_mend_fails_at_once(clock: Clock, make: Callable[[], Exception]) -> None:
    gateway = Gateway(make())
    with pytest.raises(UnreachableError):
        send(gateway, clock, Call())
    assert (len(gateway.asked), clock.now) == (1, 0.0)


def test_a_body_that_can_be_read_once_is_sent_once(clock: Clock) -> None:
    gateway = Gateway(COLD)
    assert send(gateway, clock, Call(content=iter([b"a"]))).status_code == 503
    assert len(gateway.asked) == 1


def test_localhost_names_mean_this_machine(clock: Clock) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()  # nobody answers: the message names the public URL all the same
    with pytest.raises(UnreachableError, match=rf"e-web\.gw\.localhost:{port}"):
        send_call(
            f"http://e-web.gw.localhost:{port}",
            Call(cold_start_timeout=0),
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )


def _unresolved() -> httpx.ConnectError:
    error = httpx.ConnectError("[Errno -2] Name or service not known")
    error.__cause__ = socket.gaierror(-2, "Name or service not known")
    return error


class SayHost(http.server.BaseHTTPRequestHandler):
    """Answers with the `Host` header."""

    def do_POST(self) -> None:
        body = self.headers["Host"].encode() + b" " + self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port of an HTTPS server for `*.gw.test`, and the PEM of its authority."""
    now = datetime.now(UTC)
    authority = make_authority("gw.test", now)
    server_certificate(tmp_path, "server", authority, ("*.gw.test",), now)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pem_files(tmp_path, "server"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SayHost)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, authority.pem
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_host_that_does_not_resolve_is_reached_at_the_gateways_own_address(
    clock: Clock, tls: tuple[int, str]
) -> None:
    port, authority = tls
    unresolved = Gateway(_unresolved())
    response = send_call(
        f"https://env-web.gw.test:{port}",
        Call(json={"a": 1}),
        ca_pem=authority,
        addresses=lambda: ("127.0.0.1",),
        transport=unresolved,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )
    assert response.text == f'env-web.gw.test:{port} {{"a":1}}'
    assert str(response.url) == f"https://env-web.gw.test:{port}/"
    assert len(unresolved.asked) == 1


@pytest.mark.parametrize(("host", "trusted"), [("env-web.gw.test", False), ("env-web.other.test", True)])
def test_by_its_address_the_gateway_has_to_prove_itself_all_the_same(
    clock: Clock, tls: tuple[int, str], host: str, trusted: bool
) -> None:
    port, authority = tls
    with pytest.raises(UnreachableError) as caught:
        send_call(
            f"https://{host}:{port}",
            Call(),
            ca_pem=authority if trusted else None,
            addresses=lambda: ("127.0.0.1",),
            transport=Gateway(_unresolved()),
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )
    assert "CHALK_CA_FILE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("addresses", "said"), [((), "no address"), (("127.0.0.1",), "`127.0.0.1` was tried")]
)
def test_a_host_that_does_not_resolve_is_said(clock: Clock, addresses: tuple[str, ...], said: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(UnreachableError, match="does not resolve") as caught:
        send_call(
            f"https://env-web.gw.test:{port}",
            Call(),
            addresses=lambda: addresses,
            transport=Gateway(_unresolved()),
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )
    assert said in caught.value.message
    assert "DNS" in (caught.value.hint or "")
