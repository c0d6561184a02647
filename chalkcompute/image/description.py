"""The public class `Image`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from chalkcompute.errors import SpecError
from chalkcompute.image import checks
from chalkcompute.image.dockerfile import dockerfile_text
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
from chalkcompute.spec.images import validate_image

__all__ = ["Image"]

_HOW = "make one with `Image.debian_slim(…)`, `Image.base(…)` or `Image.from_dockerfile(…)`"
_SOURCES = "/app"  # where the vendor's SDK puts Python sources


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Image:
    """What a container image consists of. Immutable: each method returns a new `Image`.

    Equal descriptions are equal images: the same description is built once, wherever it is built.
    Steps are taken in the order of the calls; environment, working folder, entrypoint and arguments are
    configuration, and their place in the order does not matter.

    Attributes:
        base_image: Reference of the image it starts from; "" for one of `from_dockerfile`.
        steps: What happens to it, in order.
        files: Local files and directories, of both strategies.
        command: The entrypoint, None for the base's own. Kubernetes: `containers[].command`.
        args: The arguments after it, None for the base's own. Kubernetes: `containers[].args`.
        variables: Environment variables, by name. Kubernetes: `containers[].env`.
        working_dir: Where the process starts, None for the base's own. Kubernetes: `containers[].workingDir`.
    """

    base_image: str
    steps: tuple[Step, ...]
    files: tuple[LocalFile | LocalDirectory, ...]
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    variables: tuple[tuple[str, str], ...]
    working_dir: str | None

    def __init__(self, *_: object, **__: object) -> None:
        raise SpecError("an Image is not made by calling `Image`", field=checks.FIELD, hint=_HOW)

    @classmethod
    def _of(cls, base_image: str, steps: tuple[Step, ...] = ()) -> Image:
        start: dict[str, Any] = {
            "base_image": base_image,
            "steps": steps,
            "files": (),
            "command": None,
            "args": None,
            "variables": (),
            "working_dir": None,
        }
        return cls._made(start)

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Image:
        made = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    def _with(self, **changes: Any) -> Image:
        return self._made({field.name: getattr(self, field.name) for field in fields(self)} | changes)

    def _step(self, step: Step) -> Image:
        return self._with(steps=(*self.steps, step))

    # --- where it starts

    @classmethod
    def debian_slim(cls, python_version: str = "3.12") -> Image:
        """Debian 13 with Python: the official image `python:<version>-slim-trixie`.

        Args:
            python_version: `3.12` or `3.12.4`; default 3.12.

        Raises:
            SpecError: Not a version of Python 3.
        """
        return cls._of(f"python:{checks.check_python_version(python_version)}-slim-trixie")

    @classmethod
    def base(cls, reference: str) -> Image:
        """Any image of a registry.

        Args:
            reference: `python:3.12`, `registry.example/team/base@sha256:…`.

        Raises:
            SpecError: Not an image reference. Whether it exists is found out when it is built or run.
        """
        return cls._of(validate_image(reference))

    @classmethod
    def from_dockerfile(cls, path: str | os.PathLike[str]) -> Image:
        """What a Dockerfile builds, with its folder as the context (its `.dockerignore` counts).

        Needs a container engine where it is built.

        Args:
            path: The Dockerfile.

        Raises:
            SpecError: It is not there, or not a file.
        """
        found = checks.source(path, what="the Dockerfile")
        if not found.is_file():
            raise SpecError(f"the Dockerfile `{found}` is not a file", field=checks.FIELD)
        return cls._of("", (FromDockerfile(found),))

    # --- steps

    def pip_install(self, packages: Sequence[str]) -> Image:
        """Python packages, from wheels; all of an image are resolved together.

        Args:
            packages: Requirements as pip knows them: `flask`, `numpy>=2,<3`, `package @ https://…`.

        Raises:
            SpecError: Not a list, an empty one, an option, or a path of this machine.
        """
        return self._step(PipInstall(checks.check_packages(packages)))

    def pip_install_from_requirements(self, path: str | os.PathLike[str]) -> Image:
        """Python packages of a requirements file, read when the image is built.

        Args:
            path: The file, in the format of pip (`-r`, `-c`, `--index-url` and comments are understood).

        Raises:
            SpecError: It is not there, or not a file.
        """
        found = checks.source(path, what="the requirements file")
        if not found.is_file():
            raise SpecError(f"the requirements file `{found}` is not a file", field=checks.FIELD)
        return self._step(PipRequirements(found))

    def apt_install(self, packages: Sequence[str]) -> Image:
        """Debian packages, without those that they only recommend. Needs a container engine.

        Args:
            packages: Names, each perhaps with `=version`.

        Raises:
            SpecError: Not a list, an empty one, or what cannot be a package.
        """
        return self._step(AptInstall(checks.check_apt_packages(packages)))

    def run_commands(self, *commands: str) -> Image:
        """Shell commands, in order. Need a container engine.

        Raises:
            SpecError: No command, or an empty one.
        """
        if len(commands) == 1 and not isinstance(commands[0], str) and isinstance(commands[0], Sequence):
            raise SpecError(
                "`run_commands` takes the commands one by one, not a list",
                field=checks.FIELD,
                hint="write a `*` in front of the list",
            )
        return self._step(RunCommands(checks.check_texts(commands, "run_commands", example="make")))

    # --- files

    def add_local_file(
        self,
        src: str | os.PathLike[str],
        dst: str,
        *,
        mode: int | None = None,
        strategy: Literal["volume", "copy"] = "volume",
    ) -> Image:
        """A file of this machine.

        Args:
            src: The file; a relative path is of the working folder now.
            dst: Absolute path in the container; with a slash at its end it is the folder to put it into.
            mode: Permission bits, 0 to 0o777; default 0o755 when it can be executed here, or else 0o644.
            strategy: "volume": delivered beside the image, so that a change needs no build. "copy": a layer
                of the image.

        Raises:
            SpecError: No such file, a relative destination, or something is there already.
        """
        found = checks.source(src, what="the file")
        if found.is_dir():
            raise SpecError(
                f"`{found}` is a directory", field=checks.FIELD, hint="`add_local_dir` takes directories"
            )
        if not found.is_file():
            raise SpecError(f"`{found}` is neither a file nor a directory", field=checks.FIELD)
        return self._file(
            LocalFile(
                found,
                checks.file_destination(dst, found.name),
                checks.check_mode(mode),
                checks.check_strategy(strategy),
            )
        )

    def add_local_dir(
        self,
        src: str | os.PathLike[str],
        dst: str,
        *,
        exclude: Sequence[str] = (),
        strategy: Literal["volume", "copy"] = "volume",
    ) -> Image:
        """A directory of this machine, without what `.gitignore` and `.chalkignore` files in it leave out.

        Both have the grammar of git, in every folder; `.chalkignore` comes after `.gitignore`. `.git`,
        `.chalkignore` itself and `__pycache__` always stay out. A link is followed to what it names inside
        the directory; one that leads out of it is an error.

        Args:
            src: The directory; a relative path is of the working folder now.
            dst: Absolute path in the container. It hides what the image has there.
            exclude: More patterns in the grammar of `.gitignore`; they have the last word.
            strategy: As of `add_local_file`.

        Raises:
            SpecError: No such directory, a relative destination, or something is there already.
        """
        found = checks.source(src, what="the directory")
        if not found.is_dir():
            raise SpecError(
                f"`{found}` is not a directory", field=checks.FIELD, hint="`add_local_file` takes files"
            )
        patterns = checks.check_texts(exclude, "exclude", example="*.log", empty=True)
        return self._file(
            LocalDirectory(found, checks.folder_destination(dst), patterns, checks.check_strategy(strategy))
        )

    def add_local_python_source(self, *modules: str) -> Image:
        """Top-level modules or packages that can be imported here, at `/app/<name>`.

        `/app` becomes `PYTHONPATH`, unless `env` gives one.

        Args:
            modules: Names: `mypackage`, not `mypackage.part`.

        Raises:
            SpecError: No such module, a namespace package, or not Python source.
        """
        image = self
        for name in checks.check_texts(modules, "add_local_python_source", example="mypackage"):
            path = checks.local_module(name)
            if path.is_dir():
                image = image._file(LocalDirectory(path, f"{_SOURCES}/{name}"))
            else:
                image = image._file(LocalFile(path, f"{_SOURCES}/{path.name}"))
        variables = {"PYTHONPATH": _SOURCES} | dict(self.variables)
        return image._with(variables=tuple(sorted(variables.items())))

    def _file(self, item: LocalFile | LocalDirectory) -> Image:
        files = (*self.files, item)
        checks.check_destinations(files)
        steps = (*self.steps, CopyFiles(item)) if item.strategy == "copy" else self.steps
        return self._with(files=files, steps=steps)

    # --- configuration

    def env(self, variables: Mapping[str, str]) -> Image:
        """Environment variables, beside those of earlier calls and of the base.

        They are no place for secrets: whoever has the image can read them.

        Raises:
            SpecError: A name no shell could read, or a value that is not text.
        """
        merged = dict(self.variables) | checks.check_variables(variables)
        return self._with(variables=tuple(sorted(merged.items())))

    def workdir(self, path: str) -> Image:
        """The folder in which the process starts.

        Raises:
            SpecError: The path is not absolute.
        """
        return self._with(working_dir=checks.working_folder(path))

    def entrypoint(self, args: Sequence[str]) -> Image:
        """The command, in place of the base's own and of its arguments.

        Raises:
            SpecError: Not a list of texts, or an empty one.
        """
        return self._with(command=checks.check_texts(args, "entrypoint", example="python"))

    def cmd(self, args: Sequence[str]) -> Image:
        """The arguments after the entrypoint; an empty list is none.

        Raises:
            SpecError: Not a list of texts.
        """
        return self._with(args=checks.check_texts(args, "cmd", example="app.py", empty=True))

    # --- what it is

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that it adds to those of its base, by name."""
        return dict(self.variables)

    @property
    def needs_build(self) -> bool:
        """Whether an image must be built; if not, `base_image` runs with the configuration beside it."""
        return bool(self.steps)

    @property
    def placeholder(self) -> str:
        """A reference to check a spec with until the image is built: its base."""
        return self.base_image or "from-dockerfile"

    def dockerfile(self) -> str:
        """The whole as the text of a Dockerfile, files of both strategies among it.

        Sources stand as seen from the working folder of now, which is the context to build it with.

        Raises:
            SpecError: A Dockerfile or requirements file cannot be read any more.
        """
        return dockerfile_text(self, Path.cwd())

    def __repr__(self) -> str:
        parts = [repr(self.base_image)]
        parts += [repr(step) for step in self.steps if not isinstance(step, CopyFiles)]
        parts += [f"{item.destination}={str(item.source)!r}" for item in self.files]
        if self.variables:
            parts.append(f"env={[name for name, _ in self.variables]}")  # a value may be a secret after all
        for name in ("command", "args", "working_dir"):
            if getattr(self, name) is not None:
                parts.append(f"{name}={getattr(self, name)!r}")
        return f"Image({', '.join(parts)})"
