"""A real registry on loopback, where Docker's is installed, and no waiting between tries."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.unit.registry.fakes import PAUSING
from tests.unit.reserved_port import reserved_port


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited, seconds each."""
    waited: list[float] = []
    for module in PAUSING:
        monkeypatch.setattr(f"{module}.pause", waited.append)
    return waited


# `me` with the password `pw`, by bcrypt.
_HTPASSWD = "me:$2b$04$75cvbJuZagXLuvhfxpYpeO79NHtDyTWgvrAI8XMM1PS6GoutNnP0q\n"


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[str]:
    """Host and port of an empty `docker-registry`."""
    with _serving(tmp_path, "") as host:
        yield host


@pytest.fixture
def closed_registry(tmp_path: Path) -> Iterator[str]:
    """Host and port of an empty `docker-registry` that lets only `me` in, with the password `pw`."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(_HTPASSWD)
    with _serving(tmp_path, f"auth: {{htpasswd: {{realm: test, path: '{passwords}'}}}}\n") as host:
        yield host


@contextmanager
def _serving(tmp_path: Path, settings: str) -> Iterator[str]:
    binary = shutil.which("docker-registry")
    if binary is None:
        pytest.skip("`docker-registry` is not installed")
    config = tmp_path / "registry.yml"
    command = [binary, "serve", str(config)]
    with reserved_port() as port:
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{tmp_path}/registry'}}, delete: {{enabled: true}}}}\n"
            f"{settings}"
        )
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _until(lambda: httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code < 500)
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("the registry did not start")
