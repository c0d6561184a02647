"""Blocking work beside the loop, in threads that never hold up the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """Runs functions in daemon threads, a few at a time.

    `asyncio.to_thread` is not used: its threads are waited for at exit, and one that waits for a registry
    may take minutes.
    """

    def __init__(self, most: int) -> None:
        """Make it.

        Args:
            most: Threads at a time.
        """
        self._turns = asyncio.Semaphore(most)

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns or raises. Cancelled, it stops waiting; the thread goes on."""
        async with self._turns:
            loop = asyncio.get_running_loop()
            outcome: asyncio.Future[T] = loop.create_future()

            def settle(error: BaseException | None, value: T | None) -> None:
                if outcome.cancelled():
                    return
                if error is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(value)  # type: ignore[arg-type]  # of T, where there is no error

            def work() -> None:
                value, error = None, None
                try:
                    value = function()
                except BaseException as caught:  # raised where it is waited for
                    error = caught
                with contextlib.suppress(RuntimeError):  # the loop has closed
                    loop.call_soon_threadsafe(settle, error, value)

            threading.Thread(target=work, name="image transfer", daemon=True).start()
            return await outcome
