"""The log of a replica: what it prints, read from a pipe and appended to a file of raw text.

Beside `0.log` stands `0.log.times`, one line for each read that began a line: the offset in the log and the
time (RFC 3339, UTC). It serves `kubectl logs --timestamps` and `--since`. A log that grows past its cap
moves to `0.log.1` (one is kept), as a kubelet rotates.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from chalkcompute.local.clock import utc_now

__all__ = ["LogPipe", "times_path"]

_CHUNK = 65536
_CAP_BYTES = 10 * 1024 * 1024


def times_path(log_path: Path) -> Path:
    """The index of times beside a log."""
    return log_path.with_name(log_path.name + ".times")


class LogPipe:
    """Copies a pipe to a log file on the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        cap_bytes: int = _CAP_BYTES,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._loop = loop
        self._path = path
        self._cap_bytes = cap_bytes
        self._now = now
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._times = self._open()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._offset = self._log.seek(0, os.SEEK_END)
        self._at_line_start = True
        self._closed: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._reader, self._copy)

    def close_writer(self) -> None:
        """The writing end is now only the replica's."""
        os.close(self.writer)

    async def drained(self, timeout_seconds: float) -> None:
        """Until every writer has closed, and all is in the file; gives up waiting after the time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), timeout_seconds)
        self.close()

    def close(self) -> None:
        """Copy what is there and stop."""
        if not self._closed.done():
            self._copy()
        self._finish()

    def _open(self) -> tuple[BinaryIO, BinaryIO]:
        return self._path.open("ab", buffering=0), times_path(self._path).open("ab", buffering=0)

    def _copy(self) -> None:
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._finish()
            return
        with contextlib.suppress(OSError):  # a full disk costs the log, not the replica
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        if self._offset + len(chunk) > self._cap_bytes and self._at_line_start:
            self._rotate()
        if self._at_line_start or b"\n" in chunk[:-1]:
            stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            self._times.write(f"{self._offset} {stamp}\n".encode())
        self._log.write(chunk)
        self._offset += len(chunk)
        self._at_line_start = chunk.endswith(b"\n")

    def _rotate(self) -> None:
        for path in (self._path, times_path(self._path)):
            path.replace(path.with_name(path.name + ".1"))
        self._log.close()
        self._times.close()
        self._log, self._times = self._open()
        self._offset = 0

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._log.close()
            self._times.close()
