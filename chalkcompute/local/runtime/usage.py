"""What a replica's processes use, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessUsage", "process_tree", "proportional_memory", "usage_of"]

PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat after the parenthesised name: utime, stime, cutime, cstime, rss.
_CPU_FIELDS = slice(11, 15)
_RSS_FIELD = 21


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What processes have used.

    Attributes:
        cpu_seconds: User and system time, of ended children too.
        resident_bytes: Resident memory now.
    """

    cpu_seconds: float
    resident_bytes: int


def process_tree(pid: int, *, proc: Path = PROC) -> list[int]:
    """A process and everything below it, parents first; the process alone where there is no /proc."""
    return list(_tree(pid, proc))


def usage_of(pids: Iterable[int], *, proc: Path = PROC) -> ProcessUsage:
    """The usage of processes; zeros where there is no /proc."""
    ticks = pages = 0
    for pid in pids:
        # IndexError: it ended while it was read.
        with contextlib.suppress(OSError, IndexError):
            fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            pages += int(fields[_RSS_FIELD])
            ticks += sum(int(field) for field in fields[_CPU_FIELDS])
    return ProcessUsage(ticks / _TICKS_PER_SECOND, pages * _PAGE_BYTES)


def proportional_memory(pids: Iterable[int], *, proc: Path = PROC) -> int:
    """Memory of processes in bytes, pages that several share counted once.

    Workers forked from one parent share most of their memory: the sum of what is resident counts it for
    each of them. This is slower to read, so ask only when the sum is too much.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            for line in (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _tree(pid: int, proc: Path) -> Iterator[int]:
    yield pid
    # Threads have children, too.
    for children in (proc / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from _tree(int(child), proc)
