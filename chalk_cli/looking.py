"""Looking again and again: at an interval, through a moment's trouble, on a terminal or in a pipe."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, TypeVar

from chalk_cli.signals import Terminated
from chalkcompute.errors import ClusterError, is_outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.live import Live

    from chalk_cli.context import CliContext

__all__ = ["Screen", "draws", "repeatedly", "until_interrupted"]

T = TypeVar("T")
_GLANCE_SECONDS = 0.5  # that often a terminal is asked whether it has another size


def repeatedly(
    read: Callable[[], T],
    *,
    interval: float,
    count: int | None,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Iterator[T | ClusterError]:
    """What is read at each interval, or what kept it from being read for the moment.

    The first look must succeed: what it fails of is a mistake rather than a moment's trouble.

    Args:
        read: Reads.
        interval: Seconds from the beginning of one look to that of the next.
        count: How many looks, None for ever.
        clock: Seconds.
        pause: Waits that many seconds.

    Raises:
        ClusterError: The first or the last look failed, or one in a way that will not pass by itself.
    """
    looks = 0
    while True:
        began = clock()
        seen: T | ClusterError
        try:
            seen = read()
        except ClusterError as error:
            if looks == 0 or looks + 1 == count or not is_outage(error):
                raise
            seen = error
        yield seen
        looks += 1
        if looks == count:
            return
        pause(max(interval - (clock() - began), 0.0))


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C is how one ends this, and no failure; being told to terminate stays one."""
    try:
        yield
    except Terminated:
        raise
    except KeyboardInterrupt:
        return


def draws(context: CliContext) -> bool:
    """Whether stdout is a terminal that can be drawn upon, and not a build log."""
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and not context.environ.get("CI")
        and context.environ.get("TERM", "") not in ("", "dumb")
    )


class Screen:
    """A terminal's whole screen, drawn anew at each look; the last picture stays when it ends.

    Args:
        context: Tells whether there may be colour.

    Attributes:
        pause: Waits, and draws again when the terminal gets another size.
    """

    def __init__(self, context: CliContext) -> None:
        from rich.console import Console
        from rich.live import Live

        no_color = True if context.environ.get("NO_COLOR") else None
        self.console: Console = Console(no_color=no_color, highlight=False)
        self._live: Live = Live(console=self.console, screen=True, auto_refresh=False)
        self._context = context
        self._picture: Callable[[int, int], RenderableType] | None = None

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()
        if self._picture is not None:
            self.console.print(self._picture(self.console.width, self.console.height))

    def show(self, picture: Callable[[int, int], RenderableType]) -> None:
        """Draw what `picture` gives for a width and a height."""
        self._picture = picture
        self._live.update(picture(self.console.width, self.console.height), refresh=True)

    def pause(self, seconds: float) -> None:
        """Wait, and draw again when the terminal gets another size."""
        # Not by shutil: where COLUMNS is empty, it turns a Ctrl-C of that moment into the ValueError that it
        # passes over (int("") asks for a repr, which looks for signals).
        size = self.console.size
        while seconds > 0:
            self._context.pause(min(seconds, _GLANCE_SECONDS))
            seconds -= _GLANCE_SECONDS
            if (now := self.console.size) != size and self._picture is not None:
                size = now
                self.show(self._picture)
