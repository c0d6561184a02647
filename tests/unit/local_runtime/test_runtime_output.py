from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from chalkcompute.local.runtime.output import LogPipe, times_path


def copy(path: Path, chunks: list[bytes], cap_bytes: int = 1 << 20) -> None:
    async def main() -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
        pipe = LogPipe(asyncio.get_running_loop(), path, cap_bytes=cap_bytes, now=lambda: moment)
        for chunk in chunks:
            os.write(pipe.writer, chunk)
            await asyncio.sleep(0.01)
        pipe.close_writer()
        await pipe.drained(5)

    asyncio.run(main())


def test_output_is_copied_with_times(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "0.log"
    copy(path, [b"one\ntw", b"o\n", b"three\n"])
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    stamp = "2026-01-02T03:04:05.678901000Z"
    assert times_path(path).read_text() == f"0 {stamp}\n8 {stamp}\n"


def test_a_log_that_grows_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    copy(path, [b"a" * 59 + b"\n", b"b" * 59 + b"\n", b"c\n"], cap_bytes=100)
    assert path.read_bytes() == b"b" * 59 + b"\nc\n"
    assert (tmp_path / "0.log.1").read_bytes() == b"a" * 59 + b"\n"


def test_it_does_not_wait_forever_for_a_writer(tmp_path: Path) -> None:
    async def main() -> None:
        pipe = LogPipe(asyncio.get_running_loop(), tmp_path / "0.log")
        keeper = os.dup(pipe.writer)
        os.write(keeper, b"last words\n")
        pipe.close_writer()
        await pipe.drained(0.01)
        os.close(keeper)

    asyncio.run(main())
    assert (tmp_path / "0.log").read_text() == "last words\n"
