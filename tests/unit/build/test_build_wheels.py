"""Where the files of wheels go in the image."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from chalkcompute.build.pythons import ImagePython
from chalkcompute.build.wheels import install_packages, installed_entries
from chalkcompute.errors import ImageBuildError
from tests.unit.https_server import self_signed, serving

PYTHON = ImagePython("3.12", "/usr/local/lib/python3.12/site-packages", "/usr/local")


def _paths(folder: Path, *names: str) -> set[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return {entry.path for entry in installed_entries(folder, PYTHON)}


def test_libraries_of_c_go_where_the_loader_is_told_to_look(tmp_path: Path) -> None:
    # As `uv --target` leaves `mkl.data/data/lib`; its wheels find it by `sys.prefix` and by `$ORIGIN/../..`.
    assert _paths(tmp_path, "lib/libmkl.so.2", "mkl.py") == {
        "/usr/local/lib/libmkl.so.2",
        f"{PYTHON.site}/mkl.py",
    }


def test_a_package_called_lib_is_a_package(tmp_path: Path) -> None:
    assert _paths(tmp_path, "lib/part/a.py", "share/a", "share/b.py") == {
        f"{PYTHON.site}/lib/part/a.py",
        "/usr/local/share/a",
        "/usr/local/share/b.py",
    }


def _failed(into: Path, environ: dict[str, str]) -> ImageBuildError:
    quick = {"UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1", "HOME": str(into), "NO_PROXY": "localhost,127.0.0.1"}
    with pytest.raises(ImageBuildError) as caught:
        install_packages(["flask"], [], PYTHON, "linux/amd64", into=into, environ=quick | environ)
    return caught.value


def test_an_index_that_nobody_here_vouches_for(tmp_path: Path) -> None:
    pem, context = self_signed(tmp_path)
    into = tmp_path / "site"
    into.mkdir()
    with serving(b"<a href='other-1-py3-none-any.whl'>other</a>", context) as port:
        index = {"PIP_INDEX_URL": f"https://localhost:{port}/simple"}
        distrusted = _failed(into, index)
        trusted = _failed(into, index | {"PIP_CERT": str(pem)})
    assert "`SSL_CERT_FILE`" in str(distrusted.hint)
    assert "certificate" in distrusted.message
    assert "certificate" not in trusted.message


def test_an_index_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        failed = _failed(tmp_path, {"PIP_INDEX_URL": f"http://127.0.0.1:{taken.getsockname()[1]}/simple"})
    assert "`HTTPS_PROXY`" in str(failed.hint)
