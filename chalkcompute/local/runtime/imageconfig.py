"""What an image's configuration says about running it.

Source: the OCI image specification (`config.md`); which of `command` and `args` replace what is that of
Kubernetes.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalkcompute.local.ports import ReplicaSpec, StartError

__all__ = ["ImageConfig", "foreign_platform"]

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How an image wants to be run.

    Attributes:
        entrypoint: First words of the command line.
        cmd: The words that follow.
        env: Environment.
        working_dir: Working directory.
        user: `user[:group]`, "" for root.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ImageConfig:
        """From the whole configuration; what is missing or of another type is as if it were not set."""
        config = document.get("config")
        config = config if isinstance(config, Mapping) else {}
        pairs = (entry.partition("=") for entry in _words(config.get("Env")))
        working_dir = str(config.get("WorkingDir") or "/")
        return cls(
            _words(config.get("Entrypoint")),
            _words(config.get("Cmd")),
            {name: value for name, _, value in pairs if name},
            working_dir if working_dir.startswith("/") else f"/{working_dir}",
            str(config.get("User") or ""),
        )

    def command_line(self, spec: ReplicaSpec) -> list[str]:
        """The program and its arguments.

        Raises:
            StartError: Neither the image nor the container names a program.
        """
        words = [*spec.command, *spec.args] if spec.command else [*self.entrypoint, *(spec.args or self.cmd)]
        if not words:
            raise StartError(
                f'failed to create containerd container: no command specified: image "{spec.image}" has '
                "neither an entry point nor a command, and the container has none either"
            )
        return words


def foreign_platform(document: Mapping[str, Any]) -> str | None:
    """The platform that an image is for, None when it is this machine's or none is named."""
    system = str(document.get("os") or "linux")
    machine = str(document.get("architecture") or "")
    own = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if system == "linux" and machine in ("", own):
        return None
    return f"{system}/{machine}"


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
