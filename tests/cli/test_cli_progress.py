"""Progress: live on a terminal, one line per change elsewhere."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalk_cli.context import CliContext
from chalk_cli.main import cli
from chalk_cli.progress import LiveStep, progress_line
from chalkcompute.types import Progress
from tests.cli.memory_client import MemoryClient

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os
from chalk_cli.context import CliContext
from chalk_cli.main import cli
from tests.cli.memory_client import MemoryClient
cli(["sg", "create", "inference", "--image=a:b", "-o", "url"], obj=CliContext(MemoryClient().connect))
"""


@pytest.mark.parametrize(
    ("step", "elapsed", "line"),
    [
        (Progress("applying", "Deployment"), 0.0, "   0.0s  applying  Deployment"),
        (Progress("starting", "x", 1, 2, 1.5), 61.26, "  61.3s  starting  1/2 ready  x"),
        (Progress("done", ""), 0.0, "   0.0s  done"),
    ],
)
def test_a_line_of_progress(step: Progress, elapsed: float, line: str) -> None:
    assert progress_line(step, elapsed) == line


def test_the_seconds_of_a_live_line_go_on_without_a_new_step() -> None:
    now = itertools.count(100.0, 2.5)
    live = LiveStep(Progress("starting", "[x]", 0, 2), CliContext(environ={}, clock=lambda: next(now)))
    assert [str(live.__rich__()) for _ in range(2)] == [
        "   2.5s  starting  0/2 ready  [x]",
        "   5.0s  starting  0/2 ready  [x]",
    ]


def test_lines_count_from_the_start_of_the_command() -> None:
    now = itertools.count(100.0, 2.0)
    context = CliContext(MemoryClient().connect, {"CI": "1"}, clock=lambda: next(now))
    said = CliRunner().invoke(cli, ["sg", "create", "inference", "--image=a:b"], obj=context).stderr
    lines = [line.split()[:2] for line in said.splitlines() if line.startswith(" ")]
    assert lines == [["2.0s", "applying"], ["4.0s", "starting"], ["6.0s", "ready"]]


def on_a_terminal(environ: dict[str, str]) -> tuple[str, str]:
    """stdout, and what the terminal behind stderr was sent."""
    master, slave = os.openpty()
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
        cwd=ROOT,
        env={**keep, "PYTHONPATH": str(ROOT), **environ},
    )
    os.close(slave)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    sent = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says EIO, not end of file, once the other side is closed
            break
        if not chunk:
            break
        sent += chunk
    os.close(master)
    return out, sent.decode()


def test_live_on_a_terminal() -> None:
    out, sent = on_a_terminal({"TERM": "xterm"})
    assert out == "https://abc123-inference.gw.chalk.ai\n"
    assert "\x1b[?25l" in sent, "the cursor is hidden while a line is redrawn"
    assert "\x1b[?25h" in sent, "and shown again"
    assert "created" in sent


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "xterm", "CI": "true"}, {}])
def test_lines_on_a_terminal_that_cannot_redraw(environ: dict[str, str]) -> None:
    out, sent = on_a_terminal(environ)
    assert out == "https://abc123-inference.gw.chalk.ai\n"
    assert "\x1b" not in sent
    assert "every replica is ready" in sent


def test_no_color() -> None:
    _, coloured = on_a_terminal({"TERM": "xterm-256color"})
    _, plain = on_a_terminal({"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[32m" in coloured
    assert "\x1b[32m" not in plain
