"""Pulls from registries that redirect, damage, break or refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from chalkcompute.errors import ImageNotFoundError, RegistryAuthError, RegistryError
from chalkcompute.registry import OCI_MANIFEST, Credential, Registry
from tests.unit.registry.fakes import errors, manifest_of, sha256

RAW = bytes(range(256)) * 40
DIGEST = sha256(RAW)
MANIFEST = manifest_of(b"{}", RAW)
Serve = Callable[[httpx.Request], httpx.Response]


def registry(serve: Serve, host: str = "r.io") -> Registry:
    return Registry(host, transport=httpx.MockTransport(serve))


class _Breaks(httpx.SyncByteStream):
    """A body that breaks after some bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def __iter__(self) -> Iterator[bytes]:
        yield self.raw
        raise httpx.ReadError("broken")


class BlobServer:
    """Serves RAW by ranges, and breaks each answer after `most` bytes."""

    def __init__(self, most: int = len(RAW), *, ranges: bool = True, raw: bytes = RAW) -> None:
        self.most = most
        self.ranges = ranges
        self.raw = raw
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("range", ""))
        start = int(self.asked[-1].removeprefix("bytes=").rstrip("-") or 0) if self.ranges else 0
        rest = self.raw[start:]
        stream = httpx.ByteStream(rest) if len(rest) <= self.most else _Breaks(rest[: self.most])
        headers = {"Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.raw) - 1}/{len(self.raw)}"
        return httpx.Response(206 if start else 200, headers=headers, stream=stream)


def download(serve: Serve, into: Path) -> list[int]:
    told: list[int] = []
    with registry(serve) as client:
        client.download_blob("a/b", DIGEST, len(RAW), into, on_bytes=told.append)
    assert into.read_bytes() == RAW
    assert not into.with_name(into.name + ".part").exists()
    assert sum(told) == len(RAW)
    return told


def test_a_download_goes_on_where_it_broke(tmp_path: Path, pauses: list[float]) -> None:
    server = BlobServer(4000)
    download(server, tmp_path / "x")
    assert server.asked == ["", "bytes=4000-", "bytes=8000-"]


def test_a_server_without_ranges_starts_over(tmp_path: Path, pauses: list[float]) -> None:
    (tmp_path / "x.part").write_bytes(RAW[:5000])
    server = BlobServer(ranges=False)
    told = download(server, tmp_path / "x")
    assert server.asked == ["bytes=5000-"]
    assert told[:2] == [5000, -5000]


def test_a_server_that_always_breaks_ends_and_leaves_the_part(tmp_path: Path, pauses: list[float]) -> None:
    server = BlobServer(4000, ranges=False)
    with registry(server) as client, pytest.raises(RegistryError, match="broke the connection on blob"):
        client.download_blob("a/b", DIGEST, len(RAW), tmp_path / "x")
    assert len(server.asked) == 5
    assert (tmp_path / "x.part").read_bytes() == RAW[:4000]
    assert not (tmp_path / "x").exists()


def test_a_download_waits_as_long_as_it_is_asked_to(tmp_path: Path, pauses: list[float]) -> None:
    answers = [httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503)]
    server = BlobServer()
    download(lambda request: answers.pop(0) if answers else server(request), tmp_path / "x")
    assert pauses == [7.0, 1.0]
    pauses.clear()
    with pytest.raises(RegistryError, match="limits how often") as caught:
        download(lambda _: httpx.Response(429, headers={"Retry-After": "600"}), tmp_path / "y")
    assert (pauses, "in 600 s" in str(caught.value.hint)) == ([], True)


def test_a_spoilt_part_is_fetched_anew(tmp_path: Path, pauses: list[float]) -> None:
    (tmp_path / "x.part").write_bytes(b"?" * 5000)
    server = BlobServer()
    download(server, tmp_path / "x")
    assert server.asked == ["bytes=5000-", ""]
    (tmp_path / "y.part").write_bytes(RAW + b"more")
    download(BlobServer(), tmp_path / "y")


def test_a_part_that_is_whole_needs_no_request(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(RAW)
    server = BlobServer()
    download(server, tmp_path / "x")
    assert server.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(416),
        httpx.Response(206, headers={"Content-Range": "bytes 0-9/10240"}, content=RAW[:10]),
        httpx.Response(206, content=RAW[:10]),
        httpx.Response(503),
        httpx.Response(429),
    ],
)
def test_odd_answers_to_a_range(tmp_path: Path, pauses: list[float], answer: httpx.Response) -> None:
    (tmp_path / "x.part").write_bytes(RAW[:5000])
    answers, server = [answer], BlobServer()
    download(lambda request: answers.pop() if answers else server(request), tmp_path / "x")


@pytest.mark.parametrize("raw", [RAW[:-1] + b"?", RAW + b"?", RAW[:-1]])
def test_a_corrupt_blob_leaves_nothing(tmp_path: Path, raw: bytes) -> None:
    def unsized(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([raw[:9000], raw[9000:]]))

    servers: list[Serve] = [BlobServer(raw=raw)] + ([unsized] if len(raw) >= len(RAW) else [])
    for server in servers:
        with (
            registry(server) as client,
            pytest.raises(RegistryError, match=r"from `r\.io` is corrupt") as bad,
        ):
            client.download_blob("a/b", DIGEST, len(RAW), tmp_path / "x")
        assert bad.value.code == "DIGEST_INVALID"
        assert list(tmp_path.glob("x*")) == []


def test_a_layer_that_is_called_gzip_is_kept_as_it_is(tmp_path: Path) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(RAW))

    download(serve, tmp_path / "x")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_does_not_carry_the_token(tmp_path: Path, status: int) -> None:
    class _Me:
        def find(self, host: str) -> Credential:
            return Credential("me", "pw")

    seen: list[tuple[str, bool]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, "authorization" in request.headers))
        if request.url.host == "store.example.com":
            return httpx.Response(200, content=RAW)
        if "authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic"})
        where = "/elsewhere" if "elsewhere" not in request.url.path else "https://store.example.com/x?sig=1"
        return httpx.Response(status, headers={"Location": where})

    with Registry("r.io", credentials=_Me(), transport=httpx.MockTransport(serve)) as client:
        assert client.read_blob("a/b", DIGEST, limit=len(RAW)) == RAW
        client.download_blob("a/b", DIGEST, len(RAW), tmp_path / "x")
    assert seen[:4] == [("r.io", False), ("r.io", True), ("r.io", True), ("store.example.com", False)]


def test_a_store_that_wants_a_credential_gets_none() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.host == "r.io":
            return httpx.Response(307, headers={"Location": "https://evil.example.com/"})
        assert "authorization" not in request.headers
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://evil.example.com/t"'})

    with registry(serve) as client, pytest.raises(RegistryAuthError):
        client.read_blob("a/b", DIGEST, limit=10)


def test_a_store_that_cannot_be_asked_by_head() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.host == "r.io" and "own" not in request.url.path:
            return httpx.Response(307, headers={"Location": "https://store.example.com/"})
        return httpx.Response(403)

    with registry(serve) as client:
        assert not client.has_blob("a/b", DIGEST)
        with pytest.raises(RegistryAuthError, match="does not allow blob"):
            client.has_blob("own", DIGEST)


@pytest.mark.parametrize(("location", "why"), [("/again", "more than 5 times"), ("ftp://x/", "no address")])
def test_redirects_to_nowhere(location: str, why: str) -> None:
    with (
        registry(lambda request: httpx.Response(302, headers={"Location": location})) as client,
        pytest.raises(RegistryError, match=why),
    ):
        client.has_blob("a/b", DIGEST)


def test_a_manifest_by_way_of_another_registry() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        assert request.url.params["ns"] == "docker.io"
        assert "application/vnd.oci.image.index.v1+json" in request.headers["accept"]
        headers = [
            ("OCI-Namespace", "docker.io"),
            ("Warning", '299 - "a \\"host\\" base"'),
            ("Warning", '299 - "old\x1b[31m", 199 - "other"'),
            ("Content-Type", OCI_MANIFEST),
            ("Docker-Content-Digest", sha256(MANIFEST)),
        ]
        return httpx.Response(200, headers=headers, content=MANIFEST)

    with registry(serve) as client:
        fetched = client.manifest("library/python", "3.12", namespace="docker.io")
        assert client.resolve("library/python", "3.12", namespace="docker.io") == fetched.descriptor
    assert fetched.proxied_for == "docker.io"
    assert fetched.warnings == ('a "host" base', "old [31m")
    assert fetched.body["layers"][0]["digest"] == DIGEST
    assert "layers" not in repr(fetched)


def test_a_head_that_says_too_little_is_followed_by_a_get() -> None:
    methods: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        return httpx.Response(200, content=MANIFEST if request.method == "GET" else b"")

    with registry(serve) as client:
        assert client.resolve("a/b", "v1").digest == sha256(MANIFEST)
    assert methods == ["HEAD", "GET"]


def test_manifests_that_are_not_what_they_should_be() -> None:
    answers = {
        "lies": httpx.Response(200, headers={"Docker-Content-Digest": DIGEST}, content=MANIFEST),
        "odd": httpx.Response(200, headers={"Docker-Content-Digest": "md5:1"}, content=MANIFEST),
        "large": httpx.Response(200, content=b" " * (4 * 1024 * 1024 + 1)),
        "html": httpx.Response(200, text="<html>s3cret</html>"),
    }
    with registry(lambda request: answers[request.url.path.rpartition("/")[2]]) as client:
        with pytest.raises(RegistryError, match="is corrupt: its digest is another"):
            client.manifest("a/b", "lies")
        with pytest.raises(RegistryError, match="is corrupt: what should be its digest is none"):
            client.manifest("a/b", "odd")
        with pytest.raises(RegistryError, match="has more than 4194304 bytes"):
            client.manifest("a/b", "large")
        with pytest.raises(RegistryError, match="is not JSON") as html:
            client.manifest("a/b", "html")
    assert "s3cret" not in html.value.message
    with registry(lambda request: httpx.Response(200, content=MANIFEST)) as client:
        with pytest.raises(RegistryError, match="is corrupt"):
            client.manifest("a/b", DIGEST)
        with pytest.raises(RegistryError, match="is corrupt"):
            client.read_blob("a/b", DIGEST, limit=len(MANIFEST))
        with pytest.raises(RegistryError, match="has more than 10 bytes"):
            client.read_blob("a/b", DIGEST, limit=10)


@pytest.mark.parametrize(
    ("repository", "reference"),
    [("../x", "v1"), ("A", "v1"), ("a", "../v1"), ("a", "sha256:../x"), ("a", "")],
)
def test_names_that_would_change_the_path(repository: str, reference: str) -> None:
    with (
        registry(lambda request: httpx.Response(200)) as client,
        pytest.raises(ValueError, match=r"is not|is empty|must be"),
    ):
        client.manifest(repository, reference)


def test_passing_failures_are_tried_again(pauses: list[float]) -> None:
    answers = [httpx.Response(502), httpx.Response(500), httpx.Response(200, content=MANIFEST)]
    with registry(lambda request: answers.pop(0)) as client:
        client.manifest("a/b", "v1")
        assert pauses == [0.2, 1.0]
        answers[:] = [errors(500, "UNKNOWN")] * 4
        with pytest.raises(RegistryError, match=r"`r\.io` failed on manifest `v1` of `a/b` \(HTTP 500, UNKN"):
            client.manifest("a/b", "v1")


def test_broken_answers_are_tried_again(pauses: list[float]) -> None:
    broken = [httpx.ReadError("x"), httpx.RemoteProtocolError("x"), httpx.ReadTimeout("x")]

    def serve(request: httpx.Request) -> httpx.Response:
        if broken:
            raise broken.pop()
        return httpx.Response(200, content=MANIFEST)

    with registry(serve) as client:
        client.manifest("a/b", "v1")
        broken[:] = [httpx.ReadTimeout("x")] * 4
        with pytest.raises(RegistryError, match="stopped answering on manifest"):
            client.manifest("a/b", "v1")


def test_a_registry_that_limits_requests(pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    answers = [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(429, headers={"Retry-After": soon}),
        httpx.Response(429, headers={"Retry-After": "soon"}),
        httpx.Response(200, content=MANIFEST),
    ]
    with registry(lambda request: answers.pop(0)) as client:
        client.manifest("a/b", "v1")
        assert pauses[0] == 7
        assert 10 < pauses[1] <= 20
        assert pauses[2] == 3.0
        answers[:] = [httpx.Response(429, headers={"Retry-After": "3600"})]
        with pytest.raises(RegistryError, match="limits how often") as limited:
            client.manifest("a/b", "v1")
    assert limited.value.hint == "try again in 3600 s; `docker login r.io` may raise the limit"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            errors(404, "NAME_UNKNOWN"),
            ImageNotFoundError,
            "`r.io` has no manifest `v1` of `a/b` (HTTP 404, NAME_UNKNOWN)",
        ),
        (
            errors(403, "DENIED"),
            RegistryAuthError,
            "`r.io` does not allow manifest `v1` of `a/b` (HTTP 403, DENIED)",
        ),
        (errors(400, "s3cret"), RegistryError, "`r.io` answers manifest `v1` of `a/b` with HTTP 400"),
        (
            httpx.Response(418, text="s3cret"),
            RegistryError,
            "`r.io` answers manifest `v1` of `a/b` with HTTP 418",
        ),
    ],
)
def test_refusals(answer: httpx.Response, kind: type[RegistryError], message: str) -> None:
    with registry(lambda request: answer) as client, pytest.raises(kind) as refused:
        client.manifest("a/b", "v1")
    assert str(refused.value) == message
    assert refused.value.status == answer.status_code
