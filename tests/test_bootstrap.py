"""The scripts behind `make`: what they choose, and what they say when there is nothing to choose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.fetch_pip import Links, index_url, newest_wheel

ROOT = Path(__file__).parents[1]
PAGE = """
<a href="../../packages/ab/pip-9.0.1-py2.py3-none-any.whl#sha256=00">old</a>
<a href="../../packages/ab/pip-24.0-py3-none-any.whl#sha256=24">pip</a>
<a href="../../packages/ab/pip-9.3-py3-none-any.whl#sha256=93">pip</a>
<a href="../../packages/ab/pip-25.0b1-py3-none-any.whl#sha256=25">a beta</a>
<a href="../../packages/ab/pip-99.0-py3-none-any.whl">no hash</a>
<a href="../../packages/ab/pip-24.1.tar.gz#sha256=ff">source</a><a>nothing</a>
"""


def test_the_newest_final_wheel_with_a_hash() -> None:
    links = Links()
    links.feed(PAGE)
    assert newest_wheel(links.targets) == "../../packages/ab/pip-24.0-py3-none-any.whl#sha256=24"
    with pytest.raises(SystemExit, match="no wheel"):
        newest_wheel([])


def test_the_index_is_the_one_that_pip_would_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "https://registry.example/simple/")
    assert index_url() == "https://registry.example/simple"
    monkeypatch.delenv("PIP_INDEX_URL")
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text("[global]\nindex-url = https://other.example/%/simple\n")
    assert index_url() == "https://other.example/%/simple"


def make_venv(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "scripts" / "make_venv.sh"), str(folder)],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_at_all_says_what_was_tried(tmp_path: Path) -> None:
    done = make_venv(tmp_path / "venv", "/nowhere/python3")
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr
    assert "/nowhere/python3" in done.stderr


def test_an_environment_that_works_is_left_alone(tmp_path: Path) -> None:
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    python = bin_folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert make_venv(tmp_path / "venv", "/nowhere/python3").returncode == 0
    assert python.read_text().startswith("#!/bin/sh")


RECORD = """#!/bin/sh
{ echo "$(basename "$0") $*"; env | grep '^CHALK_'; } >> "$LOG"
[ "$*" != "local kubeconfig" ] || echo /the/kubeconfig
"""


def test_the_demonstration_is_not_disturbed_by_settings_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "demo.sh"
    script.write_text((ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8"))
    example = tmp_path / "examples" / "hello" / "service.py"
    example.parent.mkdir(parents=True)
    example.touch()
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("chalk", "python"):
        (bin_folder / name).write_text(RECORD)
        (bin_folder / name).chmod(0o755)
    mine = {"CHALK_LOCAL_HOME": "/my/home", "CHALK_LOCAL_UP_HTTPS_PORT": "9443"}
    log = tmp_path / "log"
    disturbing = (
        "CHALK_GATEWAY_PORT CHALK_CA_FILE CHALK_QUIET CHALK_OUTPUT CHALK_CONTEXT CHALK_KUBECONFIG "
        "CHALK_ENV_FILE CHALK_SCALING_GROUP_CREATE_TIMEOUT CHALK_LOCAL_UP_OUTPUT CHALK_TABLE_FORMAT"
    )
    done = subprocess.run(
        ["sh", str(script)],
        env={
            "PATH": os.environ["PATH"],
            "LOG": str(log),
            **mine,
            **dict.fromkeys(disturbing.split(), "1\n2=3"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "chalk local down" in done.stdout
    said = log.read_text().splitlines()
    ran = [line for line in said if not line.startswith("CHALK_")]
    assert ran[0] == "chalk local up"
    assert "python - hello / 12" in ran
    assert ran[-1] == "chalk scaling-group delete hello-flask"
    seen = {line for line in said if line.startswith("CHALK_")}
    assert seen == {f"{name}={value}" for name, value in mine.items()} | {
        "CHALK_ENV_FILE=/dev/null",
        "CHALK_KUBECONFIG=/the/kubeconfig",
    }
