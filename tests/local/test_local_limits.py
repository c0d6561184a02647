"""How limits are held on this machine: said by `status`, and nothing of it left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.test_local_survival import LocalCluster, survivors

HELD = {"cgroup v1", "cgroup v2", "watched", "not enforced"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path)
    yield cluster
    cluster("local", "reset")


def groups_of(cluster: LocalCluster) -> list[Path]:
    """The folders of control groups that the daemon has noted, as far as they are there."""
    try:
        noted = json.loads((cluster.state / "runtime/cgroups.json").read_text())
    except FileNotFoundError:
        return []
    return [Path(base) for base in noted if Path(base).exists()]


def test_status_says_how_limits_are_held_and_which_gpus_there_are(cluster: LocalCluster) -> None:
    cluster("local", "up")
    status = cluster.status()
    assert set(status["limits"]) == {"cpu", "memory"}
    assert set(status["limits"].values()) <= HELD
    assert status["gpus"].keys() == {"count", "type"}
    table = cluster("local", "status")
    assert "Limits:" in table
    assert "GPUs:" in table
    held = any(how.startswith("cgroup") for how in status["limits"].values())
    assert bool(groups_of(cluster)) == held
    before = groups_of(cluster)
    cluster("local", "down")
    assert not [group for group in before if group.exists()]


def test_a_killed_daemon_leaves_no_groups_after_the_next_command(cluster: LocalCluster) -> None:
    cluster("local", "up")
    cluster("scaling-group", "create", "--name=one", "--image=python:3.12", "--port=8000",
            "--entrypoint=python,-m,http.server,8000")  # fmt: skip
    before = groups_of(cluster)
    family = cluster.family()
    os.kill(cluster.status()["pid"], signal.SIGKILL)
    assert survivors(family) == []
    cluster("local", "down")
    assert not [group for group in before if group.exists()]


def test_a_group_wants_a_gpu_that_this_machine_lacks(cluster: LocalCluster) -> None:
    cluster("local", "up")
    count = cluster.status()["gpus"]["count"]
    cluster(
        "scaling-group", "create", "--name=model", "--image=python:3.12", f"--gpu={count + 1}", "--no-wait"
    )
    deadline = time.monotonic() + 60
    while not (verdict := json.loads(cluster("scaling-group", "get", "model", "-o", "json"))["verdict"]):
        assert time.monotonic() < deadline, "there is no verdict"
        time.sleep(0.2)
    assert verdict["cause"] == "Unschedulable"
    assert "nvidia.com/gpu" in str(verdict)
