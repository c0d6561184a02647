"""Checks of what the methods of `Image` are given: each raises `SpecError` with field "image"."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from chalkcompute.errors import SpecError
from chalkcompute.image.parts import LocalDirectory, LocalFile, Strategy
from chalkcompute.spec.checks import check_permissions, check_text, quoted
from chalkcompute.spec.environment import validate_variable
from chalkcompute.spec.mounts import absolute_path, mount_path

__all__ = [
    "FIELD",
    "check_apt_packages",
    "check_destinations",
    "check_mode",
    "check_packages",
    "check_python_version",
    "check_strategy",
    "check_texts",
    "check_variables",
    "file_destination",
    "folder_destination",
    "local_module",
    "source",
    "working_folder",
]

FIELD = "image"

_PYTHON_VERSION = re.compile(r"3\.\d{1,2}(?:\.\d{1,2})?")
_LOCAL = re.compile(
    r"@\s*[./~]|^(?:[^@:\s]+\s*@\s*)?[^@:\s]+\.(?:whl|zip|tar\.gz)$"
)  # `x.whl`, `x @ ./x.whl`
_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+:~-]+|/[a-z0-9.-]+)?")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_texts(value: object, what: str, *, example: str, empty: bool = False) -> tuple[str, ...]:
    """A list of texts, at least one; None of them empty unless `empty`.

    Args:
        value: What was given.
        what: The method, for messages.
        example: An item that the hint shows.
        empty: Whether the list and its items may be empty.
    """
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        words = value.split()[:8] if isinstance(value, str) else []
        raise SpecError(
            f"`{what}` takes a list of texts, not {type(value).__name__} {quoted(value)}",
            field=FIELD,
            hint=f"write `{what}({json.dumps(words or [example])})`",
        )
    if not value and not empty:
        raise SpecError(f"the list of `{what}` is empty", field=FIELD, hint="leave the call out")
    for position, item in enumerate(value, start=1):
        # What is no text may be a secret, so it is not shown.
        private = not isinstance(item, str)
        text = check_text(FIELD, item, what=f"item {position} of `{what}`", private=private)
        if not empty and not text.strip():
            raise SpecError(f"item {position} of `{what}` is empty", field=FIELD)
    return tuple(value)


def check_packages(value: object) -> tuple[str, ...]:
    """Requirements for pip: no options, nothing from this machine's disk."""
    packages = check_texts(value, "pip_install", example="flask")
    return tuple(_package(position, package) for position, package in enumerate(packages, start=1))


def _package(position: int, package: str) -> str:
    text = package.strip()
    what = f"item {position} of `pip_install`, {quoted(text)},"
    if text.startswith("-"):
        raise SpecError(
            f"{what} is an option and not a package",
            field=FIELD,
            hint="options go into a requirements file; `PIP_INDEX_URL` names another index",
        )
    if "\n" in text or "\r" in text:
        raise SpecError(f"{what} has a line break in it", field=FIELD, hint="write one item for each package")
    if text.startswith(("#", "@")):
        raise SpecError(f"{what} is not a package", field=FIELD)
    if text.startswith((".", "/", "~", "\\")) or "file:" in text or _LOCAL.search(text):
        raise SpecError(
            f"{what} is a path of this machine",
            field=FIELD,
            hint="`add_local_python_source` and `add_local_dir` bring local code into the image",
        )
    return text


def check_apt_packages(value: object) -> tuple[str, ...]:
    """Names of Debian packages."""
    packages = tuple(item.strip() for item in check_texts(value, "apt_install", example="curl"))
    for position, package in enumerate(packages, start=1):
        if not _APT_PACKAGE.fullmatch(package):
            raise SpecError(
                f"item {position} of `apt_install`, {quoted(package)}, cannot be a Debian package",
                field=FIELD,
            )
    return packages


def check_python_version(value: object) -> str:
    """`3.12` or `3.12.4`."""
    text = check_text(FIELD, value, what="`python_version`", number=_python_hint)
    if not _PYTHON_VERSION.fullmatch(text):
        raise SpecError(
            f"`python_version` {quoted(text)} is no version of Python 3", field=FIELD, hint='write `"3.12"`'
        )
    return text


def _python_hint(text: str) -> str:
    return f'write it in quotes: `"{text}"` (as a number, 3.10 would be 3.1)'


def check_variables(value: object) -> dict[str, str]:
    """Environment variables; no message quotes a value."""
    if not isinstance(value, Mapping):
        raise SpecError(f"`env` takes a mapping of names to texts, not {type(value).__name__}", field=FIELD)
    checked: dict[str, str] = {}
    for name, text in value.items():
        variable = validate_variable(name, field=FIELD)
        if not isinstance(text, str):
            is_secret = type(text).__name__ == "Secret"
            raise SpecError(
                f"the value of `{variable}` in `env` must be text, not {type(text).__name__}",
                field=FIELD,
                hint="secrets never go into an image: put it into `secrets` or `env` of the ScalingGroup"
                if is_secret
                else None,
            )
        checked[variable] = check_text(FIELD, text, what=f"the value of `{variable}` in `env`", private=True)
    return checked


def check_mode(value: object) -> int | None:
    """Permission bits, or None."""
    if value is None:
        return None
    return check_permissions(FIELD, value)


def check_strategy(value: object) -> Strategy:
    """How a file gets into the container."""
    if value == "volume":
        return "volume"
    if value == "copy":
        return "copy"
    raise SpecError(f'`strategy` is "volume" or "copy", not {quoted(value)}', field=FIELD)


def source(value: object, *, what: str) -> Path:
    """A local path that is there, absolute by the working folder of now; links are not followed."""
    if not isinstance(value, str | os.PathLike):
        raise SpecError(f"{what} must be a path, not {type(value).__name__} {quoted(value)}", field=FIELD)
    text = check_text(FIELD, os.fspath(value), what=what)
    if not text:
        raise SpecError(f"{what} is empty", field=FIELD)
    path = Path(os.path.normpath(Path(text).expanduser().absolute()))
    try:
        path.stat()
    except OSError as error:
        if path.is_symlink():
            reason = f"is a link to `{path.readlink()}`, which is not there"
        elif isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = "does not exist"
        else:
            reason = f"cannot be read: {error.strerror}"
        raise SpecError(f"{what} `{path}` {reason}", field=FIELD) from None
    if not os.access(path, os.R_OK):
        raise SpecError(f"{what} `{path}` cannot be read: {os.strerror(errno.EACCES)}", field=FIELD)
    return path


def file_destination(value: object, name: str) -> str:
    """Absolute path of a file in the container; one with a slash at its end means into that folder."""
    folder = absolute_path(FIELD, value)
    if isinstance(value, str) and value.endswith("/") and folder != "/":
        return mount_path(FIELD, posixpath.join(folder, name))
    return mount_path(FIELD, folder)


def folder_destination(value: object) -> str:
    """Absolute path of a directory in the container."""
    return mount_path(FIELD, value)


def working_folder(value: object) -> str:
    """Absolute path of the folder in which a process starts."""
    return absolute_path(FIELD, value)


def check_destinations(files: Sequence[LocalFile | LocalDirectory]) -> None:
    """No two things at one path, and nothing below a file."""
    taken: dict[str, LocalFile | LocalDirectory] = {}
    for item in files:
        other = taken.setdefault(item.destination, item)
        if other is not item:
            raise SpecError(
                f"`{item.source}` and `{other.source}` would both be at `{item.destination}`", field=FIELD
            )
    for item in files:
        above = posixpath.dirname(item.destination)
        while above != "/":
            other_above = taken.get(above)
            if isinstance(other_above, LocalFile):
                raise SpecError(
                    f"`{item.destination}` would be below the file `{above}`",
                    field=FIELD,
                )
            above = posixpath.dirname(above)


def local_module(name: object) -> Path:
    """File or folder of a top-level module or package of pure Python that can be imported here."""
    text = check_text(FIELD, name, what="the name of a module")
    if not _MODULE.fullmatch(text):
        raise SpecError(
            f"{quoted(text)} is not the name of a top-level module",
            field=FIELD,
            hint=f"name the package that it is in: `{text.split('.')[0]}`" if "." in text else None,
        )
    try:
        found = importlib.util.find_spec(text)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise SpecError(f"no module `{text}` can be imported here", field=FIELD)
    if found.origin is None:
        raise SpecError(
            f"`{text}` is a namespace package: it has no `__init__.py`",
            field=FIELD,
            hint="use `add_local_dir` for its folder",
        )
    path = Path(found.origin)
    if path.suffix != ".py" or not path.is_file():
        raise SpecError(f"the module `{text}` is not a file of Python source", field=FIELD)
    return path.parent if found.submodule_search_locations else path
