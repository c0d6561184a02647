"""Being asked to end, other than by Ctrl-C: it is the same to a command, so that it cleans up."""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["Terminated", "notice_termination"]


class Terminated(KeyboardInterrupt):
    """The process has been asked to end.

    Attributes:
        signum: By which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def notice_termination() -> None:
    """Raise `Terminated` on SIGTERM (a CI job that is cancelled) and SIGHUP (a terminal that is closed).

    By default they end the process where it stands: a lease would be kept, and the client certificate that
    the kubernetes client writes into a temporary file would stay on the disk. What the parent has told us to
    ignore (`nohup`) stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(signum: int, frame: Any) -> None:
    signal.signal(signum, signal.SIG_DFL)  # whoever asks twice does not want to wait
    raise Terminated(signum)
