"""Which Python a base has, when what its configuration says is not all."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from chalkcompute.build.base import BaseImage
from chalkcompute.build.pythons import ImagePython, find_python
from chalkcompute.errors import ImageBuildError
from chalkcompute.registry import OCI_MANIFEST, Descriptor
from tests.unit.build.conftest import tar_gz

_OFFICIAL = ImagePython("3.12", "/usr/local/lib/python3.12/site-packages", "/usr/local")
_LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "sha256:0", 1)


def _found(
    folder: Path, path: str, files: Sequence[str] = (), *, name: str = "team/api", history: Sequence[str] = ()
) -> ImagePython:
    layer = folder / "layer"
    layer.write_bytes(tar_gz(dict.fromkeys(files, b"")))
    return _of(layer, path, name, history)


def _of(layer: Path, path: str, name: str = "team/api", history: Sequence[str] = ()) -> ImagePython:
    @contextmanager
    def fetch(_: Descriptor) -> Iterator[Path]:
        yield layer

    config = {
        "config": {"Env": [f"PATH={path}", "PYTHON_VERSION=3.12.4"]},
        "history": [{"created_by": text} for text in history],
    }
    base = BaseImage("linux/amd64", "sha256:0", OCI_MANIFEST, b"", "", config, (_LAYER,))
    return find_python(base, name, fetch)


def test_a_virtual_environment_that_comes_first(tmp_path: Path) -> None:
    path = "/opt/venv/bin:/usr/local/bin:/bin"
    both = ["opt/venv/bin/python3.12", "usr/local/bin/python3.12"]
    venv = ImagePython("3.12", "/opt/venv/lib/python3.12/site-packages", "/opt/venv")
    assert _found(tmp_path, path, both) == venv
    # A folder of commands alone, or a PATH without any Python: what the variable says is right.
    assert _found(tmp_path, path, both[1:]) == _OFFICIAL
    assert _found(tmp_path, path) == _OFFICIAL


@pytest.mark.parametrize(
    ("name", "history", "is_musl"),
    [
        ("team/api", ["ADD alpine-minirootfs-3.21.3-x86_64.tar.gz / # buildkit"], True),
        ("team/api", ["ADD file:1 in /", "RUN set -eux; apk add --no-cache ca-certificates"], True),
        ("alpine-club/python", ["# debian.sh --arch 'amd64' out/ 'trixie'", "RUN apk add"], False),
        ("team/api", ["apko", "RUN apk add curl"], False),
        ("python:3.12-alpine", [], True),
        ("python:3.12", [], False),
    ],
)
def test_which_libc(tmp_path: Path, name: str, history: list[str], is_musl: bool) -> None:
    assert _found(tmp_path, "/usr/local/bin:/bin", name=name, history=history).is_musl is is_musl


def test_a_layer_that_cannot_be_unpacked(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(gzip.compress(b"x" * 100)[:10] + b"\xff" * 100)
    with pytest.raises(ImageBuildError, match=r"layer `sha256:0` cannot be read"):
        _of(layer, "/opt/bin")
