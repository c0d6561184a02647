"""Progress of a wait, on stderr: live on a terminal, one line per change elsewhere, nothing with -q."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from chalk_cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chalk_cli.context import CliContext
    from chalkcompute.types import Progress

__all__ = ["progress_line", "show_progress"]


def progress_line(step: Progress) -> str:
    """`  3.2s  starting  1/2 ready  waiting for replicas`."""
    counts = f"  {step.ready}/{step.desired} ready" if step.desired else ""
    return f"{step.elapsed:6.1f}s  {step.phase}{counts}  {printable(step.message)}".rstrip()


@contextlib.contextmanager
def show_progress(context: CliContext) -> Iterator[Callable[[Progress], None]]:
    """Give a function that draws a step, in the way that suits stderr."""
    if not context.talks:
        yield lambda step: None
    elif is_live(context):
        from rich.console import Console

        console = Console(stderr=True, no_color=True if context.environ.get("NO_COLOR") else None)
        with console.status("") as status:
            yield lambda step: status.update(_escape(progress_line(step)))
    else:
        yield lambda step: click.echo(progress_line(step), err=True)


def is_live(context: CliContext) -> bool:
    """Whether stderr is a terminal that can redraw a line, and not a build log."""
    return (
        sys.stderr.isatty()
        and not context.environ.get("CI")
        and context.environ.get("TERM", "") not in ("", "dumb")
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
