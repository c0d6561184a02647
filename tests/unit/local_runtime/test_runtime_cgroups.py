"""Control groups of both versions, over a file system of them in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chalkcompute.local.runtime.cgroup_files import CgroupMount, parse_mounts
from chalkcompute.local.runtime.cgroup_search import ask_systemd, remove_leftovers, search
from chalkcompute.local.runtime.cgroups import Cgroups
from tests.unit.local_runtime.cgroup_tree import CgroupTree

POINT = "/sys/fs/cgroup"
SCOPE = f"{POINT}/user.slice/session-3.scope"
BOTH = ("cpu", "memory")
PID = 77


def v1(*, memory_own: str = f"{POINT}/memory") -> tuple[CgroupTree, tuple[CgroupMount, ...]]:
    """CPU and its accounting in one hierarchy, as most distributions had it."""
    tree = CgroupTree()
    tree.mount(f"{POINT}/cpu,cpuacct", 1, ("cpu", "cpuacct"))
    tree.mount(f"{POINT}/memory", 1, ("memory",))
    if memory_own != f"{POINT}/memory":
        tree.make(memory_own)
    cpu = f"{POINT}/cpu,cpuacct"
    return tree, (
        CgroupMount(1, frozenset({"cpu", "cpuacct"}), cpu, cpu),
        CgroupMount(1, frozenset({"memory"}), f"{POINT}/memory", memory_own),
    )


def v2(own: str, *, controllers: tuple[str, ...] = BOTH, procs: str = "") -> CgroupTree:
    """A unified hierarchy in which everything above `own` passes its controllers on."""
    tree = CgroupTree()
    tree.mount(POINT, 2, controllers)
    path = POINT
    for name in own.removeprefix(POINT).strip("/").split("/") if own != POINT else ():
        tree.files[f"{path}/cgroup.subtree_control"] = " ".join(controllers)
        path = f"{path}/{name}"
        tree.make(path)
    tree.files[f"{own}/cgroup.procs"] = procs
    return tree


def look(
    tree: CgroupTree,
    *owns: str,
    delegate: Callable[[], bool] = lambda: False,
    root: bool = False,
    mounts: tuple[CgroupMount, ...] | None = None,
) -> Cgroups:
    """Search; on version 2 this process is in one group after the other."""
    places = list(owns)

    def now() -> tuple[CgroupMount, ...]:
        if mounts is not None:
            return mounts
        own = places.pop(0) if len(places) > 1 else places[0]
        return (CgroupMount(2, frozenset(), POINT, own),)

    return search(now, tree, "tag", delegate=delegate, pid=PID, root=root)


def test_version_1() -> None:
    own = f"{POINT}/memory/session"
    tree, mounts = v1(memory_own=own)
    found = look(tree, mounts=mounts)
    assert (found.version_for("cpu"), found.version_for("memory")) == (1, 1)
    group = found.make("replica-1", cpu=0.25, memory=64 << 20)
    cpu, memory = f"{POINT}/cpu,cpuacct/chalk-local-tag/replica-1", f"{own}/chalk-local-tag/replica-1"
    assert tree.files[f"{cpu}/cpu.cfs_quota_us"] == "25000"
    assert tree.files[f"{memory}/memory.limit_in_bytes"] == str(64 << 20)
    assert set(group.joins) == {f"{cpu}/cgroup.procs", f"{memory}/cgroup.procs"}
    assert group.kills_one_by_one
    assert not group.out_of_memory()
    tree.files[f"{memory}/memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill 2"
    assert group.out_of_memory()
    tree.files[f"{cpu}/cpuacct.usage"] = "2500000000"
    tree.files[f"{memory}/memory.usage_in_bytes"] = "5000"
    tree.files[f"{memory}/memory.stat"] = "cache 9\ntotal_inactive_file 1000"
    used = group.usage()
    assert used is not None
    assert (used.cpu_seconds, used.resident_bytes) == (2.5, 4000)
    assert group.remove()
    found.close()
    assert not [path for path in tree.groups if "chalk" in path]


def test_a_controller_alone() -> None:
    tree, mounts = v1()
    tree.read_only.add(f"{POINT}/memory")
    found = look(tree, mounts=mounts)
    assert (found.version_for("cpu"), found.version_for("memory")) == (1, None)
    group = found.make("r", cpu=1, memory=1 << 30)
    assert (group.holds("cpu"), group.holds("memory"), group.kills_one_by_one) == (True, False, False)
    assert group.usage() is None  # half of it is to be had: all is read from /proc


def test_a_limit_that_does_not_stand_is_none() -> None:
    class Forgetful(CgroupTree):
        def write(self, path: str, text: str) -> None:
            if not path.endswith("memory.limit_in_bytes"):
                super().write(path, text)

    tree = Forgetful()
    tree.mount(f"{POINT}/memory", 1, ("memory",))
    mounts = (CgroupMount(1, frozenset({"memory"}), f"{POINT}/memory", f"{POINT}/memory"),)
    assert look(tree, mounts=mounts).hierarchies == ()
    assert list(tree.groups) == [f"{POINT}/memory"]


def test_the_parents_smaller_share_is_no_failure() -> None:
    class Strict(CgroupTree):
        def write(self, path: str, text: str) -> None:
            if path.endswith("cfs_quota_us") and int(text) > 100_000:
                raise OSError(22, "Invalid argument", path)
            super().write(path, text)

    tree = Strict()
    tree.mount(f"{POINT}/cpu", 1, ("cpu",))
    found = look(tree, mounts=(CgroupMount(1, frozenset({"cpu"}), f"{POINT}/cpu", f"{POINT}/cpu"),))
    found.make("r", cpu=4, memory=None)
    assert tree.files[f"{POINT}/cpu/chalk-local-tag/r/cpu.cfs_quota_us"] == "-1"


def test_version_2_in_a_group_of_our_own() -> None:
    tree = v2(SCOPE, procs=str(PID))
    found = look(tree, SCOPE)
    assert [(h.version, h.base, h.controllers) for h in found.hierarchies] == [
        (2, f"{SCOPE}/chalk-local-tag", frozenset(BOTH))
    ]
    assert tree.files[f"{SCOPE}/chalk-daemon-tag/cgroup.procs"] == str(PID)  # no process in an inner group
    group = found.make("r", cpu=0.001, memory=32 << 20)
    folder = f"{SCOPE}/chalk-local-tag/r"
    shown = {name: tree.files[f"{folder}/{name}"] for name in ("cpu.max", "memory.max", "memory.oom.group")}
    assert shown == {
        "cpu.max": "1000 100000",
        "memory.max": str(32 << 20),
        "memory.oom.group": "1",
    }
    assert tree.files[f"{folder}/memory.swap.max"] == "0"
    assert not group.kills_one_by_one
    tree.files[f"{folder}/memory.events"] = "low 0\noom 1\noom_kill 3"
    assert group.out_of_memory()
    tree.files[f"{folder}/cpu.stat"] = "usage_usec 1500000"
    tree.files[f"{folder}/memory.current"] = "700"
    tree.files[f"{folder}/memory.stat"] = "anon 1\ninactive_file 300"
    used = group.usage()
    assert used is not None
    assert (used.cpu_seconds, used.resident_bytes) == (1.5, 400)
    assert group.remove()
    assert group.remove()  # once more does no harm


def test_version_2_beside_a_shell_asks_for_a_scope() -> None:
    tree = v2(SCOPE, procs=f"12 {PID}")
    given = f"{POINT}/user.slice/chalk.scope"

    def delegate() -> bool:
        tree.make(given)
        tree.write(f"{given}/cgroup.procs", str(PID))
        return True

    found = look(tree, SCOPE, given, delegate=delegate)
    assert [h.base for h in found.hierarchies] == [f"{given}/chalk-local-tag"]
    assert tree.files[f"{SCOPE}/cgroup.procs"] == "12"  # what is not ours stays where it is


@pytest.mark.parametrize(
    ("root", "bases"), [(False, []), (True, [f"{POINT}/chalk-local-tag"])], ids=["user", "root"]
)
def test_version_2_without_systemd(root: bool, bases: list[str]) -> None:
    tree = v2(SCOPE, procs=f"12 {PID}")
    found = look(tree, SCOPE, root=root)
    assert [h.base for h in found.hierarchies] == bases


def test_version_2_where_only_memory_is_delegated() -> None:
    tree = v2(SCOPE, controllers=("memory", "pids"), procs=str(PID))
    found = look(tree, SCOPE)
    assert (found.version_for("cpu"), found.version_for("memory")) == (None, 2)
    group = found.make("r", cpu=0.2, memory=1 << 30)
    assert group.usage() is not None  # the kernel counts CPU without the controller


@pytest.mark.parametrize("refused", [POINT, SCOPE])
def test_version_2_that_nobody_delegates(refused: str) -> None:
    tree = v2(SCOPE, procs=str(PID))
    tree.read_only.add(refused)
    assert look(tree, SCOPE).hierarchies == ()


def test_a_hybrid_takes_version_1() -> None:
    tree, mounts = v1()
    tree.mount(f"{POINT}/unified", 2, ("hugetlb",))
    unified = CgroupMount(2, frozenset(), f"{POINT}/unified", f"{POINT}/unified")
    found = look(tree, mounts=(unified, *mounts), root=True)
    assert {h.version for h in found.hierarchies} == {1}


def test_a_group_that_cannot_be_made_leaves_nothing() -> None:
    tree, mounts = v1()
    found = look(tree, mounts=mounts)
    tree.read_only.add(f"{POINT}/memory/chalk-local-tag")
    with pytest.raises(OSError, match="Permission denied"):
        found.make("r", cpu=1, memory=1 << 30)
    assert not [path for path in tree.groups if path.endswith("/r")]


def test_leftovers_of_a_killed_daemon(tmp_path: Path) -> None:
    tree = CgroupTree()
    tree.mount(POINT, 2, BOTH)
    for group in ("chalk-local-tag", "chalk-local-tag/replica-1", "chalk-local-other", "system.slice"):
        tree.make(f"{POINT}/{group}")
    noted = [f"{POINT}/chalk-local-tag", f"{POINT}/chalk-local-other", f"{POINT}/system.slice", 7]
    (tmp_path / "cgroups.json").write_text(json.dumps(noted))
    remove_leftovers(tmp_path, "tag", tree)
    assert set(tree.groups) == {POINT, f"{POINT}/chalk-local-other", f"{POINT}/system.slice"}


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', '"x"'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "cgroups.json").write_text(text)
    remove_leftovers(tmp_path, "tag", CgroupTree())


def test_mounts_of_a_hybrid_machine() -> None:
    mountinfo = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
    own = "9:name=systemd:/\n4:memory:/process_api/62af\n1:cpu:/\n0::/\n"
    found = {mount.point.rpartition("/")[2]: mount for mount in parse_mounts(mountinfo, own)}
    assert found["memory"] == CgroupMount(
        1, frozenset({"memory"}), f"{POINT}/memory", f"{POINT}/memory/process_api/62af"
    )
    assert found["cpu"].own == f"{POINT}/cpu"
    assert (found["unified"].version, found["unified"].own) == (2, f"{POINT}/unified")


@pytest.mark.parametrize(
    ("root", "path", "own"),
    [
        ("/", "/user.slice/a.scope", f"{POINT}/user.slice/a.scope"),
        ("/docker/abc", "/docker/abc", POINT),
        ("/docker/abc", "/docker/abc/inner", f"{POINT}/inner"),
        ("/docker/abc", "/docker/abcd", POINT),
        ("/", "/../elsewhere", POINT),
    ],
)
def test_our_own_group_in_what_is_mounted(root: str, path: str, own: str) -> None:
    mountinfo = f"30 23 0:28 {root} {POINT} rw - cgroup2 cgroup rw,nsdelegate\n"
    (mount,) = parse_mounts(mountinfo, f"0::{path}\n")
    assert mount.own == own


@pytest.mark.parametrize(
    ("script", "given"),
    [
        ("echo 0::/moved.scope > $OWN", True),
        ("exit 1", False),
        ("exit 0", False),  # systemd took the order, and did nothing
    ],
)
def test_systemd_is_asked_for_a_scope(
    script: str, given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, said = tmp_path / "cgroup", tmp_path / "said"
    own.write_text("0::/session.scope\n")
    tool = tmp_path / "busctl"
    tool.write_text(f'#!/bin/sh\necho "$@" > {said}\n{script}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("chalkcompute.local.runtime.cgroup_search._MOVE_SECONDS", 0.1)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OWN": str(own)}
    assert ask_systemd("chalk-local-x", environ=environ, own=own) == given
    words = said.read_text().split()
    assert "StartTransientUnit" in words
    assert "chalk-local-x.scope" in words
    assert words[words.index("PIDs") : words.index("PIDs") + 4] == ["PIDs", "au", "1", str(os.getpid())]


def test_without_systemd_there_is_no_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ask_systemd("x", environ={"PATH": str(tmp_path)}, own=own)
