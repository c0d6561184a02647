"""The runtime over podman's service, where podman works: real containers, ports, limits and logs."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.engine import Engine, EngineRuntime, connect
from chalkcompute.local.ports import Mount
from tests.unit.local_engine.conftest import IMAGE, RunScenario, a_spec, log_of
from tests.unit.local_runtime.conftest import fetch
from tests.unit.local_runtime.images import FakeImages, Member, archive, host_programs

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="podman is a program of Linux"),
    # The first test makes the image and has podman load it, for all of them.
    pytest.mark.timeout(600),
]

START_SECONDS = 60
# Its defaults ask for limits that not every machine allows, and crun does not work on all of them.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
"""
PYTHON = Path(sys.executable).resolve()
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
SERVER = """
import _socket
server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
server.bind(("0.0.0.0", 8080))
server.listen(8)
print("listening", flush=True)
while True:
    descriptor, _ = server._accept()
    client = _socket.socket(fileno=descriptor)
    client.recv(4096)
    client.send(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello from " + _socket.gethostname().encode())
    client.close()
"""


def a_python() -> bytes:
    """A layer with a shell and just enough of this Python."""
    library = Path(os.__file__).parent
    wanted = [*library.glob("encodings/*.py"), *library.glob("lib-dynload/_socket.*.so")]
    files: list[Member] = [(str(path).lstrip("/"), path.read_bytes()) for path in wanted]
    return archive(*host_programs("sh", "cat", str(PYTHON)), *files, ("tmp", None))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Podman's service with a storage of its own, whose path may have 50 characters at most."""
    podman = shutil.which("podman")
    if podman is None:
        pytest.skip("podman is not installed")
    folder = Path(tempfile.mkdtemp(prefix="chalk-"))
    configuration = folder / "containers.conf"
    runtime = f'runtime = "{runc}"\n' if (runc := shutil.which("runc")) else ""
    configuration.write_text(CONFIGURATION + runtime)
    environ = {**os.environ, "CONTAINERS_CONF": str(configuration)}
    command = [podman, "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    host = f"unix://{folder}/podman.sock"
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(
            [*command, "system", "service", "--time=0", host],
            env=environ,
            stdout=log,
            stderr=log,
            cwd=folder,  # conmon leaves a file there when memory runs out
        )
        try:
            yield answering(service, host, folder / "log")
        finally:
            service.terminate()
            service.wait()
            subprocess.run(
                [*command, "rmi", "--all", "--force"], env=environ, capture_output=True, check=False
            )
            subprocess.run(["umount", str(folder / "root/overlay")], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)


def answering(service: subprocess.Popen[bytes], host: str, log: Path) -> Engine:
    deadline = time.monotonic() + START_SECONDS
    while not Path(host.removeprefix("unix://")).is_socket():
        if service.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"podman's service does not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    try:
        return connect({"DOCKER_HOST": host})
    except LocalClusterError as error:
        pytest.skip(f"podman's service does not answer: {error.message}")


@pytest.fixture(scope="module")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> FakeImages:
    """An image that podman has run once; else the machine does not let podman run any."""
    folder = tmp_path_factory.mktemp("images")
    images = FakeImages(folder / "blobs")
    layer = a_python()
    diff_id = asyncio.run(one_layer(folder, layer))
    images.add(
        IMAGE,
        layer,
        config={"Env": ["PATH=/bin", f"PYTHONHOME={sys.base_prefix}"], "Cmd": ["sh", "-c", "exit 0"]},
        rootfs={"type": "layers", "diff_ids": [diff_id]},
        architecture=MACHINES.get(platform.machine(), platform.machine()),
    )

    async def run_one() -> None:
        runtime = EngineRuntime(engine, folder, images)
        try:
            await (await runtime.start(a_spec(folder))).wait()
        finally:
            await runtime.close()

    try:
        asyncio.run(run_one())
    except Exception as error:
        pytest.skip(f"podman runs nothing here: {error}")
    return images


async def one_layer(folder: Path, layer: bytes) -> str:
    images = FakeImages(folder / "blobs")
    images.add("x:1", layer)
    return (await images.pull("x:1")).layers[0].diff_id


@pytest.fixture
def start(tmp_path: Path, engine: Engine, images: FakeImages) -> Callable[[], EngineRuntime]:
    return lambda: EngineRuntime(engine, tmp_path, images)


def labelled(engine: Engine, folder: Path) -> list[Any]:
    return list(engine.client.containers.list(all=True, filters={"label": f"chalk.ai/local={folder}"}))


def test_two_replicas_serve_the_same_port_at_addresses_of_their_own(
    tmp_path: Path, engine: Engine, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        specs = [
            a_spec(tmp_path, PYTHON.name, "-Sc", SERVER, pod=pod, ports=(8080,)) for pod in ("one", "two")
        ]
        replicas = await asyncio.gather(*(runtime.start(spec) for spec in specs))
        for spec, replica in zip(specs, replicas, strict=True):
            answer = await fetch(runtime.assign_address(spec.pod_uid), 8080)
            assert answer.endswith(f"hello from {spec.pod}".encode())
            assert replica.pid > 0
        while replicas[0].usage()[1] == 0:
            await asyncio.sleep(0.02)
        assert [(await replica.stop(20)).exit_code for replica in replicas] == [143, 143]
        assert log_of(tmp_path, "one") == "listening\n"
        assert labelled(engine, tmp_path) == []

    running(start, scenario)


def test_what_a_pod_asks_for_is_so_inside(
    tmp_path: Path, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    (tmp_path / "given").write_text("given\n")
    script = """
        cat /etc/given; echo "$GREETING, $HOSTNAME"; echo to stderr >&2; echo again
        (echo no > /etc/given) 2>/dev/null || echo read-only
        cd /proc/self/cwd && echo "$PWD"; exit 3
    """

    async def scenario(runtime: EngineRuntime) -> None:
        replica = await runtime.start(
            a_spec(
                tmp_path,
                *("sh", "-c", script),
                env={"GREETING": "hello"},
                working_dir="/tmp",
                mounts=(Mount(tmp_path / "given", "/etc/given"),),
            )
        )
        ended = await replica.wait()
        assert (ended.exit_code, ended.reason) == (3, "Error")
        said = log_of(tmp_path).splitlines()
        assert said[:2] == ["given", "hello, web"]
        assert sorted(said[2:4]) == ["again", "to stderr"]  # two pipes: their order is the engine's
        assert said[4] == "read-only"

    running(start, scenario)


def test_too_much_memory_is_the_end_of_it(
    tmp_path: Path, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        greedy = "print('up', flush=True); len(bytearray(200 << 20))"
        spec = a_spec(tmp_path, PYTHON.name, "-Sc", greedy, memory_limit=64 << 20, cpu_limit=0.5)
        ended = await (await runtime.start(spec)).wait()
        assert (ended.exit_code, ended.reason) == (137, "OOMKilled")
        assert log_of(tmp_path) == "up\n"

    running(start, scenario)


def test_containers_that_a_killed_daemon_left_are_removed_by_the_next(
    tmp_path: Path, engine: Engine, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        replica = await runtime.start(a_spec(tmp_path, "sh", "-c", "while :; do :; done"))
        assert len(labelled(engine, tmp_path)) == 1
        following = start()
        assert labelled(engine, tmp_path) == []
        assert (await replica.wait()).exit_code == 137
        await following.close()

    running(start, scenario)
