"""Paths of an image, resolved as if its folder were the root: no symbolic link leads out of it.

Used by the init, too, which imports nothing but the standard library and its neighbours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

__all__ = ["resolve"]

_MOST_LINKS = 40  # the kernel's own limit


def resolve(path: str, link_at: Callable[[str], str | None]) -> str:
    """Follow every symbolic link of a path.

    Args:
        path: A path of the image; `..` at its root stays there.
        link_at: Where the link at a path leads that holds no links itself, None when no link is there.

    Returns:
        The absolute path in the image; it need not exist.

    Raises:
        OSError: Links that lead in a circle.
    """
    pending = _parts(path)
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del done[-1:]
            continue
        done.append(part)
        target = link_at("/" + "/".join(done))
        if target is None:
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, f"{os.strerror(errno.ELOOP)}: {path}")
        done = [] if target.startswith("/") else done[:-1]
        pending += _parts(target)
    return "/" + "/".join(done)


def _parts(path: str) -> list[str]:
    """The parts of a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
