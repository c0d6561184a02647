"""The client against Docker's own registry."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest

from chalkcompute.errors import ImageNotFoundError, RegistryAuthError, RegistryError
from chalkcompute.registry import OCI_MANIFEST, Registry, digest_of, docker_credentials
from chalkcompute.registry import upload as uploads
from tests.unit.registry.fakes import file_of, manifest_of

RAW = random.Random(7).randbytes(2_500_000)
CHUNK = 1024 * 1024


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", CHUNK)


class _Cut(httpx.SyncByteStream):
    """A body whose connection breaks on the way."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            yield piece[: len(piece) // 2]
            raise httpx.WriteError("broken by the test")


class _Breaking(httpx.BaseTransport):
    """The network, and a connection that breaks at one request, before, while or after it arrives."""

    def __init__(self, method: str, number: int, when: Literal["before", "while", "after"]) -> None:
        self._inner = httpx.HTTPTransport()
        self._method = method
        self._number = number
        self._when = when
        self.seen: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.method)
        if request.method != self._method or self.seen.count(self._method) != self._number:
            return self._inner.handle_request(request)
        if self._when == "while":
            assert isinstance(request.stream, httpx.SyncByteStream)
            request.stream = _Cut(request.stream)
        if self._when != "before":
            self._inner.handle_request(request).close()
        raise httpx.ReadError("broken by the test", request=request)

    def close(self) -> None:
        self._inner.close()


def test_push_mount_and_pull_back(docker_registry: str, tmp_path: Path) -> None:
    layer, layer_digest = file_of(tmp_path, RAW)
    config, config_digest = file_of(tmp_path, b'{"architecture":"amd64","os":"linux"}')
    raw = manifest_of(config.read_bytes(), RAW)
    pushed: list[int] = []
    with Registry(docker_registry) as registry:
        assert not registry.has_blob("team/app", layer_digest)
        registry.push_blob("team/app", layer_digest, len(RAW), layer, on_bytes=pushed.append)
        registry.push_blob("team/app", config_digest, config.stat().st_size, config)
        digest = registry.push_manifest("team/app", "v1", OCI_MANIFEST, raw)
        assert registry.has_blob("team/app", layer_digest)
        assert registry.mount_blob("team/other", layer_digest, "team/app")
        assert registry.has_blob("team/other", layer_digest)
        assert not registry.mount_blob("team/other", digest_of(b"nowhere"), "team/app")

        fetched = registry.manifest("team/app", "v1")
        assert registry.resolve("team/app", "v1") == fetched.descriptor
        assert registry.manifest("team/app", digest) == fetched
        assert registry.read_blob("team/app", config_digest, limit=4096) == config.read_bytes()
        registry.download_blob("team/app", layer_digest, len(RAW), tmp_path / "pulled")
    assert sum(pushed) == len(RAW)
    assert digest == fetched.descriptor.digest == digest_of(raw)
    assert fetched.raw == raw
    assert not fetched.is_index
    assert (tmp_path / "pulled").read_bytes() == RAW
    assert not (tmp_path / "pulled.part").exists()


def test_the_empty_blob(docker_registry: str, tmp_path: Path) -> None:
    empty, digest = file_of(tmp_path, b"")
    with Registry(docker_registry) as registry:
        registry.push_blob("a/b", digest, 0, empty)
        registry.download_blob("a/b", digest, 0, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_a_push_goes_on_after_a_broken_connection(
    docker_registry: str, tmp_path: Path, pauses: list[float], when: Literal["before", "while", "after"]
) -> None:
    source, digest = file_of(tmp_path, RAW)
    pushed: list[int] = []
    network = _Breaking("PATCH", 2, when)
    with Registry(docker_registry, transport=network) as registry:
        registry.push_blob("a/b", digest, len(RAW), source, on_bytes=pushed.append)
        assert registry.has_blob("a/b", digest)
        registry.download_blob("a/b", digest, len(RAW), tmp_path / "back")
    assert sum(pushed) == len(RAW)
    assert (tmp_path / "back").read_bytes() == RAW
    if when == "before":
        assert network.seen.count("POST") == 1, "it went on in the same session"


def test_a_push_whose_last_answer_is_lost_is_done(
    docker_registry: str, tmp_path: Path, pauses: list[float]
) -> None:
    source, digest = file_of(tmp_path, RAW)
    network = _Breaking("PUT", 1, "after")
    with Registry(docker_registry, transport=network) as registry:
        registry.push_blob("a/b", digest, len(RAW), source)
        assert registry.has_blob("a/b", digest)
    assert network.seen.count("POST") == 1


def test_a_download_goes_on_from_its_part(docker_registry: str, tmp_path: Path) -> None:
    source, digest = file_of(tmp_path, RAW)
    (tmp_path / "back.part").write_bytes(RAW[:1_000_000])
    got: list[int] = []
    with Registry(docker_registry) as registry:
        registry.push_blob("a/b", digest, len(RAW), source)
        registry.download_blob("a/b", digest, len(RAW), tmp_path / "back", on_bytes=got.append)
    assert got[0] == 1_000_000
    assert sum(got) == len(RAW)
    assert (tmp_path / "back").read_bytes() == RAW


def test_what_is_not_there(docker_registry: str, tmp_path: Path) -> None:
    with Registry(docker_registry) as registry:
        with pytest.raises(
            ImageNotFoundError, match=r"has no manifest `v1` of `team/app` \(HTTP 404, "
        ) as none:
            registry.manifest("team/app", "v1")
        assert none.value.code == "MANIFEST_UNKNOWN"
        with pytest.raises(ImageNotFoundError):
            registry.resolve("team/app", "v1")
        with pytest.raises(ImageNotFoundError):
            registry.download_blob("team/app", digest_of(b"x"), 1, tmp_path / "x")
        with pytest.raises(RegistryError, match="names"):
            registry.push_manifest("team/app", "v1", OCI_MANIFEST, manifest_of(b"{}", b"layer"))
    assert list(tmp_path.glob("x*")) == []


def test_a_file_that_is_not_its_digest_is_not_pushed(docker_registry: str, tmp_path: Path) -> None:
    source, _ = file_of(tmp_path, b"changed")
    with Registry(docker_registry) as registry:
        with pytest.raises(RegistryError, match="changed or cut off"):
            registry.push_blob("a/b", digest_of(b"changes"), 7, source)
        with pytest.raises(RegistryError, match="changed or cut off"):
            registry.push_blob("a/b", digest_of(b"change"), 6, source)


def test_a_registry_with_passwords(closed_registry: str, tmp_path: Path) -> None:
    source, digest = file_of(tmp_path, RAW)
    config = tmp_path / "config.json"
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    with (
        Registry(closed_registry, credentials=docker_credentials(environ)) as registry,
        pytest.raises(RegistryAuthError, match="wants a credential for") as refused,
    ):
        registry.push_blob("a/b", digest, len(RAW), source)
    assert refused.value.hint is not None
    assert f"docker login {closed_registry}" in refused.value.hint

    config.write_text(json.dumps({"auths": {closed_registry: {"username": "me", "password": "pw"}}}))
    with Registry(closed_registry, credentials=docker_credentials(environ)) as registry:
        registry.push_blob("a/b", digest, len(RAW), source)
        assert registry.mount_blob("c/d", digest, "a/b")
        registry.download_blob("c/d", digest, len(RAW), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == RAW

    config.write_text(json.dumps({"auths": {closed_registry: {"username": "me", "password": "no"}}}))
    with (
        Registry(closed_registry, credentials=docker_credentials(environ)) as registry,
        pytest.raises(RegistryAuthError, match="does not accept the credential for"),
    ):
        registry.manifest("a/b", "v1")
