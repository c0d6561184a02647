"""A real registry on loopback, where Docker's is installed, and no waiting between tries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.docker_registry import docker_registry_in
from tests.unit.registry.fakes import PAUSING


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
    with docker_registry_in(tmp_path) as host:
        yield host


@pytest.fixture
def closed_registry(tmp_path: Path) -> Iterator[str]:
    """Host and port of an empty `docker-registry` that lets only `me` in, with the password `pw`."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(_HTPASSWD)
    with docker_registry_in(tmp_path, f"auth: {{htpasswd: {{realm: test, path: '{passwords}'}}}}\n") as host:
        yield host
