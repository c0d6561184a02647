"""Users who run `mypy --strict` see our types: in an installation of its own, not in this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USER = """\
from typing import assert_type

from chalk.client import ChalkClient
from chalk.colours import RED
from chalkcompute import ScalingGroup, ScalingGroupInfo

def names(client: ChalkClient) -> list[str]:
    return [group.name for group in client.list_scaling_groups().scaling_groups]

def url(name: str) -> str | None:
    group = ScalingGroup.from_name(name, client=ChalkClient(namespace="team"))
    info: ScalingGroupInfo = group.refresh()
    return info.web_url or group.call("/").headers["location"]

assert_type(RED, int)
assert_type(names(ChalkClient()), list[str])
assert_type(ScalingGroup.from_name("x").call("/").status_code, int)
wrong: int = ChalkClient().get_scaling_group("x").name
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A virtual environment with a copy of what the wheel has, and another package that has `chalk` too."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    (site / "chalk" / "colours.py").write_text("RED: int = 1\n")
    # The dependencies are those installed here; a line of a .pth file adds their folder, and not what the
    # .pth files in it add, such as this folder.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def test_mypy_strict_of_a_user(installation: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "user.py").write_text(USER)
    python = installation / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--python-executable={python}", "user.py"],
        cwd=work,
        env={name: value for name, value in os.environ.items() if name != "MYPYPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = len(USER.splitlines())
    *errors, total = done.stdout.splitlines()
    assert len(errors) == 1, done.stdout + done.stderr
    assert errors[0].startswith(f"user.py:{last}: error: Incompatible types in assignment"), done.stdout
    assert total.startswith("Found 1 error")
