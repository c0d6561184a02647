"""The runtime over an engine, with a client that has none behind it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from docker.errors import APIError, ImageLoadError

from chalkcompute.local.engine import Engine, EngineRuntime
from chalkcompute.local.ports import ImagePullError, Mount, ReplicaExit, ReplicaSpec, StartError
from tests.unit.local_engine.conftest import IMAGE, RunScenario, a_spec, log_of
from tests.unit.local_engine.fake_docker import FakeContainer, FakeDocker
from tests.unit.local_runtime.images import FakeImages, archive

LAYERS = (archive(("a", b"lower")), archive(("b", b"upper")))
CONFIG = {"Entrypoint": ["serve"], "Cmd": ["--all"], "StopSignal": "SIGQUIT"}


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def images(tmp_path: Path) -> FakeImages:
    images = FakeImages(tmp_path / "blobs")
    images.add(IMAGE, *LAYERS, config=CONFIG)
    return images


@pytest.fixture
def start(tmp_path: Path, docker: FakeDocker, images: FakeImages) -> Callable[[], EngineRuntime]:
    return lambda: EngineRuntime(Engine(docker, "docker 29.1", 2.0), tmp_path, images)


@pytest.fixture
def options_of(
    docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> Callable[[ReplicaSpec], Any]:
    """What a container is created with."""

    def run(spec: ReplicaSpec) -> Any:
        async def scenario(runtime: EngineRuntime) -> Any:
            await runtime.start(spec)
            return docker.present[0].options

        return running(start, scenario)

    return run


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_it_says_what_it_is_and_what_it_cannot_do(
    running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        assert runtime.tier == "engine (docker 29.1)"
        assert any("`containerPort`" in limitation for limitation in runtime.limitations)

    running(start, scenario)


def test_an_image_is_loaded_once_with_its_layers_in_order(
    docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        pulls = [runtime.pull(IMAGE) for _ in range(3)]
        assert len(set(await asyncio.gather(*pulls))) == 1

    running(start, scenario)
    ((tag, files),) = docker.archives.items()
    (manifest,) = json.loads(files["manifest.json"])
    assert tag.startswith("localhost/chalk-local/")
    assert [gzip.decompress(files[name]) for name in manifest["Layers"]] == list(LAYERS)
    assert json.loads(files[manifest["Config"]])["config"] == CONFIG


def test_layers_under_zstd_are_unpacked_for_older_engines(
    tmp_path: Path, docker: FakeDocker, running: RunScenario
) -> None:
    images = FakeImages(tmp_path / "blobs")
    images.add(IMAGE, LAYERS[0])
    layer = asyncio.run(images.pull(IMAGE)).layers[0]
    layer.path.write_bytes(zstandard.compress(LAYERS[0]))
    running(
        lambda: EngineRuntime(Engine(docker, "docker", 1.0), tmp_path, images),
        lambda runtime: runtime.pull(IMAGE),
    )
    assert next(iter(docker.archives.values()))["0/layer.tar"] == LAYERS[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host_base": "3.12.1"}, "the Python 3.12.1 of this machine, which would stand in, cannot run"),
        ({"architecture": "riscv64"}, "the image is for linux/riscv64"),
    ],
)
def test_images_that_an_engine_cannot_run_are_refused(
    changes: dict[str, Any],
    said: str,
    images: FakeImages,
    running: RunScenario,
    start: Callable[[], EngineRuntime],
) -> None:
    images.add(IMAGE, *LAYERS, **changes)

    async def scenario(runtime: EngineRuntime) -> None:
        with pytest.raises(ImagePullError, match=said) as raised:
            await runtime.pull(IMAGE)
        assert raised.value.reason == "ErrImagePull"

    running(start, scenario)


@pytest.mark.parametrize("error", [ImageLoadError("no space left"), OSError("no space left")])
def test_an_engine_that_does_not_load_is_a_failed_pull(
    error: Exception, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    docker.load_error = error

    async def scenario(runtime: EngineRuntime) -> None:
        with pytest.raises(ImagePullError, match=r"docker 29\.1 does not load it: no space left"):
            await runtime.pull(IMAGE)
        with pytest.raises(StartError, match="no space left"):
            await runtime.start(a_spec(Path("/nonexistent")))

    running(start, scenario)


def test_a_container_is_what_the_pod_says(tmp_path: Path, options_of: Callable[[ReplicaSpec], Any]) -> None:
    spec = a_spec(
        tmp_path,
        env={"A": "1"},
        working_dir="/data",
        mounts=(Mount(tmp_path, "/data", read_only=False),),
        ports=(8080, 9090),
        cpu_limit=0.5,
        memory_limit=64 << 20,
        gpus=("GPU-1", "GPU-2"),
    )
    options = options_of(spec)
    (request,) = options["device_requests"]
    assert (request["DeviceIDs"], request["Capabilities"]) == (["GPU-1", "GPU-2"], [["gpu"]])
    address = options["ports"]["8080/tcp"][0]
    assert address.startswith("127.77.")
    assert options["ports"] == {"8080/tcp": (address, 8080), "9090/tcp": (address, 9090)}
    assert (options["entrypoint"], options["command"]) == (["serve"], ["--all"])
    assert options["environment"] == {"A": "1"}
    assert options["working_dir"] == "/data"
    assert options["hostname"] == "web"
    assert options["nano_cpus"] == 500_000_000
    assert options["mem_limit"] == options["memswap_limit"] == 64 << 20
    assert options["labels"]["chalk.ai/local"] == str(tmp_path)
    assert options["mounts"] == [
        {"Target": "/data", "Source": str(tmp_path), "Type": "bind", "ReadOnly": False}
    ]


def test_the_command_of_the_pod_wins_and_docker_never_gets_more_processors_than_it_has(
    tmp_path: Path, options_of: Callable[[ReplicaSpec], Any]
) -> None:
    options = options_of(a_spec(tmp_path, "sleep", args=("5", "6"), cpu_limit=64.0))
    assert (options["entrypoint"], options["command"]) == (["sleep"], ["5", "6"])
    assert options["nano_cpus"] == 2_000_000_000
    assert "working_dir" not in options
    assert "mem_limit" not in options
    assert "device_requests" not in options


def ended(
    running: RunScenario,
    start: Callable[[], EngineRuntime],
    docker: FakeDocker,
    spec: ReplicaSpec,
    end: Callable[[FakeContainer], object],
) -> ReplicaExit:
    async def scenario(runtime: EngineRuntime) -> ReplicaExit:
        replica = await runtime.start(spec)
        assert replica.pid == 4711
        end(docker.present[0])
        first, second = await asyncio.gather(replica.wait(), replica.wait())
        assert first == second
        return first

    found = running(start, scenario)
    assert docker.present == []
    assert isinstance(found, ReplicaExit)
    return found


@pytest.mark.parametrize(
    ("limit", "code", "state", "reason"),
    [
        (None, 0, {}, "Completed"),
        (None, 3, {}, "Error"),
        (None, 137, {}, "Error"),
        (None, 137, {"OOMKilled": True}, "OOMKilled"),
        (1 << 20, 137, {}, "OOMKilled"),  # podman 4.3 keeps quiet about it
        (1 << 20, 3, {}, "Error"),
    ],
)
def test_how_it_ended(
    limit: int | None,
    code: int,
    state: dict[str, Any],
    reason: str,
    tmp_path: Path,
    docker: FakeDocker,
    running: RunScenario,
    start: Callable[[], EngineRuntime],
) -> None:
    spec = a_spec(tmp_path, memory_limit=limit)
    found = ended(running, start, docker, spec, lambda container: container.end(code, **state))
    assert (found.exit_code, found.reason) == (code, reason)


def test_the_log_has_everything_from_the_first_byte(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    pieces = [b"one\n", b"two ", b"three\n" * 50_000]

    def end(container: FakeContainer) -> None:
        assert container.attached_before_start
        for piece in pieces:
            container.output.chunks.put(piece)
        container.end(0)

    ended(running, start, docker, a_spec(tmp_path), end)
    assert log_of(tmp_path).encode() == b"".join(pieces)


def test_the_log_goes_on_after_the_engine_was_away(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        replica = await runtime.start(a_spec(tmp_path))
        container = docker.present[0]
        before = container.output
        before.chunks.put(b"before\n")
        container.breaks = [ConnectionError("reset")]
        before.chunks.put(None)
        await until(lambda: before.closed)
        container.output.chunks.put(b"after\n")
        container.end(0)
        assert (await replica.wait()).reason == "Completed"

    running(start, scenario)
    assert log_of(tmp_path) == "before\nafter\n"


def test_a_replica_is_asked_to_stop_with_the_signal_of_its_image_and_then_killed(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        polite = await runtime.start(a_spec(tmp_path))
        assert (await polite.stop(30)).exit_code == 143
        deaf = await runtime.start(a_spec(tmp_path, memory_limit=1 << 20))
        container = docker.present[0]
        container.obeys = False
        found = await deaf.stop(0.05)
        assert (found.exit_code, found.reason) == (137, "Error")  # it was us
        assert container.signals == ["SIGQUIT", "SIGKILL"]

    running(start, scenario)


def test_usage_is_that_of_the_last_sample(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        replica = await runtime.start(a_spec(tmp_path))
        docker.present[0].stats_answer = {
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
            "memory_stats": {"usage": 5000, "stats": {"inactive_file": 1000}},
        }
        replica.usage()
        await until(lambda: replica.usage() == (1.5, 4000))

    running(start, scenario)


def test_what_cannot_start_says_why_and_leaves_nothing(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    docker.start_error = APIError("500", explanation='exec: "nosuch": executable file not found in $PATH')

    async def scenario(runtime: EngineRuntime) -> None:
        with pytest.raises(StartError, match='exec: "nosuch": executable file not found') as raised:
            await runtime.start(a_spec(tmp_path, "nosuch"))
        assert raised.value.exit_code == 127
        assert docker.present == []

    running(start, scenario)


def test_a_start_that_nobody_waits_for_leaves_nothing(
    tmp_path: Path, docker: FakeDocker, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    async def scenario(runtime: EngineRuntime) -> None:
        await runtime.pull(IMAGE)
        starting = asyncio.create_task(runtime.start(a_spec(tmp_path)))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    running(start, scenario)
    assert docker.present == []


def test_what_an_earlier_daemon_left_is_removed_and_others_are_not(
    docker: FakeDocker, tmp_path: Path, running: RunScenario, start: Callable[[], EngineRuntime]
) -> None:
    docker.create(name="left", labels={"chalk.ai/local": str(tmp_path)})
    other = docker.create(name="other", labels={"chalk.ai/local": "/elsewhere"})
    mine = docker.create(name="mine", labels={})

    async def scenario(_runtime: EngineRuntime) -> None:
        assert docker.present == [other, mine]

    running(start, scenario)
    assert docker.closed
