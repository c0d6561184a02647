"""A real registry on loopback with a tiny base in it, and a wheel made here: no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chalkcompute.build import BuiltImage, build_image
from chalkcompute.image import Image
from chalkcompute.registry import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    FetchedManifest,
    Registry,
    digest_of,
)
from chalkcompute.sources import collect
from tests.unit.docker_registry import docker_registry_in

Build = Callable[..., BuiltImage]


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a `docker-registry`; each test has repositories of its own."""
    with docker_registry_in(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def other_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second registry, for bases that are elsewhere."""
    with docker_registry_in(tmp_path_factory.mktemp("other")) as host:
        yield host


def fake_buildah(folder: Path, script: str) -> str:
    """A `buildah` that is a shell script; the `PATH` that has it first."""
    folder.mkdir()
    program = folder / "buildah"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def tar_gz(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def push_base(
    host: str,
    repository: str,
    *,
    tag: str = "1",
    platforms: tuple[str, ...] = ("amd64",),
    env: tuple[str, ...] = ("PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.12.4"),
    files: dict[str, bytes] | None = None,
    media_type: str = OCI_MANIFEST,
    **config_of_base: str,
) -> str:
    """A tiny base; its reference."""
    with Registry(host) as registry:
        manifests = []
        for architecture in platforms:
            layer = tar_gz({"etc/base": architecture.encode(), **(files or {})})
            config = json.dumps(
                {
                    "os": "linux",
                    "architecture": architecture,
                    "created": "2026-01-02T03:04:05Z",
                    "config": {"Env": list(env), "Cmd": ["python3"], **config_of_base},
                    "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer))]},
                    "history": [{"created_by": "base"}],
                }
            ).encode()
            docker = media_type == DOCKER_MANIFEST
            kinds = (
                ("application/vnd.docker.container.image.v1+json",
                 "application/vnd.docker.image.rootfs.diff.tar.gzip")
                if docker
                else ("application/vnd.oci.image.config.v1+json",
                      "application/vnd.oci.image.layer.v1.tar+gzip")
            )  # fmt: skip
            described = []
            for kind, blob in zip(kinds, (config, layer), strict=True):
                put_blob(host, repository, blob)
                described.append({"mediaType": kind, "digest": digest_of(blob), "size": len(blob)})
            raw = json.dumps(
                {"schemaVersion": 2, "mediaType": media_type, "config": described[0],
                 "layers": described[1:]}
            ).encode()  # fmt: skip
            digest = registry.push_manifest(repository, digest_of(raw), media_type, raw)
            manifests.append(
                {"mediaType": media_type, "digest": digest, "size": len(raw),
                 "platform": {"os": "linux", "architecture": architecture}}
            )  # fmt: skip
        if len(platforms) > 1:
            raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
            media_type = OCI_INDEX
        registry.push_manifest(repository, tag, media_type, raw)
    return f"{host}/{repository}:{tag}"


def put_blob(host: str, repository: str, blob: bytes) -> None:
    start = httpx.post(f"http://{host}/v2/{repository}/blobs/uploads/", trust_env=False)
    done = httpx.put(
        start.headers["location"], params=[*httpx.URL(start.headers["location"]).params.multi_items(),
                                           ("digest", digest_of(blob))],
        content=blob, trust_env=False,
    )  # fmt: skip
    assert done.status_code == 201, done.text


def make_wheel(folder: Path, name: str = "tiny", *, version: str = "1.0", tag: str = "py3-none-any") -> Path:
    """A wheel with a module, a command and a data file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"def main():\n    print('tiny')\n",
        f"{name}-{version}.data/data/share/{name}/note.txt": b"note",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n".encode(),
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b'=').decode()},{len(raw)}"
        for path, raw in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, raw in files.items():
            archive.writestr(member, raw)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "wheels")
    return tmp_path / "wheels"


@pytest.fixture
def environ(tmp_path: Path, wheels: Path) -> dict[str, str]:
    """No index but the wheels made here, no engine, nothing of whoever runs the tests."""
    return {
        "PATH": str(tmp_path / "no-programs"),
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_NO_CONFIG": "1",
    }


@pytest.fixture
def build(tmp_path: Path, registry_host: str, environ: dict[str, str]) -> Build:
    """`build_image` with what every test has."""

    def built(image: Image, repository: str, *, host: str = registry_host, **changes: Any) -> BuiltImage:
        arguments: dict[str, Any] = {
            "copied": [collect(item) for item in image.files if item.strategy == "copy"],
            "repository": f"{host}/{repository}",
            "platforms": ["linux/amd64"],
            "environ": environ,
            "cache": tmp_path / "cache",
        }
        return build_image(image, **(arguments | changes))

    return built


class Pulled:
    """An image as the registry has it."""

    def __init__(self, host: str, repository: str, manifest: FetchedManifest) -> None:
        self.manifest = manifest.body
        self.media_type = manifest.descriptor.media_type
        with Registry(host) as registry:

            def blob(digest: str) -> bytes:
                return registry.read_blob(repository, digest, limit=1 << 24)

            self.config = json.loads(blob(self.manifest["config"]["digest"]))
            self.layers = [blob(layer["digest"]) for layer in self.manifest["layers"]]

    def members(self, number: int) -> dict[str, tarfile.TarInfo]:
        """Of a layer, by name."""
        with tarfile.open(fileobj=io.BytesIO(self.layers[number])) as tar:
            return {member.name: member for member in tar}

    def read(self, number: int, name: str) -> str:
        """A file of a layer."""
        return self.bytes(number, name).decode()

    def bytes(self, number: int, name: str) -> bytes:
        """The same, as it is."""
        with tarfile.open(fileobj=io.BytesIO(self.layers[number])) as tar:
            stream = tar.extractfile(name)
            assert stream is not None
            return stream.read()


def pull(host: str, repository: str, reference: str) -> Pulled:
    with Registry(host) as registry:
        return Pulled(host, repository, registry.manifest(repository, reference))
