"""A registry of the local cluster on a real socket, and Docker's own as one to pass through."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from chalkcompute.local.images.catalog import Catalog, OwnHosts
from chalkcompute.local.images.hostbase import machine_architecture
from chalkcompute.local.images.http import RegistryServer
from chalkcompute.local.images.passthrough import Passthrough, Upstream
from chalkcompute.local.images.pulls import LocalImages
from chalkcompute.local.images.store import ContentStore
from chalkcompute.local.runtime.hostbase import HostBase
from chalkcompute.registry import OCI_INDEX, OCI_MANIFEST, Registry
from tests.unit.reserved_port import reserved_port

T = TypeVar("T")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


@dataclass
class Image:
    """A small image of one layer."""

    text: str = "hello"
    layer: bytes = field(init=False)
    config: bytes = field(init=False)
    manifest: bytes = field(init=False)

    def __post_init__(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("greeting")
            entry.size = len(self.text)
            archive.addfile(entry, io.BytesIO(self.text.encode()))
        self.layer = gzip.compress(buffer.getvalue(), mtime=0)
        self.config = encoded(
            {
                "architecture": machine_architecture(),
                "os": "linux",
                "config": {"Cmd": ["/greeting"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(buffer.getvalue())]},
            }
        )
        self.manifest = encoded(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self.descriptor("config.v1+json", self.config),
                "layers": [self.descriptor("layer.v1.tar+gzip", self.layer)],
            }
        )

    @staticmethod
    def descriptor(kind: str, data: bytes) -> dict[str, Any]:
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def push(self, url: str, repository: str, tag: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            for blob in (self.layer, self.config):
                begun = client.post(f"/v2/{repository}/blobs/uploads/")
                where = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest(blob)})
                assert client.put(where, content=blob).status_code == 201
            put_manifest(client, repository, tag, self.manifest)


def put_manifest(
    client: httpx.Client, repository: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
) -> None:
    answer = client.put(
        f"/v2/{repository}/manifests/{reference}", content=raw, headers={"Content-Type": media_type}
    )
    assert answer.status_code == 201, answer.text


def index_of(*manifests: tuple[bytes, str]) -> bytes:
    entries = []
    for raw, architecture in manifests:
        entry = Image.descriptor("manifest.v1+json", raw)
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    return encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


@dataclass
class Counting:
    """A client of another registry that counts what it is asked."""

    registry: Registry
    asked: list[str] = field(default_factory=list)

    def resolve(self, repository: str, reference: str) -> Any:
        self.asked.append(f"resolve {reference}")
        return self.registry.resolve(repository, reference)

    def manifest(self, repository: str, reference: str) -> Any:
        self.asked.append(f"manifest {reference}")
        return self.registry.manifest(repository, reference)

    def download_blob(self, repository: str, digest: str, size: int, into: Path, **named: Any) -> None:
        self.asked.append(f"blob {digest}")
        self.registry.download_blob(repository, digest, size, into, **named)

    def close(self) -> None:
        self.registry.close()


class Cluster:
    """The images of a local cluster, in a loop of their own thread."""

    def __init__(self, folder: Path, connect: Callable[[str], Upstream] | None = None) -> None:
        self.folder = folder
        self.now = 1000.0
        self.upstreams: dict[str, Counting] = {}
        self._connect = connect or self._count
        self._reserved = ExitStack()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self._start())

    def _count(self, host: str) -> Upstream:
        return self.upstreams.setdefault(host, Counting(Registry(host)))

    async def _start(self) -> None:
        self.port = self._reserved.enter_context(reserved_port())
        self.store = ContentStore(self.folder)
        self.passthrough = Passthrough(self.store, self._connect, clock=lambda: self.now)
        host_base = HostBase(search_path="", home=self.folder)
        self.own = OwnHosts(self.folder / "ports.json", self.port)
        catalog = Catalog(self.store, self.passthrough, self.own, host_base)
        self.images = LocalImages(catalog, host_base)
        self.server = RegistryServer(catalog)
        await self.server.start(port=self.port)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._reserved.close()

    async def _stop(self) -> None:
        await self.server.stop()
        await self.passthrough.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "images")
    yield made
    made.close()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.url, trust_env=False, timeout=30) as made:
        yield made


@dataclass
class DockerRegistry:
    """Docker's registry, which can be stopped and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> None:
        config = self.folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{self.host}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{self.folder / 'data'}'}}}}\n"
        )
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/v2/", trust_env=False)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[DockerRegistry]:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs `docker-registry`")
    folder = tmp_path / "upstream"
    folder.mkdir()
    with reserved_port() as port:
        registry = DockerRegistry(folder, port)
        registry.start()
        yield registry
        registry.stop()
