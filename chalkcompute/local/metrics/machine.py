"""What this machine uses in all, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MachineReading", "read_machine"]

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of the line `cpu` in /proc/stat: user nice system idle iowait irq softirq steal; guests are in user already.
_TIMES = slice(1, 9)
_IDLE, _IOWAIT = 3, 4


@dataclass(frozen=True, slots=True)
class MachineReading:
    """The machine at one moment.

    Attributes:
        cpu_seconds: Time in which its cores were not idle, since it started.
        memory_bytes: Memory that is not available to new programs.
    """

    cpu_seconds: float
    memory_bytes: int


def read_machine(proc: Path = Path("/proc")) -> MachineReading | None:
    """A reading, or None where there is no Linux /proc (macOS)."""
    try:
        times = [int(word) for word in (proc / "stat").read_text().splitlines()[0].split()[_TIMES]]
        lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
        kibibytes = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
        used = kibibytes["MemTotal"] - kibibytes["MemAvailable"]
    except (OSError, LookupError, ValueError):
        return None
    busy = sum(times) - times[_IDLE] - times[_IOWAIT]
    return MachineReading(busy / _TICKS_PER_SECOND, used * 1024)
