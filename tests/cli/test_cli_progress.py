"""Progress: live on a terminal, one line per change elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chalk_cli.progress import progress_line
from chalkcompute.types import Progress

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os
from chalk_cli.context import CliContext
from chalk_cli.main import cli
from tests.cli.memory_client import MemoryClient
cli(["sg", "create", "inference", "--image=a:b", "-o", "url"], obj=CliContext(MemoryClient().connect))
"""


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Progress("applying", "Deployment"), "   0.0s  applying  Deployment"),
        (Progress("starting", "x", 1, 2, 61.26), "  61.3s  starting  1/2 ready  x"),
        (Progress("done", ""), "   0.0s  done"),
    ],
)
def test_a_line_of_progress(step: Progress, line: str) -> None:
    assert progress_line(step) == line


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
