"""As much of `docker.DockerClient` as the runtime uses, without an engine."""

from __future__ import annotations

import io
import json
import queue
import tarfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

__all__ = ["FakeContainer", "FakeDocker"]


class FakeOutput:
    def __init__(self) -> None:
        self.chunks: queue.Queue[bytes | None] = queue.Queue()
        self._response = self  # as in the SDK's own
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks.get, None)

    def close(self) -> None:
        self.closed = True


class FakeContainer:
    """A program that prints what it is told to, and ends when it is told to or by a signal."""

    def __init__(self, docker: FakeDocker, options: dict[str, Any]) -> None:
        self._docker = docker
        self._over = threading.Event()
        self._code = 0
        self.options = options
        self.name = str(options["name"])
        self.attrs: dict[str, Any] = {"State": {"Pid": 0}}
        self.output = FakeOutput()
        self.attached_before_start = False
        self.signals: list[str] = []
        self.obeys = True
        self.breaks: list[OSError] = []
        self.stats_answer: dict[str, Any] = {}

    def attach(self, *, stream: bool) -> FakeOutput:
        assert stream
        if self.attrs["State"]["Pid"]:
            self.output = FakeOutput()
        else:
            self.attached_before_start = True
        return self.output

    def start(self) -> None:
        if self._docker.start_error is not None:
            raise self._docker.start_error
        self.attrs = {"State": {"Pid": 4711}}

    def reload(self) -> None:
        if self not in self._docker.present:
            raise NotFound("no such container")

    def wait(self, timeout: float) -> dict[str, int]:
        if self.breaks:
            raise self.breaks.pop(0)
        if not self._over.wait(timeout):
            raise TimeoutError("read timed out")
        return {"StatusCode": self._code}

    def kill(self, signal: str) -> None:
        self.signals.append(signal)
        if self.obeys or signal == "SIGKILL":
            self.end(137 if signal == "SIGKILL" else 143)

    def end(self, code: int, **state: Any) -> None:
        self._code = code
        self.attrs = {"State": {"Pid": 0, **state}}
        self.output.chunks.put(None)
        self._over.set()

    def stats(self, *, stream: bool, one_shot: bool) -> dict[str, Any]:
        assert not stream
        assert one_shot
        return self.stats_answer

    def remove(self, *, force: bool, v: bool) -> None:
        assert force
        assert v
        if self not in self._docker.present:
            raise NotFound("no such container")
        self._docker.present.remove(self)
        self.end(137) if not self._over.is_set() else None


class FakeDocker:
    """The client, and its `containers` and `images` at once."""

    def __init__(self) -> None:
        self.present: list[FakeContainer] = []
        self.archives: dict[str, dict[str, bytes]] = {}
        self.start_error: APIError | None = None
        self.load_error: Exception | None = None
        self.closed = False

    @property
    def containers(self) -> FakeDocker:
        return self

    @property
    def images(self) -> FakeDocker:
        return self

    def create(self, **options: Any) -> FakeContainer:
        self.present.append(FakeContainer(self, options))
        return self.present[-1]

    def list(self, *, filters: dict[str, str], **flags: bool) -> list[FakeContainer]:
        assert flags == {"all": True, "ignore_removed": True}
        name, _, value = filters["label"].partition("=")
        return [each for each in self.present if each.options["labels"].get(name) == value]

    def get(self, tag: str) -> None:
        if tag not in self.archives:
            raise ImageNotFound(f"no such image: {tag}")

    def load(self, chunks: Iterable[bytes]) -> None:
        if self.load_error is not None:
            raise self.load_error
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            members = {member.name: archive.extractfile(member) for member in archive}
            files = {name: file.read() for name, file in members.items() if file is not None}
        for tag in json.loads(files["manifest.json"])[0]["RepoTags"]:
            self.archives[tag] = files

    def close(self) -> None:
        self.closed = True
