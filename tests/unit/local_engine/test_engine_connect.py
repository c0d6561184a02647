"""Which engine is used, and what is said when there is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.engine import connect

VERSION = {"ApiVersion": "1.41", "Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"NCPU": 3} if self.path.endswith("/info") else VERSION).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"tcp://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_docker_host_wins_and_podman_is_told_from_docker(engine: str) -> None:
    found = connect({"DOCKER_HOST": engine})
    assert (found.name, found.cpus) == ("podman 4.3.1", 3.0)
    found.client.close()


def test_without_an_engine_it_says_which_sockets_were_tried(tmp_path: Path) -> None:
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman/podman.sock").touch()
    with pytest.raises(LocalClusterError) as raised:
        connect(
            {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
            system_sockets=[str(tmp_path / "system.sock")],
        )
    message = raised.value.message
    assert f"`{tmp_path}/system.sock` (not there)" in message
    assert f"`{tmp_path}/podman/podman.sock` (no socket)" in message
    assert "install docker, or podman" in (raised.value.hint or "")


def test_a_docker_host_that_does_not_answer_is_named() -> None:
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        host = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(LocalClusterError, match=f"tried `{host}` of DOCKER_HOST .*refused"):
            connect({"DOCKER_HOST": host})
