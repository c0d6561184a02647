"""Limits of replicas that run, held by control groups where this machine has them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalkcompute.local.runtime.cgroup_search import find_cgroups
from chalkcompute.local.runtime.cgroups import Cgroups
from chalkcompute.local.runtime.runtime import is_in_host_layers
from chalkcompute.local.runtime.usage import process_tree
from chalkcompute.local.runtime.watch import LimitWatch, ReplicaLimits
from tests.unit.local_runtime.conftest import RunSandboxed, Sandbox

SLEEP = ("python", "-c", "import time; time.sleep(300)")
EAT = "kept = []\nwhile True: kept.append(bytearray(b'x' * 2**20))"
EAT_IN_A_CHILD = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {EAT!r}])
time.sleep(300)
"""
WORK_AND_SLEEP = """
import time
kept = bytearray(b"x" * 2**25)
print("done", flush=True)
time.sleep(300)
"""


@pytest.fixture
def cgroups(tmp_path: Path) -> Iterator[Cgroups]:
    """The control groups of this machine; most give none to ordinary users."""
    found = find_cgroups(tmp_path)
    if not found.hierarchies:
        pytest.skip("this machine gives us no control groups")
    yield found
    found.close()
    assert not [h.base for h in found.hierarchies if Path(h.base).exists()]


def groups_of(pid: int) -> set[str]:
    """The folders of a process's groups, as far as they are ours."""
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return {path for line in text.splitlines() if "chalk-local-" in (path := line.split(":", 2)[2])}


def test_a_replica_is_in_its_groups_and_its_inits_are_not(
    tier: str, sandboxed: RunSandboxed, cgroups: Cgroups
) -> None:
    async def scenario(box: Sandbox) -> None:
        await box.use_cgroups(cgroups)
        held = box.runtime.limits
        assert {how.partition(" ")[0] for how in held.values()} <= {"cgroup", "watched"}
        assert "cgroup" in "".join(held.values())
        replica = await box.runtime.start(box.spec(*SLEEP, cpu_limit=0.25, memory_limit=64 << 20))
        inits = 2 if tier.startswith("ns-") else 1
        tree = process_tree(replica.pid)
        assert not any(groups_of(pid) for pid in tree[:inits])
        assert all(groups_of(pid) for pid in tree[inits:])
        folders = [Path(folder) for h in cgroups.hierarchies for folder in Path(h.base).glob("replica-*")]
        limits = {"cpu.cfs_quota_us": "25000", "cpu.max": "25000 100000"}
        limits |= dict.fromkeys(("memory.limit_in_bytes", "memory.max"), str(64 << 20))
        set_ = {
            name: (folder / name).read_text().strip()
            for folder in folders
            for name in limits
            if (folder / name).exists()
        }
        assert set_.items() <= limits.items()
        assert len(set_) >= sum(how.startswith("cgroup") for how in held.values())
        await replica.stop(0)
        assert not [folder for folder in folders if folder.exists()]

    sandboxed(tier, scenario)


@pytest.mark.parametrize("script", [EAT, EAT_IN_A_CHILD], ids=["itself", "child"])
def test_out_of_memory_looks_the_same_by_the_kernel(
    script: str, tier: str, sandboxed: RunSandboxed, cgroups: Cgroups
) -> None:
    async def scenario(box: Sandbox) -> None:
        await box.use_cgroups(cgroups)
        ended, _ = await box.run("python", "-c", script, memory_limit=64 << 20)
        assert (ended.exit_code, ended.reason) == (137, "OOMKilled")

    sandboxed(tier, scenario)


def test_a_kill_without_a_reason_of_memory_is_an_error(
    strongest_tier: str, sandboxed: RunSandboxed, cgroups: Cgroups
) -> None:
    async def scenario(box: Sandbox) -> None:
        await box.use_cgroups(cgroups)
        ended, _ = await box.run("sh", "-c", "kill -9 $$", memory_limit=64 << 20)
        assert (ended.exit_code, ended.reason) == (137, "Error")

    sandboxed(strongest_tier, scenario)


def test_usage_is_counted_by_the_kernel(
    strongest_tier: str, sandboxed: RunSandboxed, cgroups: Cgroups
) -> None:
    async def scenario(box: Sandbox) -> None:
        await box.use_cgroups(cgroups)
        replica = await box.runtime.start(box.spec("python", "-c", WORK_AND_SLEEP))
        while "done" not in box.output():
            await box.tick()
        seconds, resident = replica.usage()
        assert seconds > 0
        assert resident > 2**25
        await replica.stop(0)
        assert replica.usage()[0] == seconds  # what it had at the last look

    sandboxed(strongest_tier, scenario)


def test_a_group_that_cannot_be_made_means_that_limits_are_watched(
    strongest_tier: str, sandboxed: RunSandboxed
) -> None:
    class Gone(Cgroups):
        def make(self, name: str, *, cpu: float | None, memory: int | None):  # type: ignore[no-untyped-def]
            raise PermissionError("it is gone")

    async def scenario(box: Sandbox) -> None:
        found = find_cgroups(box.folder)
        await box.use_cgroups(Gone(found.hierarchies))
        ended, _ = await box.run("python", "-c", EAT, memory_limit=64 << 20)
        assert (ended.exit_code, ended.reason) == (137, "OOMKilled")

    sandboxed(strongest_tier, scenario)


def test_a_watch_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def end() -> None:
        raise RuntimeError("a mistake of ours")

    async def scenario() -> None:
        watch = LimitWatch(ReplicaLimits(memory=1, inits=0), os.getpid(), end)
        async with asyncio.timeout(60):
            while "a limit is no longer watched" not in caplog.text:
                await asyncio.sleep(0.01)
        await watch.close()

    asyncio.run(scenario())
    assert "a mistake of ours" in caplog.text


def test_a_replica_sees_the_devices_that_are_its_own(strongest_tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> None:
        device = box.folder / "nvidia7"
        device.write_text("a device, as far as a file can be one")
        script = "import os; print(*sorted(n for n in os.listdir('/dev') if 'nvidia' in n))"
        _, said = await box.run("python", "-c", script, devices=(device,))
        assert said == "nvidia7\n"
        _, said = await box.run("python", "-c", script, pod="other")
        assert said == "\n"

    if not strongest_tier.startswith("ns-"):
        pytest.skip("replicas see this machine's /dev here")
    sandboxed(strongest_tier, scenario)


def test_files_that_a_replica_writes_are_on_disk_and_go_with_it(
    strongest_tier: str, sandboxed: RunSandboxed, cgroups: Cgroups
) -> None:
    script = """
import os
for folder in ("/tmp", "/root", "/var/lib", "/opt/new"):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/weights", "wb") as file:
        for _ in range(32):
            file.write(bytes(2**20))
        os.fsync(file.fileno())
"""

    async def scenario(box: Sandbox) -> None:
        await box.use_cgroups(cgroups)
        if any("are in memory" in sentence for sentence in box.runtime.limitations):
            pytest.skip("this machine keeps them in memory, and says so")
        ended, said = await box.run("python", "-c", script, memory_limit=48 << 20)
        assert (ended.exit_code, said) == (0, "")

    sandboxed(strongest_tier, scenario)


def test_nothing_that_a_replica_wrote_is_left(
    strongest_tier: str, sandboxed: RunSandboxed, tmp_path: Path
) -> None:
    script = "import os; os.makedirs('/tmp/a/b'); os.chmod('/tmp/a/b', 0); os.chmod('/tmp/a', 0o500)"

    async def scenario(box: Sandbox) -> None:
        ended, _ = await box.run("python", "-c", script)
        assert ended.exit_code == 0

    sandboxed(strongest_tier, scenario)
    assert list((tmp_path / "runtime").glob("replica-*")) == []
    assert list((tmp_path / "runtime").glob("trial-*")) == []


def test_a_state_folder_below_a_layer_of_replicas_is_not_written_to() -> None:
    assert is_in_host_layers(Path("/var/lib/chalk"))
    assert not is_in_host_layers(Path("/home/me/.chalk/local"))


def test_a_system_without_proc_enforces_nothing_and_says_so(
    strongest_tier: str, sandboxed: RunSandboxed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalkcompute.local.runtime.runtime.PROC", tmp_path / "none")

    async def scenario(box: Sandbox) -> None:
        assert box.runtime.limits == {"cpu": "not enforced", "memory": "not enforced"}

    sandboxed(strongest_tier, scenario)
