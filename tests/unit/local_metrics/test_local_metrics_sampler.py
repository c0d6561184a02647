"""The sampler: usage over the last two samples of each run, and of the machine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalkcompute.local.measures import ContainerUsage
from chalkcompute.local.metrics import Sampler
from chalkcompute.local.metrics.machine import MachineReading, read_machine
from chalkcompute.local.ports import ReplicaExit, RunningContainer

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Replica:
    """One run, whose usage the test sets."""

    pid = 1
    started_at = START
    loopback_ports: frozenset[int] = frozenset()

    def __init__(self, cpu_seconds: float = 0.0, memory_bytes: int = 4096) -> None:
        self.used = cpu_seconds, memory_bytes

    async def wait(self) -> ReplicaExit:
        raise NotImplementedError

    async def stop(self, grace_seconds: float) -> ReplicaExit:
        raise NotImplementedError

    def usage(self) -> tuple[float, int]:
        return self.used


class Bench:
    """A sampler over containers and a clock that the test holds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.running: list[RunningContainer] = []
        self.machine: MachineReading | None = MachineReading(100.0, 1 << 30)
        self.sampler = Sampler(
            self,
            "node1",
            machine=lambda: self.machine,
            clock=lambda: self.seconds,
            now=lambda: START + timedelta(seconds=self.seconds),
        )

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.running)

    def run(self, replica: Replica, pod: str = "web-1", container: str = "app", namespace: str = "a") -> None:
        self.running.append(RunningContainer(namespace, pod, f"uid-{pod}", container, replica))

    def sample(self, after: float = 0.0) -> None:
        self.seconds += after
        asyncio.run(self.sampler.sample())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_usage_is_the_difference_of_the_last_two_samples(bench: Bench) -> None:
    replica = Replica(1.0, 1 << 20)
    bench.run(replica)
    bench.sample()
    assert bench.sampler.pods() == []
    replica.used = 2.25, 2 << 20
    bench.sample(after=5)
    replica.used = 2.75, 3 << 20
    bench.sample(after=2.5)

    (usage,) = bench.sampler.pods()
    assert (usage.namespace, usage.name, usage.uid) == ("a", "web-1", "uid-web-1")
    assert usage.containers == (ContainerUsage("app", 200_000_000, 3 << 20),)
    assert (usage.window, usage.timestamp) == (2.5, START + timedelta(seconds=7.5))


def test_a_container_that_was_restarted_starts_anew(bench: Bench) -> None:
    bench.run(Replica(50.0))
    bench.sample()
    bench.sample(after=5)
    assert len(bench.sampler.pods()) == 1
    bench.running.clear()
    bench.run(Replica(0.5))
    bench.sample(after=5)
    assert bench.sampler.pods() == []
    bench.sample(after=5)
    assert bench.sampler.pods()[0].containers[0].cpu_nanocores == 0


def test_a_pod_is_known_when_all_of_its_containers_are(bench: Bench) -> None:
    bench.run(Replica())
    bench.sample()
    bench.run(Replica(), container="proxy")
    bench.run(Replica(), pod="web-2")
    bench.sample(after=5)
    assert bench.sampler.pods() == []
    bench.sample(after=5)
    names = [(usage.name, [c.name for c in usage.containers]) for usage in bench.sampler.pods()]
    assert names == [("web-1", ["app", "proxy"]), ("web-2", ["app"])]


def test_what_ended_is_known_no_longer_and_namespaces_are_apart(bench: Bench) -> None:
    bench.run(Replica())
    bench.run(Replica(), pod="db-1", namespace="b")
    bench.sample()
    bench.sample(after=5)
    assert [usage.name for usage in bench.sampler.pods("b")] == ["db-1"]
    assert [usage.name for usage in bench.sampler.pods()] == ["web-1", "db-1"]
    del bench.running[0]
    bench.sample(after=5)
    assert [usage.name for usage in bench.sampler.pods()] == ["db-1"]


def test_processes_that_vanish_take_no_usage_back(bench: Bench) -> None:
    replica = Replica(9.0)
    bench.run(replica)
    bench.sample()
    replica.used = 4.0, 4096
    bench.sample(after=5)
    assert bench.sampler.pods()[0].containers[0].cpu_nanocores == 0


def test_what_cannot_be_measured_is_left_out_rather_than_idle(bench: Bench) -> None:
    bench.run(Replica(0.0, 0))
    bench.sample()
    bench.sample(after=5)
    assert bench.sampler.pods() == []


def test_the_machine_is_measured_over_the_same_window(bench: Bench) -> None:
    bench.sample()
    assert bench.sampler.node() is None
    bench.machine = MachineReading(107.5, 2 << 30)
    bench.sample(after=5)
    usage = bench.sampler.node()
    assert usage is not None
    assert (usage.name, usage.cpu_nanocores, usage.memory_bytes) == ("node1", 1_500_000_000, 2 << 30)
    bench.machine = None
    bench.sample(after=5)
    assert bench.sampler.node() == usage


def test_a_failing_look_does_not_end_the_sampling() -> None:
    looks = 0
    done = asyncio.Event()

    def machine() -> MachineReading | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("gone")
        done.set()
        return None

    async def scenario() -> None:
        sampler = Sampler([], "node1", seconds=0.001, machine=machine)
        task = asyncio.create_task(sampler.run())
        while not done.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert looks >= 2


def test_a_machine_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nEmpty:\n")
    reading = read_machine(tmp_path)
    assert reading is not None
    assert reading.memory_bytes == 400 * 1024
    assert round(reading.cpu_seconds * 100) == 171  # user, nice, system, irq, softirq, steal at 100 Hz


@pytest.mark.parametrize("stat", ["", "cpu of another kind\n"])
def test_a_machine_without_proc_says_nothing(tmp_path: Path, stat: str) -> None:
    assert read_machine(tmp_path) is None
    (tmp_path / "stat").write_text(stat)
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
    assert read_machine(tmp_path) is None
