"""Replicas without namespaces: they see the machine's own root, and paths in their settings are rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalkcompute.local.ports import Mount, ReplicaSpec
from chalkcompute.local.runtime.hostbase import Interpreter
from chalkcompute.local.runtime.hostlayer import SITE_PACKAGES
from chalkcompute.local.runtime.plain import ADDRESS_VARIABLE
from chalkcompute.local.runtime.prepare import DEFAULT_PATH

__all__ = ["outside_plan"]


def outside_plan(
    plan: Mapping[str, Any],
    spec: ReplicaSpec,
    interpreter: Interpreter,
    *,
    programs: list[Path],
    merged: Path | None,
    home: Path,
    hook_address: str | None,
) -> dict[str, Any]:
    """PATH leads to the interpreter and into the image, HOME is a folder of the replica's own.

    Args:
        plan: What is to be run, in terms of the image.
        spec: The container.
        interpreter: The Python beneath the image.
        programs: Folders for the start of PATH.
        merged: The image's files, or None.
        home: The replica's own folder.
        hook_address: The Pod's address where Python's sockets are hooked, else None.
    """
    folders = [*programs, *([merged / "usr/local/bin"] if merged else ())]
    own = {"HOME": str(home), "PATH": ":".join([*map(str, folders), DEFAULT_PATH])}
    if hook_address is not None:
        own[ADDRESS_VARIABLE] = hook_address
    env = {**plan["env"], **own, **spec.env}
    if merged is not None:
        packages = merged / SITE_PACKAGES.format(minor=interpreter.minor)
        env["PYTHONPATH"] = ":".join(filter(None, (env.get("PYTHONPATH"), str(packages))))

    def moved(text: str) -> str:
        return _outside_path(text, spec.mounts, merged)

    return {
        **plan,
        "argv": [moved(word) for word in plan["argv"]],
        "env": {name: moved(value) for name, value in env.items()},
        "cwd": moved(plan["cwd"]),
    }


def _outside_path(text: str, mounts: tuple[Mount, ...], merged: Path | None) -> str:
    """A path below a mount's target or in the image, as a path of the host; any other text as it is."""
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if text == mount.target or text.startswith(mount.target.rstrip("/") + "/"):
            return str(mount.source) + text[len(mount.target.rstrip("/")) :]
    if merged is None or not text.startswith("/") or text.strip("/") == "" or "\0" in text:
        return text
    place, own = Path(f"{merged}{text}"), Path(text)
    try:
        # What is a folder in both is the machine's: /usr, /etc.
        if place.is_file() or (place.is_dir() and not own.is_dir()):
            return str(place)
    except OSError:  # too long for a path
        return text
    return text
