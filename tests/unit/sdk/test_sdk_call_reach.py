"""The ways by which `call()` reaches a gateway: what is tried, in which order, and what is said of it."""

from __future__ import annotations

import http.server
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from chalkcompute.errors import ForbiddenError, UnreachableError
from chalkcompute.local.gateway.authority import make_authority, pem_files, server_certificate
from chalkcompute.service.call import send_call
from chalkcompute.service.request import Call
from tests.unit.reserved_port import reserved_port


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


class SayHost(http.server.BaseHTTPRequestHandler):
    """Answers with the `Host` header and the body."""

    def do_POST(self) -> None:
        body = self.headers["Host"].encode() + b" " + self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""


class RefuseAll(SayHost):
    """A proxy that connects nobody."""

    def do_CONNECT(self) -> None:
        self.send_error(502, "Cannot Resolve")


@contextmanager
def serving(
    handler: type[SayHost],
    context: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[int]:
    """Port of a server."""
    server = http.server.ThreadingHTTPServer((address, port), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """TLS of a server for `*.gw.test` and `*.gw.localhost`, and the PEM of its authority."""
    now = datetime.now(UTC)
    authority = make_authority("gw.test", now)
    server_certificate(tmp_path, "server", authority, ("*.gw.test", "*.gw.localhost"), now)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pem_files(tmp_path, "server"))
    return context, authority.pem


@pytest.fixture
def tls(certified: tuple[ssl.SSLContext, str]) -> Iterator[tuple[int, str]]:
    """Port of such a server, and the PEM of its authority."""
    context, authority = certified
    with serving(SayHost, context) as port:
        yield port, authority


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port where nobody listens."""
    with reserved_port() as port:
        yield port


class Failing(httpx.BaseTransport):
    """By the host name no connection is made."""

    def __init__(self, make: Callable[[], Exception]) -> None:
        self.make = make
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        raise self.make()


def unresolved() -> httpx.ConnectError:
    error = httpx.ConnectError("[Errno -2] Name or service not known")
    error.__cause__ = socket.gaierror(-2, "Name or service not known")
    return error


def another_certificate() -> httpx.ConnectError:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    return error


class Addresses:
    """The addresses of a Gateway, and how often they were asked for."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked = 0

    def __call__(self) -> Sequence[str]:
        self.asked += 1
        return self.known


def reach(url: str, call: Call | None = None, **how: Any) -> tuple[httpx.Response, float]:
    """The answer, and how long it took."""
    clock = Clock()
    response = send_call(
        url, call or Call(json={"a": 1}), sleep=clock.sleep, monotonic=clock.monotonic, **how
    )
    return response, clock.now


@pytest.mark.parametrize(
    "make",
    [
        unresolved,
        another_certificate,
        lambda: httpx.ConnectError("[Errno 111] Connection refused"),
        lambda: httpx.ConnectTimeout("timed out"),
        lambda: httpx.ProxyError("502 Bad Gateway"),
    ],
)
def test_where_the_host_name_leads_nowhere_the_gateways_own_address_is_tried(
    tls: tuple[int, str], make: Callable[[], Exception]
) -> None:
    port, authority = tls
    by_name, addresses = Failing(make), Addresses("127.0.0.1")
    response, waited = reach(
        f"https://env-web.gw.test:{port}", ca_pem=authority, addresses=addresses, transport=by_name
    )
    assert response.text == f'env-web.gw.test:{port} {{"a":1}}'
    assert str(response.url) == f"https://env-web.gw.test:{port}/"
    assert (by_name.asked, addresses.asked, waited) == (1, 1, 0)


def test_a_body_that_can_be_read_once_takes_the_second_way_too(tls: tuple[int, str]) -> None:
    port, authority = tls
    response, _ = reach(
        f"https://env-web.gw.test:{port}",
        Call(content=iter([b"once"]), headers={"content-length": "4"}),
        ca_pem=authority,
        addresses=Addresses("127.0.0.1"),
        transport=Failing(unresolved),
    )
    assert response.text == f"env-web.gw.test:{port} once"


def test_a_proxy_that_does_not_know_the_gateway(
    tls: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, authority = tls
    with serving(RefuseAll) as proxy:
        for variable in ("https_proxy", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        url = f"https://env-web.gw.test:{port}"
        response, waited = reach(url, ca_pem=authority, addresses=Addresses("127.0.0.1"))
        assert (response.status_code, waited) == (200, 0)
        with pytest.raises(UnreachableError, match="its host name, by way of the proxy: 502 Cannot Resolve"):
            reach(url, ca_pem=authority)
        response, waited = reach(url, ca_pem=authority, address="127.0.0.1")
        assert (response.status_code, waited) == (200, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not this machine")
def test_a_localhost_name_of_another_machine(certified: tuple[ssl.SSLContext, str], free_port: int) -> None:
    """A real cluster whose Gateway has a `*.localhost` domain: nobody listens at 127.0.0.1."""
    context, authority = certified
    with serving(SayHost, context, "127.0.0.2", free_port) as port:
        url, addresses = f"https://env-web.gw.localhost:{port}", Addresses("127.0.0.3", "127.0.0.2")
        response, waited = reach(url, ca_pem=authority, addresses=addresses)
        assert (response.text, waited) == (f'env-web.gw.localhost:{port} {{"a":1}}', 0)
    with pytest.raises(UnreachableError) as caught:
        reach(url, ca_pem=authority, addresses=addresses)
    assert caught.value.message.count("[Errno 111] Connection refused") == 3
    for way in ("`*.localhost`", "own address `127.0.0.2`", "own address `127.0.0.3`"):
        assert way in caught.value.message
    assert addresses.asked == 2, "once a call"


def test_every_way_is_tried_again_until_one_works(free_port: int) -> None:
    class Later(Failing):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if self.asked == 2:
                return httpx.Response(200, text="by name")
            return super().handle_request(request)

    response, waited = reach(
        f"https://env-web.gw.test:{free_port}",
        addresses=Addresses("127.0.0.1"),
        transport=Later(unresolved),
    )
    assert (response.text, waited) == ("by name", 0.25 + 0.5)


def test_the_way_that_worked_is_gone_on_with(certified: tuple[ssl.SSLContext, str]) -> None:
    context, authority = certified
    cold = [503, 503]

    class ColdAtFirst(SayHost):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b"no healthy upstream" if cold else b"warm"
            self.send_response_only(cold.pop() if cold else 200)
            self.send_header("Server", "envoy")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    by_name = Failing(unresolved)
    with serving(ColdAtFirst, context) as port:
        response, _ = reach(
            f"https://env-web.gw.test:{port}",
            ca_pem=authority,
            addresses=Addresses("127.0.0.1"),
            transport=by_name,
        )
    assert (response.text, by_name.asked) == ("warm", 1)


def test_an_address_that_was_set_is_the_only_way(tls: tuple[int, str], free_port: int) -> None:
    port, authority = tls
    by_name, addresses = Failing(unresolved), Addresses("127.0.0.1")
    how: dict[str, Any] = {"ca_pem": authority, "addresses": addresses, "transport": by_name}
    response, _ = reach(f"https://env-web.gw.test:{port}", address="localhost", **how)
    assert response.text.startswith(f"env-web.gw.test:{port} ")
    with pytest.raises(UnreachableError, match=r"CHALK_GATEWAY_ADDRESS `127\.0\.0\.1`: .*refused"):
        reach(f"https://env-web.gw.test:{free_port}", address="127.0.0.1", **how)
    assert (by_name.asked, addresses.asked) == (0, 0)


@pytest.mark.parametrize(("host", "trusted"), [("env-web.gw.test", False), ("env-web.other.test", True)])
@pytest.mark.parametrize("by", ["its own address", "the address that was set"])
def test_by_every_way_the_gateway_has_to_prove_itself(
    tls: tuple[int, str], host: str, trusted: bool, by: str
) -> None:
    port, authority = tls
    with pytest.raises(UnreachableError) as caught:
        reach(
            f"https://{host}:{port}",
            ca_pem=authority if trusted else None,
            address=None if by == "its own address" else "127.0.0.1",
            addresses=Addresses("127.0.0.1"),
            transport=Failing(unresolved),
        )
    assert "CHALK_CA_FILE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("addresses", "said", "hint"),
    [
        ((), "the Gateway shows no address in its status", "DNS"),
        (("127.0.0.1",), "own address `127.0.0.1`: [Errno 111] Connection refused", "CHALK_GATEWAY_ADDRESS"),
    ],
)
def test_what_was_tried_is_said(free_port: int, addresses: tuple[str, ...], said: str, hint: str) -> None:
    with pytest.raises(UnreachableError, match="its host name does not resolve here; ") as caught:
        reach(
            f"https://env-web.gw.test:{free_port}",
            addresses=Addresses(*addresses),
            transport=Failing(unresolved),
        )
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_cluster_that_does_not_show_its_gateway_hides_no_failure() -> None:
    def addresses() -> Sequence[str]:
        raise ForbiddenError("no", status=403, reason="Forbidden")

    with pytest.raises(UnreachableError, match="its host name: refused"):
        reach(
            "https://env-web.gw.test",
            addresses=addresses,
            transport=Failing(lambda: httpx.ConnectError("refused")),
        )
