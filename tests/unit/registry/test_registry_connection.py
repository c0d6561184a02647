"""Addresses, schemes, certificates and proxies: over real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import httpx
import pytest

from chalkcompute.errors import RegistryError
from chalkcompute.registry import Registry
from tests.unit.https_server import self_signed, serving
from tests.unit.registry.fakes import file_of, manifest_of, sha256

MANIFEST = manifest_of(b"{}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return self_signed(tmp_path_factory.mktemp("authority"))


def test_loopback_is_plain_http_and_knows_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with serving(MANIFEST) as port, Registry(f"127.0.0.1:{port}") as registry:
        assert registry.manifest("a/b", "v1").raw == MANIFEST


def test_loopback_that_speaks_only_tls(authority: tuple[Path, ssl.SSLContext]) -> None:
    pem, context = authority
    with serving(MANIFEST, context) as port, Registry(f"localhost:{port}", ca_file=pem) as registry:
        assert registry.manifest("a/b", "v1").raw == MANIFEST
        assert registry.manifest("a/b", "v1").raw == MANIFEST


@pytest.mark.parametrize("variable", ["CHALK_REGISTRY_CA_FILE", "SSL_CERT_FILE"])
def test_the_authority_by_environment(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    pem, context = authority
    monkeypatch.setenv(variable, str(pem))
    with serving(MANIFEST, context) as port, Registry(f"localhost:{port}") as registry:
        assert registry.manifest("a/b", "v1").raw == MANIFEST


def test_a_certificate_that_is_not_trusted(authority: tuple[Path, ssl.SSLContext]) -> None:
    with (
        serving(MANIFEST, authority[1]) as port,
        Registry(f"localhost:{port}") as registry,
        pytest.raises(
            RegistryError, match=rf"the certificate of `localhost:{port}` is not trusted: self"
        ) as bad,
    ):
        registry.manifest("a/b", "v1")
    assert bad.value.hint is not None
    assert "`CHALK_REGISTRY_CA_FILE` or `SSL_CERT_FILE`" in bad.value.hint


def test_a_certificate_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(
            RegistryError, match=rf"the certificate file `.*{name}` for `r\.io` cannot be read"
        ):
            Registry("r.io", ca_file=tmp_path / name)


def test_nothing_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with Registry(host) as registry, pytest.raises(RegistryError, match=f"nothing listens at .*`{host}`"):
            registry.manifest("a/b", "v1")
        digest = sha256(b"x")
        with Registry(host) as registry, pytest.raises(RegistryError, match="nothing listens"):
            registry.download_blob("a/b", digest, 1, tmp_path / "x")
    assert list(tmp_path.glob("x*")) == [], "nothing is left of what never began"


def test_no_such_host() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x", request=request) from socket.gaierror(-2, "unknown")

    with (
        Registry("nowhere.invalid", transport=httpx.MockTransport(serve)) as registry,
        pytest.raises(RegistryError, match=r"there is no address for the registry `nowhere\.invalid`"),
    ):
        registry.manifest("a/b", "v1")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (httpx.ConnectTimeout("x"), "does not answer: connect timed out"),
        (httpx.ConnectError("x"), "cannot be reached"),
        (httpx.ProxyError("x"), "the proxy does not connect"),
        (httpx.ReadTimeout("x"), "stopped answering on manifest `v1` of `a/b`: timed out"),
    ],
)
def test_other_failures_of_the_network(pauses: list[float], error: httpx.HTTPError, why: str) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        raise error

    with (
        Registry("r.io", transport=httpx.MockTransport(serve)) as registry,
        pytest.raises(RegistryError, match=why),
    ):
        registry.manifest("a/b", "v1")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("index.docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.1.2.3", "http://127.1.2.3"),
        ("[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_where_a_registry_is(host: str, address: str) -> None:
    seen: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=MANIFEST)

    with Registry(host, transport=httpx.MockTransport(serve)) as registry:
        registry.manifest("a/b", "v1")
    assert seen == [f"{address}/v2/a/b/manifests/v1"]


def test_what_is_no_host() -> None:
    with pytest.raises(RegistryError, match="is not a registry host"):
        Registry("a:b:c")


def test_an_upload_address_without_tls_behind_a_proxy(tmp_path: Path) -> None:
    """Registries that do not know that they are reached over https say `http://` in `Location`."""

    def serve(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        if request.method == "HEAD":
            return httpx.Response(404)
        headers = {"Location": "http://r.io/up/1"} if request.method == "POST" else {}
        return httpx.Response(202 if request.method == "POST" else 201, headers=headers)

    source, digest = file_of(tmp_path, b"x")
    with Registry("r.io", transport=httpx.MockTransport(serve)) as registry:
        registry.push_blob("a/b", digest, 1, source)
