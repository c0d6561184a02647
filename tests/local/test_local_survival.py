"""The embedded cluster outlives what happens to its daemon: kill -9, a second `up`, a restart."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHALK = Path(sys.executable).parent / "chalk"
CREATE = (
    "scaling-group", "create", "--name=hello", "--image=python:3.12", "--port=8000",
    "--replicas=2", "--entrypoint=python,-m,http.server,8000",
)  # fmt: skip


class LocalCluster:
    """A cluster in a state folder of its own, driven as a user would."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CHALK_", "KUBECONFIG"))},
            "HOME": str(home),
            "CHALK_LOCAL_HOME": str(self.state),
            "NO_COLOR": "1",
        }
        self.home = home

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(CHALK), *args],
            env=self.env,
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *args: str, code: int = 0) -> str:
        process = self.start(*args)
        out, err = process.communicate(timeout=150)
        assert process.returncode == code, f"chalk {' '.join(args)}: exit {process.returncode}\n{out}\n{err}"
        return out

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self("local", "status", "-o", "json")))

    def groups(self) -> list[Any]:
        return list(json.loads(self("scaling-group", "list", "-o", "json"))["scaling_groups"])

    def family(self) -> set[tuple[int, str]]:
        """The daemon and every process below it, as (pid, start time): gateway, sandboxes, replicas."""
        parents = {
            entry.name: stat_fields(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()
        }
        family = {str(self.status()["pid"])}
        while more := {pid for pid, f in parents.items() if f and f[0] in family and pid not in family}:
            family |= more
        return {(int(pid), fields[1]) for pid in family if (fields := parents.get(pid))}


def stat_fields(pid: str) -> tuple[str, str] | None:
    """Parent pid and start time of a process (proc_pid_stat(5), fields 4 and 22), None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else (fields[1], fields[19])


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster("local", "down")


def survivors(family: set[tuple[int, str]], timeout: float = 20) -> list[str]:
    """Which of these processes still run after a while, by command line."""

    def alive() -> list[str]:
        return [
            f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
            for pid, started in family
            if (fields := stat_fields(str(pid))) and fields[1] == started
        ]

    deadline = time.monotonic() + timeout
    while (left := alive()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def daemons(state: Path) -> list[int]:
    """Pids of the daemons of one state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and stat_fields(entry.name):
            with contextlib.suppress(OSError):  # it ended while we looked
                cmdline = (entry / "cmdline").read_bytes()
                if b"chalkcompute.local.daemon" in cmdline and os.fsencode(state) in cmdline:
                    found.append(int(entry.name))
    return found


def available(local: LocalCluster, timeout: float = 60) -> list[Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        groups = local.groups()
        if groups and all(g["status"] == "Available" for g in groups):
            return groups
        time.sleep(0.3)
    return local.groups()


def test_kill_9_leaves_no_process_and_up_brings_the_groups_back(local: LocalCluster) -> None:
    local("local", "up")
    local(*CREATE)
    before = local.status()
    url = local.groups()[0]["web_url"]
    family = local.family()
    assert len(family) >= 4, "the daemon, the gateway and two replicas"
    os.kill(before["pid"], signal.SIGKILL)
    assert survivors(family) == []
    local("local", "up")
    (group,) = available(local)
    assert group["status"] == "Available"
    assert group["replicas"]["ready"] == 2
    assert group["web_url"] == url
    assert local.status()["pid"] != before["pid"]


def test_down_leaves_nothing_and_up_goes_on_with_the_same_groups(local: LocalCluster) -> None:
    local("local", "up")
    local(*CREATE)
    identity = local.groups()[0]["id"]
    family = local.family()
    local("local", "down")
    assert survivors(family, 1) == []
    local("local", "down")
    local("local", "up")
    (group,) = available(local)
    assert (group["id"], group["status"]) == (identity, "Available")


def test_who_sleeps_sleeps_on_and_is_woken_by_the_first_request(local: LocalCluster) -> None:
    local("local", "up")
    fixed = [flag for flag in CREATE if flag != "--replicas=2"]
    local(*fixed, "--min-replicas=0", "--max-replicas=1", "--idle-timeout=1s")
    asleep(local)
    local("local", "down")
    local("local", "up")
    (group,) = local.groups()
    assert (group["status"], group["replicas"]["desired"]) == ("ScaledToZero", 0)
    host = urlsplit(group["web_url"]).hostname
    connection = HTTPConnection("127.0.0.1", local.status()["http_port"], timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": str(host)})
        assert connection.getresponse().status == 200
    asleep(local)


def asleep(local: LocalCluster) -> None:
    deadline = time.monotonic() + 60
    while [group["status"] for group in local.groups()] != ["ScaledToZero"]:
        assert time.monotonic() < deadline, local.groups()
        time.sleep(0.3)


def test_two_ups_at_once_start_one_daemon(local: LocalCluster) -> None:
    both = [local.start("local", "up") for _ in range(2)]
    ended = [p.communicate(timeout=90) for p in both]
    assert [p.returncode for p in both] == [0, 0], ended
    assert daemons(local.state) == [local.status()["pid"]]
    local("local", "up")
    assert daemons(local.state) == [local.status()["pid"]]


def test_reset_removes_everything(local: LocalCluster) -> None:
    local("local", "up")
    local(*CREATE)
    family = local.family()
    local("local", "reset")
    assert survivors(family, 1) == []
    assert not (local.state / "store.db").exists()
    local("local", "up")
    assert local.groups() == []


def test_a_state_folder_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    cluster = LocalCluster(tmp_path)
    cluster.env["CHALK_LOCAL_HOME"] = str(cluster.state / "below")
    process = cluster.start("local", "up")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert str(cluster.state) in err
    assert "Traceback" not in err
