"""Progress of a wait, on stderr: live on a terminal, one line per change elsewhere, nothing with -q."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from chalk_cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.text import Text

    from chalk_cli.context import CliContext
    from chalkcompute.types import Progress

__all__ = ["LiveStep", "progress_line", "show_progress"]


def progress_line(step: Progress, elapsed: float) -> str:
    """`  3.2s  starting  1/2 ready  waiting for replicas`.

    Args:
        step: What goes on; its own `elapsed` starts anew with each call of the SDK and is not shown.
        elapsed: Seconds since the command began.
    """
    counts = f"  {step.ready}/{step.desired} ready" if step.desired else ""
    return f"{elapsed:6.1f}s  {step.phase}{counts}  {printable(step.message)}".rstrip()


@contextlib.contextmanager
def show_progress(context: CliContext) -> Iterator[Callable[[Progress], None]]:
    """Give a function that draws a step, in the way that suits stderr."""
    if not context.talks:
        yield lambda step: None
    elif is_live(context):
        from rich.console import Console

        console = Console(stderr=True, no_color=True if context.environ.get("NO_COLOR") else None)
        with console.status("") as status:
            yield lambda step: status.update(LiveStep(step, context))
    else:
        yield lambda step: click.echo(progress_line(step, context.elapsed), err=True)


def is_live(context: CliContext) -> bool:
    """Whether stderr is a terminal that can redraw a line, and not a build log."""
    return (
        sys.stderr.isatty()
        and not context.environ.get("CI")
        and context.environ.get("TERM", "") not in ("", "dumb")
    )


class LiveStep:
    """A step whose seconds go on: rich asks for its text at every redraw, several times a second."""

    def __init__(self, step: Progress, context: CliContext) -> None:
        self._step = step
        self._context = context

    def __rich__(self) -> Text:
        """The line as of now."""
        from rich.text import Text

        return Text(progress_line(self._step, self._context.elapsed))
