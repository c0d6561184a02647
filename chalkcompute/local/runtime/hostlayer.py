"""The lowest layer of the host base: an interpreter of this machine where a `python` image has it.

The programs are links in /usr/local/bin. A `pyvenv.cfg` beside them makes /usr/local the interpreter's
prefix, so that packages are in /usr/local/lib/python3.X/site-packages as in the official image, those that
layers bring and those that `pip install` puts there; what is installed for the machine's own Python is not
seen. Only pip and its kin are, as copies.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from chalkcompute.local.runtime.hostbase import Interpreter

__all__ = ["SITE_PACKAGES", "UNFINISHED", "make_host_layer"]

UNFINISHED = ".host-layer-"

SITE_PACKAGES = "usr/local/lib/python{minor}/site-packages"
_PREFIX = Path("/usr/local")
# What an official image has in its site-packages.
_PACKAGES = (
    "pip",
    "pip-*",
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
    "wheel",
    "wheel-*",
)
_PIP = """#!/usr/local/bin/python3
import sys

from pip._internal.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


def make_host_layer(folder: Path, interpreter: Interpreter) -> Path:
    """The layer for an interpreter, made when it is not there; blocking.

    Args:
        folder: Where such layers are kept.
        interpreter: What stands in for the image's.
    """
    home = folder / f"host-layer-{interpreter.image_id().removeprefix('sha256:')[:16]}"
    if home.is_dir():
        return home
    folder.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        _fill(new, interpreter)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():  # for every user of the image, whatever our own umask says
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        new.rename(home)
    except OSError:
        if not home.is_dir():
            raise  # else another replica's pull was quicker
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return home


def _fill(root: Path, interpreter: Interpreter) -> None:
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True)
    for name, program in interpreter.programs().items():
        if program != _PREFIX / "bin" / name:
            (programs / name).symlink_to(program)
    if interpreter.prefix == _PREFIX:
        return  # as in the image already
    (root / "usr/local/pyvenv.cfg").write_text(
        f"home = {interpreter.executable.parent}\n"
        "include-system-site-packages = false\n"
        f"version = {interpreter.version}\n",
        encoding="utf-8",
    )
    packages = root / SITE_PACKAGES.format(minor=interpreter.minor)
    packages.mkdir(parents=True)
    source = _packages_of(interpreter)
    if source is None:
        return
    for pattern in _PACKAGES:
        for path in source.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, packages / path.name)
            else:
                shutil.copyfile(path, packages / path.name)
    for name in ("pip", "pip3", f"pip{interpreter.minor}"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(_PIP, encoding="utf-8")


def _packages_of(interpreter: Interpreter) -> Path | None:
    """Where an interpreter has its pip, None when it has none."""
    library = interpreter.prefix / "lib"
    for folder in (f"python{interpreter.minor}/site-packages", "python3/dist-packages"):  # the latter: Debian
        if (library / folder / "pip").is_dir():
            return library / folder
    return None
