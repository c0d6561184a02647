"""The hooked Python of machines that allow neither namespaces nor seccomp notification."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chalkcompute.local.runtime.hostbase import Interpreter
from chalkcompute.local.runtime.plain import hooked_python

INTERPRETER = Interpreter(Path(sys.executable).resolve(), Path(sys.base_prefix), "3.12.1")
FILES = ("chalk_pod_address.py", "chalk_pod_address.pth", "pyvenv.cfg")


def written(folder: Path) -> dict[str, tuple[int, int]]:
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in files(folder).items()}


def files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.rglob("*") if path.name in FILES}


def test_a_second_replica_leaves_alone_what_a_first_may_be_reading(tmp_path: Path) -> None:
    programs = hooked_python(tmp_path, INTERPRETER)
    before = written(tmp_path)
    assert set(before) == set(FILES)
    assert hooked_python(tmp_path, INTERPRETER) == programs
    assert written(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_what_an_older_version_left_is_replaced_whole(tmp_path: Path, name: str) -> None:
    hooked_python(tmp_path, INTERPRETER)
    path = files(tmp_path)[name]
    content = path.read_bytes()
    path.write_bytes(b"old")
    with path.open("rb") as reader:  # as a replica that starts just now
        hooked_python(tmp_path, INTERPRETER)
        assert reader.read() == b"old"
    assert path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir() if p.name.endswith(".tmp")) == []
