"""An `Image` as the text of a Dockerfile, for people; `chalkcompute.build` makes its own."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from chalkcompute.errors import SpecError
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

__all__ = ["apt_line", "config_lines", "copy_line", "dockerfile_text", "run_line", "setting_lines"]


class Described(Protocol):
    """What is read here of an `Image`, which imports this module."""

    @property
    def base_image(self) -> str | None: ...
    @property
    def steps(self) -> Sequence[Step]: ...
    @property
    def files(self) -> Sequence[LocalFile | LocalDirectory]: ...
    @property
    def variables(self) -> Sequence[tuple[str, str]]: ...
    @property
    def working_dir(self) -> str | None: ...
    @property
    def command(self) -> Sequence[str] | None: ...
    @property
    def args(self) -> Sequence[str] | None: ...


# What would not reach the shell as it is: a line break ends the instruction, a backslash at the end makes the
# next one part of it, `[` begins a list of arguments, and here-documents need BuildKit.
_NOT_PLAIN = re.compile(r"[\n\r]|\\$|^\[|<<")


def dockerfile_text(image: Described, folder: Path) -> str:
    """The whole image, its sources as seen from `folder`."""

    def seen(path: Path) -> str:
        return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)

    lines = [f"FROM {image.base_image}"] if image.base_image else []
    for step in image.steps:
        lines += _step_lines(step, seen)
    beside = [item for item in image.files if item.strategy == "volume"]
    lines += [_copy(item, seen) for item in beside]
    return "\n".join(lines + config_lines(image)) + "\n"


def _step_lines(step: Step, seen: Callable[[Path], str]) -> list[str]:
    match step:
        case FromDockerfile(path):
            try:
                return path.read_text(encoding="utf-8").rstrip().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise SpecError(f"cannot read the Dockerfile `{path}`: {reason}", field="image") from None
        case PipInstall(packages):
            return [f"RUN pip install --no-cache-dir {shlex.join(packages)}"]
        case PipRequirements(path):
            inside = f"/tmp/{path.name}"
            return [
                copy_line(seen(path), inside),
                f"RUN pip install --no-cache-dir -r {shlex.quote(inside)}",
            ]
        case AptInstall(packages):
            return [apt_line(packages)]
        case RunCommands(commands):
            return [run_line(command) for command in commands]
        case CopyFiles(item):
            return [_copy(item, seen)]


def _copy(item: LocalFile | LocalDirectory, seen: Callable[[Path], str]) -> str:
    if isinstance(item, LocalDirectory):
        return copy_line(seen(item.source) + "/", item.destination + "/")
    return copy_line(seen(item.source), item.destination, mode=item.mode)


def copy_line(source: str, destination: str, *, mode: int | None = None) -> str:
    """`COPY`, in the JSON form where a path has white space or the like."""
    flag = "" if mode is None else f"--chmod={mode:04o} "
    plain = all(re.fullmatch(r"[A-Za-z0-9_./@+,=:~-]+", path) for path in (source, destination))
    return f"COPY {flag}" + (f"{source} {destination}" if plain else json.dumps([source, destination]))


def apt_line(packages: Sequence[str]) -> str:
    """One layer, no recommended packages, no lists left behind."""
    return (
        "RUN apt-get update && apt-get install -y --no-install-recommends "
        f"{shlex.join(packages)} && rm -rf /var/lib/apt/lists/*"
    )


def run_line(command: str) -> str:
    """`RUN` of one shell command, of several lines too."""
    text = command.strip()
    if not _NOT_PLAIN.search(text):
        return f"RUN {text}"
    return "RUN " + json.dumps(["/bin/sh", "-c", text])


def setting_lines(image: Described) -> list[str]:
    """Environment and working folder: what steps see, too."""
    lines = [
        f"# ENV {name} has a line break in it, which no Dockerfile can say"
        if "\n" in value
        else _env_line(name, value)
        for name, value in image.variables
    ]
    if image.working_dir is not None:
        lines.append("WORKDIR " + re.sub(r"([\\$])", r"\\\1", image.working_dir))  # nothing is expanded
    return lines


def config_lines(image: Described) -> list[str]:
    """Environment, working folder, entrypoint and arguments."""
    lines = setting_lines(image)
    if image.command is not None:
        lines.append(f"ENTRYPOINT {json.dumps(list(image.command))}")
    if image.args is not None:
        lines.append(f"CMD {json.dumps(list(image.args))}")
    return lines


def _env_line(name: str, value: str) -> str:
    """`ENV`, quoted so that nothing of it is expanded."""
    escaped = re.sub(r'(["\\$])', r"\\\1", value)
    return f'ENV {name}="{escaped}"'
