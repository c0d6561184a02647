"""The host base: this machine's own root and Python stand in for an official `python` image.

Chosen is an interpreter of the version asked for; where there is none, the daemon's own, with a warning
that names both. Always the base interpreter, never a virtual environment, so that no package of the
project is seen inside.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chalkcompute.local.ports import ImagePullError
from chalkcompute.local.runtime.images import ImageReference, PythonRequest, python_request

__all__ = ["HostBase", "Interpreter"]

_ASK = (
    "import json, sys; print(json.dumps([sys.version.split()[0], "
    "getattr(sys, '_base_executable', sys.executable), "
    "getattr(sys, 'base_prefix', sys.prefix), sys.implementation.name]))"
)
_TIMEOUT_SECONDS = 20
_OLDEST = (3, 6)
_PROGRAMS = ("pip", "pip3", "pydoc3", "idle3")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine.

    Attributes:
        executable: The real executable, links resolved.
        prefix: Where its standard library stands.
        version: `3.12.1`.
    """

    executable: Path
    prefix: Path
    version: str

    @property
    def minor(self) -> str:
        """`3.12`."""
        return ".".join(self.version.split(".")[:2])

    def programs(self) -> dict[str, Path]:
        """What an image has on its PATH: `python`, `python3`, `python3.12`, `pip`, ..."""
        names = dict.fromkeys(("python", "python3", f"python{self.minor}"), self.executable)
        folder = self.prefix / "bin"
        for name in (*_PROGRAMS, f"pip{self.minor}"):
            if os.access(folder / name, os.X_OK):
                names[name] = folder / name
        return names

    def image_id(self) -> str:
        """A stable id in the form of an image id."""
        text = f"host-base {self.executable} {self.version}"
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class HostBase:
    """Finds interpreters on this machine; asks each candidate once."""

    def __init__(self, *, search_path: str, home: Path, own: Path = Path(sys.executable)) -> None:
        self._search_path = search_path
        self._home = home
        self._own = own
        self._asked: dict[Path, Interpreter | None] = {}

    async def resolve(self, reference: ImageReference, image: str) -> tuple[Interpreter, str]:
        """The interpreter that stands in for an image, and the warning that says so.

        Raises:
            ImagePullError: The image is no official `python` image, or there is no such Python here.
        """
        request = python_request(reference)
        if request is None:
            raise ImagePullError(_refusal(reference))
        found = await self._matching(request)
        if found is not None:
            return found, (
                f"image `{image}` is stood in for by this machine's own Python {found.version} "
                f"(`{found.executable}`): nothing was pulled, and all else in it is this machine's"
            )
        own = await self._ask(self._own)
        if own is None or (request.major or 3) < 3:
            raise ImagePullError(
                f'failed to pull and unpack image "{reference}": not found: this machine has no Python '
                f"{request} to stand in for it"
            )
        return own, (
            f"image `{image}` asks for Python {request}, which this machine does not have: "
            f"Python {own.version} (`{own.executable}`) is used "
            f"instead; install Python {request} to get what you asked for"
        )

    async def of_version(self, version: str) -> Interpreter | None:
        """The interpreter of exactly this version (`3.12.1`), None when this machine has none."""
        minor = ".".join(version.split(".")[:2])
        for candidate in self._candidates(minor):
            interpreter = await self._ask(candidate)
            if interpreter is not None and interpreter.version == version:
                return interpreter
        return None

    async def _matching(self, request: PythonRequest) -> Interpreter | None:
        if request.minor is None:
            own = await self._ask(self._own)
            return (
                own if own is not None and request.major in (None, int(own.version.split(".")[0])) else None
            )
        wanted = f"{request.major}.{request.minor}"
        found: list[Interpreter] = []
        for candidate in self._candidates(wanted):
            interpreter = await self._ask(candidate)
            if interpreter is not None and interpreter.minor == wanted:
                found.append(interpreter)
        exact = [each for each in found if each.version == f"{wanted}.{request.patch}"]
        return next(iter(exact or found), None)

    def _candidates(self, minor: str) -> Iterator[Path]:
        """Executables that may be a Python of this minor version, the likeliest first."""
        yield self._own
        for folder in self._search_path.split(":"):
            if folder and not folder.endswith("/shims"):  # shell scripts of a version manager
                yield Path(folder) / f"python{minor}"
        for root, pattern in (
            # Where a version manager put ours it puts others too: <folder>/3.12.1/bin/python3.12.
            (self._own.resolve().parent.parent.parent, f"*{minor}.*/bin/python{minor}"),
            (self._home / ".pyenv/versions", f"{minor}.*/bin/python{minor}"),
            (self._home / ".local/share/uv/python", f"cpython-{minor}.*/bin/python{minor}"),
            (Path("/usr/bin"), f"python{minor}"),
            (Path("/usr/local/bin"), f"python{minor}"),
            (Path("/opt"), f"*/bin/python{minor}"),
            (Path("/opt/homebrew/bin"), f"python{minor}"),
        ):
            yield from sorted(root.glob(pattern), reverse=True)

    async def _ask(self, executable: Path) -> Interpreter | None:
        """What an executable says of itself; None when it is no CPython that we can use."""
        if executable not in self._asked:
            self._asked[executable] = await self._interview(executable)
        return self._asked[executable]

    async def _interview(self, executable: Path) -> Interpreter | None:
        if not os.access(executable, os.X_OK):
            return None
        try:
            process = await asyncio.create_subprocess_exec(
                executable,
                "-I",
                "-S",
                "-c",
                _ASK,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_SECONDS)
            version, base, prefix, name = json.loads(output)
        except (OSError, ValueError, TimeoutError):
            return None
        numbers = tuple(int(part) for part in version.split(".")[:2])
        if name != "cpython" or numbers < _OLDEST:
            return None
        return Interpreter(Path(base).resolve(), Path(prefix).resolve(), version)


def _refusal(reference: ImageReference) -> str:
    if reference.domain == "docker.io" and reference.path == "library/python":
        return (
            f'failed to pull and unpack image "{reference}": failed to resolve reference "{reference}": '
            "not found: no such tag of the official `python` image is known"
        )
    return (
        f'failed to pull and unpack image "{reference}": not found: this machine stands in for official '
        "`python` images only"
    )
