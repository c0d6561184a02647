"""Start-up of the command line, as a ratio to `python -c "import click"` measured in the same run.

Usage: python benchmarks/cli_startup.py [ROUNDS]

The commands take turns, so that whatever else the machine does falls on all of them alike; of each the
median and the fastest round count. The aim is a ratio under 1.6.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

CHALK = str(Path(sys.executable).parent / "chalk")
BASE = "import click"
COMMANDS = {
    BASE: [sys.executable, "-c", BASE],
    "chalk --help": [CHALK, "--help"],
    "chalk scaling-group create --help": [CHALK, "scaling-group", "create", "--help"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for command in COMMANDS.values():
        seconds(command)  # fill the page cache and the .pyc files
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    for name, measured in times.items():
        median, best = statistics.median(measured), min(measured)
        base_median, base_best = statistics.median(times[BASE]), min(times[BASE])
        print(
            f"{name:36} median {median * 1000:6.1f} ms ({median / base_median:.2f} x)"
            f"   fastest {best * 1000:6.1f} ms ({best / base_best:.2f} x)"
        )


if __name__ == "__main__":
    main()
