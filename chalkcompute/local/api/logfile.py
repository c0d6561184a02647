"""Reading a container's log file while it grows: the tail of it, since a time, with times, across rotation.

The file is raw text. Beside `0.log` stands `0.log.times`, lines of `OFFSET TIME` (RFC 3339): what begins at
that offset was printed at that time.
"""

from __future__ import annotations

import bisect
import io
import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

__all__ = ["LogFile"]

_BLOCK = 64 * 1024


class LogFile:
    """One log, from where `begin` puts it.

    Args:
        path: The file.
        stamped: Put its time before every line.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, *, stamped: bool = False) -> None:
        self._path = path
        self._stamped = stamped
        self._file = path.open("rb")
        self._unfinished = b""
        self._line_start = 0

    def __enter__(self) -> LogFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def begin(self, tail_lines: int | None, since: datetime | None) -> None:
        """Start at the last lines, and not before a time; None for either is from the beginning."""
        position = 0 if tail_lines is None else _tail_position(self._file, tail_lines)
        if since is not None:
            position = max(position, self._since_position(since))
        self._line_start = self._file.seek(position)

    def read(self) -> bytes:
        """What has come since the last call; empty when there is nothing new."""
        block = self._file.read(_BLOCK)
        if not block and self._rotated():
            self._file.close()
            self._file = self._path.open("rb")
            block, self._line_start = self._file.read(_BLOCK), 0
        if not self._stamped:
            return block
        *lines, self._unfinished = (self._unfinished + block).split(b"\n")
        return b"".join(self._stamp(line + b"\n") for line in lines)

    def rest(self) -> bytes:
        """The last line, when it ended without a line break."""
        line, self._unfinished = self._unfinished, b""
        return self._stamp(line) if line else b""

    def _stamp(self, line: bytes) -> bytes:
        times = self._times()
        index = bisect.bisect_right(times, self._line_start, key=lambda entry: entry[0]) - 1
        self._line_start += len(line)
        return f"{times[index][1]} ".encode() + line if index >= 0 else line

    def _times(self) -> list[tuple[int, str]]:
        """Offsets and the times from which they were printed, in order."""
        path = self._path.with_name(self._path.name + ".times")
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            return []
        pairs = (line.split(" ", 1) for line in lines)
        return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2]

    def _since_position(self, since: datetime) -> int:
        for offset, text in self._times():
            # Python reads times to the microsecond; the file has nanoseconds.
            if datetime.fromisoformat(text[:26] + "+00:00") >= since:
                self._file.seek(max(0, offset - 1))
                if offset and self._file.read(1) != b"\n":
                    self._file.readline()
                    return self._file.tell()
                return offset
        return self._file.seek(0, io.SEEK_END)

    def _rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


def _tail_position(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines begin; an unfinished last line counts as one."""
    position = file.seek(0, io.SEEK_END)
    if not lines or not position:
        return position
    file.seek(position - 1)
    wanted = lines + (file.read(1) == b"\n")
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        block = file.read(position - start)
        end = len(block)
        while (found := block.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if not wanted:
                return start + found + 1
            end = found
        position = start
    return 0
