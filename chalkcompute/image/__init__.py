"""`Image`: what a container image consists of, as an immutable description; nothing is built here."""

from chalkcompute.image.description import Image
from chalkcompute.image.parts import (
    AptInstall,
    CopyFiles,
    FromDockerfile,
    LocalDirectory,
    LocalFile,
    PipInstall,
    PipRequirements,
    RunCommands,
    Step,
)

__all__ = [
    "AptInstall",
    "CopyFiles",
    "FromDockerfile",
    "Image",
    "LocalDirectory",
    "LocalFile",
    "PipInstall",
    "PipRequirements",
    "RunCommands",
    "Step",
]
