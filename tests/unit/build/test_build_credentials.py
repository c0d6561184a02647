"""A password in the URL of a package: used, and shown nowhere."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.build.plan import make_plan
from chalkcompute.errors import ImageBuildError, SpecError
from chalkcompute.image import Image
from tests.unit.build.conftest import Build, pull, push_base

CANARY = "canary-4711"


@pytest.fixture
def index(wheels: Path) -> Iterator[str]:
    """Host of a server that has the wheel for whoever knows the password."""
    (wheel,) = wheels.glob("*.whl")
    wanted = "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == wanted
            body = wheel.read_bytes() if known else b""
            self.send_response(200 if known else 401)
            self.send_header("WWW-Authenticate", "Basic realm=wheels")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_password_is_used_and_shown_nowhere(
    build: Build, registry_host: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Any] = []
    run = subprocess.run

    def spied(command: Any, **options: Any) -> Any:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", spied)
    base = push_base(registry_host, "credentials/base")
    said: list[str] = []
    packages = [f"tiny @ http://me:{CANARY}@{index}/tiny-1.0-py3-none-any.whl"]
    built = build(Image.base(base).pip_install(packages), "credentials/app", on_progress=said.append)
    image = pull(registry_host, "credentials/app", built.digest)
    files = [image.read(1, name) for name, member in image.members(1).items() if member.isreg()]
    assert "tiny @ " in "".join(said)
    assert any(index in text for text in files)  # `direct_url.json` says where it came from
    assert CANARY not in json.dumps([said, files, image.config, image.manifest, commands])
    with pytest.raises(ImageBuildError) as caught:
        build(Image.base(base).pip_install([packages[0].replace("tiny-1", "none-1")]), "credentials/app")
    assert CANARY not in f"{caught.value} {caught.value.hint}"


def test_a_requirements_file_that_cannot_be_shows_no_password(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"-e git+https://me:{CANARY}@git.example/x#egg=x\n")
    image = Image.base("python:3.12").pip_install_from_requirements(path)
    with pytest.raises(SpecError, match=r"line 1 names .* `-e git\+https://git.example/x#egg=x`"):
        make_plan(image, [], ["linux/amd64"])
