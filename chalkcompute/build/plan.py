"""What a build depends on, as one key: the same key is the same image."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chalkcompute.errors import SpecError
from chalkcompute.image import (
    AptInstall,
    CopyFiles,
    FromDockerfile,
    Image,
    PipInstall,
    PipRequirements,
    RunCommands,
    Step,
)
from chalkcompute.sources import SourceSet
from chalkcompute.spec.checks import quoted

__all__ = ["FORMAT", "Plan", "canonical", "key_of", "make_plan", "must_run"]

FORMAT = 1  # raised when the same description comes to mean other bytes
_NESTED = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))(?P<path>\S.*)")
_LOCAL = re.compile(r"(?:-e\b|--editable\b|[./~])|.*\bfile:", re.IGNORECASE)
_PLATFORM = re.compile(r"linux/[a-z0-9]+(?:/v\d)?")


@dataclass(frozen=True, slots=True)
class Plan:
    """One build.

    Attributes:
        image: The description.
        steps: Those of it that are meant.
        copied: Files that become layers, in order.
        platforms: `linux/amd64`, …, sorted.
        requirement_files: Every requirements file that counts, and its content.
    """

    image: Image
    steps: tuple[Step, ...]
    copied: tuple[SourceSet, ...]
    platforms: tuple[str, ...]
    requirement_files: Mapping[Path, bytes]

    @property
    def packages(self) -> tuple[str, ...]:
        """Of all `pip_install`."""
        return tuple(p for step in self.steps if isinstance(step, PipInstall) for p in step.packages)

    @property
    def requirements(self) -> tuple[Path, ...]:
        """Of all `pip_install_from_requirements`."""
        return tuple(step.path for step in self.steps if isinstance(step, PipRequirements))

    @property
    def steps_to_run(self) -> tuple[Step, ...]:
        """Those that only a container engine can do, with all before the last of them."""
        last = max((n for n, step in enumerate(self.steps, start=1) if must_run(step)), default=0)
        return self.steps[:last]

    def split(self, number: int) -> tuple[Plan, Plan]:
        """The first `number` steps with the files that they copy, and the rest."""
        first, rest = self.steps[:number], self.steps[number:]
        taken = {step.item.destination for step in first if isinstance(step, CopyFiles)}
        early = tuple(files for files in self.copied if files.destination in taken)
        late = tuple(files for files in self.copied if files.destination not in taken)
        return replace(self, steps=first, copied=early), replace(self, steps=rest, copied=late)

    @property
    def python_packages(self) -> list[Any]:
        """What the Python packages depend on, for a key."""
        contents = self.requirement_files.values() if self.requirements else ()
        return [list(self.packages), [hashlib.sha256(raw).hexdigest() for raw in contents]]

    def key(self, base: Sequence[str]) -> str:
        """The key of the build.

        Args:
            base: Digests of what it starts from, and hashes of a build context.
        """
        image = self.image
        return key_of([self.steps_key(base), image.command, image.args])

    def steps_key(self, base: Sequence[str]) -> str:
        """The key of what the steps leave behind, whatever is started in it."""
        return key_of(
            {
                "base": list(base),
                "platforms": list(self.platforms),
                "steps": [_step(step) for step in self.steps],
                "packages": self.python_packages,
                "copied": [_files(files) for files in self.copied],
                "env": dict(self.image.variables),
                "workdir": self.image.working_dir,
            }
        )


def make_plan(image: Image, copied: Sequence[SourceSet], platforms: Sequence[str]) -> Plan:
    """Read what counts for the key.

    Raises:
        SpecError: A requirements file cannot be read or names something of this machine's disk, or a
            platform cannot be.
    """
    for platform in platforms:
        if not _PLATFORM.fullmatch(platform):
            raise SpecError(
                f"`{platform}` is no platform to build for",
                field="image",
                hint="write `linux/amd64` or `linux/arm64`",
            )
    if not platforms:
        raise SpecError("there is no platform to build for", field="image")
    contents: dict[Path, bytes] = {}
    for step in image.steps:
        if isinstance(step, PipRequirements):
            _read_requirements(step.path, contents)
    return Plan(image, image.steps, tuple(copied), tuple(sorted(set(platforms))), contents)


def key_of(value: object) -> str:
    """The hash of a JSON value, hexadecimal."""
    return hashlib.sha256(canonical({"format": FORMAT, "of": value})).hexdigest()


def canonical(value: object) -> bytes:
    """JSON whose bytes depend on the value alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def must_run(step: Step) -> bool:
    """Whether only a container engine can do it."""
    return isinstance(step, AptInstall | RunCommands | FromDockerfile)


def _step(step: Step) -> list[Any]:
    match step:
        case PipInstall(packages) | AptInstall(packages):
            return [type(step).__name__, *packages]
        case RunCommands(commands):
            return ["RunCommands", *commands]
        case CopyFiles(item):
            return ["CopyFiles", item.destination]
        case PipRequirements() | FromDockerfile():
            return [type(step).__name__]  # its content counts, not where it is


def _files(files: SourceSet) -> list[Any]:
    return [
        files.destination,
        files.is_directory,
        [[file.path, file.mode, file.sha256] for file in files.files],
    ]


def _read_requirements(path: Path, contents: dict[Path, bytes], named_at: str = "") -> None:
    if path in contents:
        return
    try:
        contents[path] = path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cannot read the requirements of `{path}`: {error.strerror}{named_at}", field="image"
        ) from None
    text = contents[path].decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        plain = re.sub(r"(?:^|\s)#.*", "", line).strip()
        nested = _NESTED.fullmatch(plain)
        if nested and "://" not in nested["path"]:
            below = path.parent / nested["path"].strip("\"'")
            _read_requirements(below, contents, f"; `{path}` line {number} names it")
        elif _LOCAL.match(plain):
            raise SpecError(
                f"`{path}` line {number} names something of this machine's disk: {quoted(plain)}",
                field="image",
                hint="`add_local_python_source` and `add_local_dir` bring local code into the image",
            )
