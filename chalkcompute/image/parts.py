"""The parts of a description: steps in their order, and the local files that come with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = [
    "AptInstall",
    "CopyFiles",
    "FromDockerfile",
    "LocalDirectory",
    "LocalFile",
    "PipInstall",
    "PipRequirements",
    "RunCommands",
    "Step",
    "Strategy",
]

Strategy: TypeAlias = Literal["volume", "copy"]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One local file.

    Attributes:
        source: The file, absolute.
        destination: Absolute path in the container, of the file itself.
        mode: Permission bits there, 0 to 0o777; None keeps whether it can be executed.
        strategy: "volume" is delivered beside the image, "copy" is part of it.
    """

    source: Path
    destination: str
    mode: int | None = None
    strategy: Strategy = "volume"


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A local directory with all below it that its ignore files leave in.

    Attributes:
        source: The directory, absolute.
        destination: Absolute path in the container, of the directory itself.
        exclude: More patterns of what stays out, in the grammar of `.gitignore`; they have the last word.
        strategy: "volume" is delivered beside the image, "copy" is part of it.
    """

    source: Path
    destination: str
    exclude: tuple[str, ...] = ()
    strategy: Strategy = "volume"


@dataclass(frozen=True, slots=True)
class PipInstall:
    """Python packages.

    Attributes:
        packages: Requirements as pip knows them (PEP 508).
    """

    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PipRequirements:
    """Python packages of a requirements file.

    Attributes:
        path: The file, absolute; read when the image is built.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class AptInstall:
    """Debian packages; needs a container engine.

    Attributes:
        packages: Names, each perhaps with `=version`.
    """

    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunCommands:
    """Shell commands, each a layer of its own; need a container engine.

    Attributes:
        commands: One `RUN` each.
    """

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FromDockerfile:
    """A Dockerfile to start from; needs a container engine.

    Attributes:
        path: The file, absolute; its folder is the build context.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """Where in the order of steps a file or directory of strategy "copy" goes into the image.

    Attributes:
        item: What is copied.
    """

    item: LocalFile | LocalDirectory


Step: TypeAlias = PipInstall | PipRequirements | AptInstall | RunCommands | FromDockerfile | CopyFiles
