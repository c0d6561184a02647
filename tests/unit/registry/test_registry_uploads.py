"""Pushes to registries that break, forget, or do not take chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chalkcompute.errors import ImageNotFoundError, RegistryAuthError, RegistryError
from chalkcompute.registry import OCI_MANIFEST, Registry
from chalkcompute.registry import upload as uploads
from tests.unit.registry.fakes import errors, file_of, manifest_of, sha256

RAW = bytes(range(256)) * 40
CHUNK = 4096
Fault = Callable[[httpx.Request, "FakeRegistry"], httpx.Response | None]


class FakeRegistry:
    """Uploads by the specification; `fault` may answer, or raise, before it does.

    Attributes:
        seen: Method and `Content-Range` of each request.
    """

    def __init__(self, fault: Fault = lambda request, registry: None) -> None:
        self.fault = fault
        self.seen: list[str] = []
        self.sessions: dict[str, bytearray] = {}
        self.blobs: dict[str, bytes] = {}
        self.count = 0

    def number(self, method: str) -> int:
        """How many requests of a method there were."""
        return sum(seen.split()[0] == method for seen in self.seen)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(f"{request.method} {request.headers.get('content-range', '')}".strip())
        body = request.read()
        return self.fault(request, self) or self._serve(request, body)

    def _serve(self, request: httpx.Request, body: bytes) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if request.method == "HEAD":
            return httpx.Response(200 if name in self.blobs else 404)
        if request.method == "POST":
            self.count += 1
            self.sessions[str(self.count)] = bytearray()
            return httpx.Response(202, headers={"Location": f"/up/{self.count}?state=a%2Fb"})
        session = self.sessions.get(name)
        if session is None:
            return errors(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "PATCH":
            if request.headers["content-range"].partition("-")[0] != str(len(session)):
                return errors(416, "RANGE_INVALID")
            session += body
        if request.method == "PUT":
            digest = request.url.params["digest"]
            assert request.url.params["state"] == "a/b"
            whole = bytes(session) + body
            if sha256(whole) != digest:
                return errors(400, "DIGEST_INVALID")
            self.blobs[digest] = whole
            return httpx.Response(201, headers={"Docker-Content-Digest": digest})
        end = max(len(session) - 1, 0)
        status = 204 if request.method == "GET" else 202
        return httpx.Response(status, headers={"Location": str(request.url), "Range": f"0-{end}"})


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", CHUNK)
    monkeypatch.setattr(uploads, "_PIECE", 1000)


def push(fake: FakeRegistry, folder: Path, raw: bytes = RAW) -> list[int]:
    source, digest = file_of(folder, raw)
    told: list[int] = []
    with Registry("r.io", transport=httpx.MockTransport(fake)) as registry:
        registry.push_blob("a/b", digest, len(raw), source, on_bytes=told.append)
    assert fake.blobs[digest] == raw
    assert sum(told) == len(raw)
    return told


def breaking(method: str, *numbers: int, keep: int = 0) -> Fault:
    """The connection breaks at these requests of a method; the registry has `keep` bytes of the body."""

    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        if request.method == method and fake.number(method) in numbers:
            if method == "PATCH":
                fake.sessions[str(fake.count)] += request.content[:keep]
            raise httpx.ReadError("broken", request=request)
        return None

    return fault


def answering(method: str, status: int, code: str, *numbers: int) -> Fault:
    """These requests of a method, or all, get an error."""

    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        hit = request.method == method and (not numbers or fake.number(method) in numbers)
        return errors(status, code) if hit else None

    return fault


def test_small_ones_go_whole_and_large_ones_in_chunks(tmp_path: Path) -> None:
    fake = FakeRegistry()
    push(fake, tmp_path, b"small")
    assert fake.seen == ["HEAD", "POST", "PUT"]
    fake.seen.clear()
    push(fake, tmp_path)
    assert fake.seen == ["HEAD", "POST", "PATCH 0-4095", "PATCH 4096-8191", "PATCH 8192-10239", "PUT"]
    fake.seen.clear()
    push(fake, tmp_path)
    assert fake.seen == ["HEAD"]


def test_a_registry_that_wants_larger_chunks(tmp_path: Path) -> None:
    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        if request.method != "POST":
            return None
        fake.count, fake.sessions["1"] = 1, bytearray()
        return httpx.Response(202, headers={"Location": "/up/1?state=a%2Fb", "OCI-Chunk-Min-Length": "8000"})

    fake = FakeRegistry(fault)
    push(fake, tmp_path)
    assert fake.seen[2:] == ["PATCH 0-7999", "PATCH 8000-10239", "PUT"]


def test_it_goes_on_where_the_registry_got_to(tmp_path: Path, pauses: list[float]) -> None:
    fake = FakeRegistry(breaking("PATCH", 2, keep=100))
    push(fake, tmp_path)
    assert fake.seen == [
        "HEAD", "POST", "PATCH 0-4095", "PATCH 4096-8191", "GET", "PATCH 4196-8291", "PATCH 8292-10239", "PUT"
    ]  # fmt: skip


@pytest.mark.parametrize("keep", [0, 1])
def test_it_goes_on_from_the_start(tmp_path: Path, pauses: list[float], keep: int) -> None:
    """`0-0` is nothing, or one byte: who guesses wrong begins anew."""
    fake = FakeRegistry(breaking("PATCH", 1, keep=keep))
    push(fake, tmp_path)
    assert fake.number("POST") == 1 + keep


@pytest.mark.parametrize(
    "fault",
    [
        answering("PATCH", 502, "UNKNOWN", 2),
        answering("PATCH", 416, "RANGE_INVALID", 1, 2),
        breaking("PATCH", 1, 2, 3),
        breaking("PUT", 1),
        answering("PUT", 503, "UNKNOWN", 1, 2),
        breaking("POST", 1),
        answering("PATCH", 429, "TOOMANYREQUESTS", 1),
        answering("GET", 404, "BLOB_UPLOAD_UNKNOWN"),
    ],
)
def test_passing_faults(tmp_path: Path, pauses: list[float], fault: Fault) -> None:
    push(FakeRegistry(fault), tmp_path)


def test_a_session_that_is_gone_is_begun_anew(tmp_path: Path, pauses: list[float]) -> None:
    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        if request.method == "PATCH" and fake.number("PATCH") == 2:
            fake.sessions.clear()
        return None

    fake = FakeRegistry(fault)
    told = push(fake, tmp_path)
    assert fake.number("POST") == 2
    assert min(told) < 0, "what was sent for nothing is taken back"


@pytest.mark.parametrize("status", [400, 405, 411, 501])
def test_a_registry_without_chunks_gets_it_whole(tmp_path: Path, pauses: list[float], status: int) -> None:
    fake = FakeRegistry(answering("PATCH", status, "UNSUPPORTED"))
    push(fake, tmp_path)
    assert fake.number("PATCH") == 1
    assert fake.number("PUT") == 1


def test_a_registry_that_loses_count_gets_it_whole(tmp_path: Path, pauses: list[float]) -> None:
    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        return httpx.Response(202, headers={"Range": "0-0"}) if request.method == "PATCH" else None

    fake = FakeRegistry(fault)
    push(fake, tmp_path)
    assert fake.number("PATCH") == 1


def test_an_answer_that_was_lost(tmp_path: Path, pauses: list[float]) -> None:
    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        if request.method == "PUT":
            fake.blobs[sha256(RAW)] = RAW
            raise httpx.RemoteProtocolError("closed", request=request)
        return None

    fake = FakeRegistry(fault)
    push(fake, tmp_path)
    assert fake.number("PUT") == 1


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        (breaking("PATCH", *range(99)), RegistryError, "`r.io` broke the connection on the push of blob"),
        (answering("PATCH", 404, "BLOB_UPLOAD_UNKNOWN"), ImageNotFoundError, "BLOB_UPLOAD_UNKNOWN"),
        (answering("PUT", 400, "DIGEST_INVALID"), RegistryError, "HTTP 400, DIGEST_INVALID"),
        (answering("PATCH", 413, ""), RegistryError, "is too large"),
        (answering("POST", 403, "DENIED"), RegistryAuthError, "does not allow the push of blob"),
        (answering("POST", 404, "NAME_UNKNOWN"), ImageNotFoundError, "answers the push of blob"),
        (answering("PUT", 413, ""), RegistryError, "is too large"),
        (answering("POST", 202, ""), RegistryError, "does not say where"),
        (answering("PATCH", 507, ""), RegistryError, "HTTP 507"),
    ],
)
def test_what_does_not_pass_ends(
    tmp_path: Path, pauses: list[float], fault: Fault, kind: type[RegistryError], why: str
) -> None:
    fake = FakeRegistry(fault)
    with pytest.raises(kind, match=why) as failed:
        push(fake, tmp_path)
    assert type(failed.value) is kind
    assert len(fake.seen) < 40
    assert "s3cret" not in f"{failed.value} {failed.value.hint}"


def test_a_registry_that_starts_anew_is_waited_for(tmp_path: Path, pauses: list[float]) -> None:
    def fault(request: httpx.Request, fake: FakeRegistry) -> httpx.Response | None:
        if request.method == "PATCH" and fake.number("PATCH") == 2:
            raise httpx.WriteError("broken", request=request)
        if request.method == "GET" and fake.number("GET") < 3:
            raise httpx.ConnectError("refused", request=request)
        return None

    fake = FakeRegistry(fault)
    push(fake, tmp_path)
    assert fake.number("POST") == 1
    assert pauses == [0.2, 1.0, 3.0]


def test_a_mount() -> None:
    asked: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.method == "DELETE":
            return httpx.Response(204)
        status = {"have": 201, "lack": 202}.get(request.url.params["from"], 403)
        return httpx.Response(status, headers={"Location": "/v2/a/b/blobs/uploads/1"})

    digest = sha256(RAW)
    with Registry("r.io", transport=httpx.MockTransport(serve)) as registry:
        assert registry.mount_blob("a/b", digest, "have")
        assert not registry.mount_blob("a/b", digest, "lack")
        assert not registry.mount_blob("a/b", digest, "never")
    assert [request.method for request in asked] == ["POST", "POST", "DELETE", "POST"]
    assert asked[0].url.params["mount"] == digest


def test_a_manifest_is_pushed_and_checked(pauses: list[float]) -> None:
    raw = manifest_of(b"{}")
    answers = [errors(503, ""), httpx.Response(201, headers={"Docker-Content-Digest": sha256(raw)})]

    def serve(request: httpx.Request) -> httpx.Response:
        assert request.read() == raw
        assert request.headers["content-type"] == OCI_MANIFEST
        return answers.pop(0)

    with Registry("r.io", transport=httpx.MockTransport(serve)) as registry:
        assert registry.push_manifest("a/b", "v1", OCI_MANIFEST, raw) == sha256(raw)
        other = "sha512:" + hashlib.sha512(raw).hexdigest()
        answers.append(httpx.Response(201, headers={"Docker-Content-Digest": other}))
        assert registry.push_manifest("a/b", other, OCI_MANIFEST, raw) == other
        answers.append(httpx.Response(201, headers={"Docker-Content-Digest": sha256(b"x")}))
        with pytest.raises(RegistryError, match="is corrupt: its digest is another"):
            registry.push_manifest("a/b", "v1", OCI_MANIFEST, raw)
        with pytest.raises(RegistryError, match="is corrupt"):
            registry.push_manifest("a/b", sha256(b"x"), OCI_MANIFEST, raw)
        with pytest.raises(RegistryError, match="more than 4194304 bytes"):
            registry.push_manifest("a/b", "v1", OCI_MANIFEST, b" " * (4 * 1024 * 1024 + 1))
