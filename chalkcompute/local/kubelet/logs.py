"""Where the output of containers is kept: `<logs_dir>/<namespace>_<pod>_<uid>/<container>/<run>.log`."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from chalkcompute.local.ports import Manifest

__all__ = ["LogSource", "LogStore", "tail"]

_KEPT_RUNS = 3
_TAIL_LINES = 80
_TAIL_BYTES = 2048


class LogStore:
    """The log files of all containers on this node; implements the API server's `LogSource`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current: dict[tuple[str, str], int] = {}

    def open(self, namespace: str, pod: str, pod_uid: str, container: str, previous: bool) -> Path | None:
        """The file of the current run (the last one, when none is running) or of the one before."""
        folder = self._pod_folder(namespace, pod, pod_uid) / container
        runs = _runs(folder)
        current = self._current.get((pod_uid, container))
        if previous and current is not None:
            runs = [run for run in runs if run < current]
        return folder / f"{runs[-1]}.log" if runs else None

    def begin(self, pod: Manifest, container: str, run: int) -> Path:
        """The file for a new run; the oldest runs go."""
        metadata = pod["metadata"]
        folder = self._pod_folder(metadata["namespace"], metadata["name"], metadata["uid"]) / container
        folder.mkdir(parents=True, exist_ok=True)
        for old in _runs(folder)[: -(_KEPT_RUNS - 1)]:
            for path in folder.glob(f"{old}.log*"):
                path.unlink(missing_ok=True)
        self._current[metadata["uid"], container] = run
        return folder / f"{run}.log"

    def retire(self, pod_uid: str, container: str) -> None:
        """The run has ended and another is to come: it is now the previous one."""
        self._current.pop((pod_uid, container), None)

    def remove(self, pod: Manifest) -> None:
        """The Pod is gone, and its logs with it."""
        metadata = pod["metadata"]
        folder = self._pod_folder(metadata["namespace"], metadata["name"], metadata["uid"])
        shutil.rmtree(folder, ignore_errors=True)
        for key in [key for key in self._current if key[0] == metadata["uid"]]:
            del self._current[key]

    def keep_only(self, pod_uids: Collection[str]) -> None:
        """Remove the logs of Pods that went while nobody looked."""
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name.rpartition("_")[2] not in pod_uids:
                    shutil.rmtree(folder, ignore_errors=True)

    def _pod_folder(self, namespace: str, pod: str, uid: str) -> Path:
        return self._folder / f"{namespace}_{pod}_{uid}"


LogSource = LogStore


def _runs(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit())


def tail(path: Path) -> str:
    """The last 80 lines, at most 2048 bytes: what `FallbackToLogsOnError` puts into the status."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _TAIL_BYTES))
            data = file.read()
    except OSError:
        return ""
    lines = data.splitlines(keepends=True)[-_TAIL_LINES:]
    return b"".join(lines).decode(errors="replace")
