"""Docker's own registry on loopback, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.unit.reserved_port import reserved_port

__all__ = ["docker_registry_in"]


@contextmanager
def docker_registry_in(folder: Path, settings: str = "") -> Iterator[str]:
    """Host and port of an empty `docker-registry` that keeps all in a folder.

    Args:
        folder: For its files; it exists.
        settings: Further lines of its configuration, as YAML.
    """
    binary = shutil.which("docker-registry")
    if binary is None:
        pytest.skip("`docker-registry` is not installed")
    config = folder / "registry.yml"
    command = [binary, "serve", str(config)]
    with reserved_port() as port:
        host = f"127.0.0.1:{port}"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{host}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{folder}/registry'}}, delete: {{enabled: true}}}}\n"
            f"{settings}"
        )
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for(f"http://{host}/v2/")
                yield host
            finally:
                process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False).status_code < 500:  # 401 where a password is asked for
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("the registry did not start")
