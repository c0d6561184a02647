"""The cache of builds does not grow for ever."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

__all__ = ["tidy", "used"]

_KEPT_DAYS = 30  # since a layer was last used
_SCRATCH_DAYS = 2  # what a build that was killed left behind
_DAY = 86_400


def used(path: Path) -> None:
    """Remember that a cached file was of use."""
    path.touch()


def tidy(cache: Path, now: float | None = None) -> None:
    """Delete layers that no build has used for a month, and what killed builds left.

    Args:
        cache: The folder; it need not exist.
        now: Seconds since the epoch, None for the clock.
    """
    today = time.time() if now is None else now
    for pattern, days in (
        ("layers/*.tar.gz*", _KEPT_DAYS),
        ("layers/*.json", _KEPT_DAYS),
        ("blobs/*", _KEPT_DAYS),
        ("layers/site-*", _SCRATCH_DAYS),
        ("chalk-build-*", _SCRATCH_DAYS),
        ("chalk-engine-*", _SCRATCH_DAYS),
    ):
        for path in cache.glob(pattern):
            try:
                if path.lstat().st_mtime >= today - days * _DAY:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            except OSError:
                continue  # another's file, or gone already: a cache is no reason to fail
