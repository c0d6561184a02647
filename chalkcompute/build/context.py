"""What an engine builds from: a Dockerfile of the steps that run, and the files that they need."""

from __future__ import annotations

import configparser
import hashlib
import io
import os
import re
import shlex
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from chalkcompute.build.plan import Plan
from chalkcompute.errors import ImageBuildError, SpecError
from chalkcompute.image import (
    AptInstall,
    CopyFiles,
    FromDockerfile,
    PipInstall,
    PipRequirements,
    RunCommands,
)
from chalkcompute.image.dockerfile import apt_line, copy_line, run_line, setting_lines
from chalkcompute.sources import SourceSet
from chalkcompute.spec.checks import without_credentials

__all__ = ["base_names", "context_hash", "dockerfile_of", "pip_secrets", "write_context"]

_PIP_SECRET, _CA_SECRET = "chalk-pip", "chalk-ca"
_CA_PATH = "/run/chalk-ca.pem"
_PIP_MOUNTS = (
    f"--mount=type=secret,id={_PIP_SECRET},target=/etc/pip.conf "
    f"--mount=type=secret,id={_CA_SECRET},target={_CA_PATH} "
)
_MOUNTABLE = re.compile(r"[A-Za-z0-9_./-]+")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(?P<name>\S+)(?:\s+AS\s+(?P<stage>\S+))?", re.IGNORECASE | re.M)
_USES_CONTEXT = re.compile(r"^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\b|--mount", re.IGNORECASE | re.MULTILINE)


def dockerfile_of(step: FromDockerfile) -> str:
    """The text of a Dockerfile to start from.

    Raises:
        SpecError: It cannot be read.
    """
    try:
        return step.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"cannot read the Dockerfile `{step.path}`: {reason}", field="image") from None


def base_names(dockerfile: str) -> list[str]:
    """The images that a Dockerfile starts from, where it says so without variables."""
    names, stages = [], {"scratch"}
    for match in _FROM.finditer(dockerfile):
        name = match["name"]
        if name.lower() not in stages and "$" not in name:
            names.append(name)
        if match["stage"]:
            stages.add(match["stage"].lower())
    return names


def context_hash(step: FromDockerfile) -> str:
    """A hash of a Dockerfile and, if it copies anything, of all in its folder but `.git`.

    Raises:
        SpecError: Something cannot be read.
    """
    text = dockerfile_of(step)
    digest = hashlib.sha256(text.encode())
    if not _USES_CONTEXT.search(text):
        return digest.hexdigest()
    root = step.path.parent
    try:
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted([*files, *(f for f in folders if Path(folder, f).is_symlink())]):
                path = Path(folder, name)
                digest.update(f"{path.relative_to(root).as_posix()}\0".encode("utf-8", "surrogateescape"))
                digest.update(_content(path))
    except OSError as error:
        raise SpecError(f"cannot read `{error.filename}`: {error.strerror}", field="image") from None
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return b"link\0" + os.fsencode(path.readlink())
    if not stat.S_ISREG(facts.st_mode):
        return b"other\0"
    with path.open("rb") as stream:
        inside = hashlib.file_digest(stream, "sha256").digest()
    return (b"x" if facts.st_mode & 0o100 else b"-") + inside


def write_context(plan: Plan, base: str, folder: Path) -> tuple[Path, Path, dict[str, Path]]:
    """The Dockerfile of a plan's steps, the folder that is its context, and its secrets by their ids.

    Args:
        plan: Its steps, none of them a Dockerfile of its own.
        base: What it starts from, by digest.
        folder: Empty; everything goes here.
    """
    context = folder / "context"
    context.mkdir()
    by_destination = {files.destination: files for files in plan.copied}
    lines = [f"FROM {base}", *setting_lines(plan.image)]
    secrets: dict[str, Path] = {}
    for number, step in enumerate(plan.steps):
        match step:
            case AptInstall(packages):
                lines.append(apt_line(packages))
            case RunCommands(commands):
                lines += [run_line(command) for command in commands]
            case PipInstall(packages):
                hidden = [each for each in packages if without_credentials(each) != each]
                shown = [each for each in packages if each not in hidden]
                listed = {"packages.txt": "\n".join(hidden).encode()} if hidden else {}
                lines.append(_pip(shlex.join(shown), listed, number, folder, secrets))
            case PipRequirements(path):
                lines.append(_pip("", _requirements(path, plan), number, folder, secrets))
            case CopyFiles(item):
                lines += _files(by_destination[item.destination], context / f"{number}")
            case FromDockerfile():
                raise AssertionError("a Dockerfile is built by itself")
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dockerfile, context, secrets


def _requirements(path: Path, plan: Plan) -> dict[str, bytes]:
    """The file and those that it names, side by side as they are here; the file itself comes first."""
    files = [path, *(f for f in plan.requirement_files if f != path and f.is_relative_to(path.parent))]
    return {file.relative_to(path.parent).as_posix(): plan.requirement_files[file] for file in files}


def _pip(
    packages: str, listed: Mapping[str, bytes], number: int, folder: Path, secrets: dict[str, Path]
) -> str:
    """`RUN pip install` of packages and of the first of the requirements files `listed`.

    They are secrets of the step: their URLs may have passwords, which would stay in the image for ever.
    """
    # With their hash in it, or an engine would take what it kept of other files for the result.
    whole = hashlib.sha256(repr(sorted(listed.items())).encode()).hexdigest()[:12]
    inside = f"/run/chalk-{number}-{whole}"
    mounts, line = _PIP_MOUNTS, "pip install --no-cache-dir"
    for position, (name, content) in enumerate(listed.items()):
        id_, target = f"chalk-{number}-{position}-{whole}", f"{inside}/{name}"
        if not _MOUNTABLE.fullmatch(name):
            raise ImageBuildError(
                f"the requirements file `{name}` cannot be given to a container engine",
                hint="rename it: letters, digits, `.`, `_` and `-`",
            )
        secrets[id_] = _private(folder / id_, content)
        mounts += f"--mount=type=secret,id={id_},target={target},mode=0444 "
        if position == 0:
            line += f" -r {target}"
    return f"RUN {mounts}{line}" + (f" {packages}" if packages else "")


def _private(path: Path, content: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(content)
    return path


def _files(files: SourceSet, folder: Path) -> list[str]:
    for file in files.files:
        inside = file.path.removeprefix(files.destination).strip("/") if files.is_directory else "file"
        goal = folder / inside
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.source, goal)
        goal.chmod(file.mode)
    folder.mkdir(exist_ok=True)
    if files.is_directory:
        return [copy_line(f"{folder.name}/", files.destination + "/")]
    return [copy_line(f"{folder.name}/file", files.destination)]


def pip_secrets(environ: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Files that tell pip in a step of the indexes and certificates of here, and stay out of the image."""
    settings = {
        "index-url": environ.get("PIP_INDEX_URL") or environ.get("UV_DEFAULT_INDEX") or "",
        "extra-index-url": environ.get("PIP_EXTRA_INDEX_URL", ""),
    }
    secrets: dict[str, Path] = {}
    authorities = environ.get("PIP_CERT") or environ.get("SSL_CERT_FILE") or ""
    if authorities and Path(authorities).is_file():
        secrets[_CA_SECRET] = Path(authorities)
        settings["cert"] = _CA_PATH
    parser = configparser.ConfigParser(interpolation=None)
    parser["global"] = {name: value for name, value in settings.items() if value}
    text = io.StringIO()
    parser.write(text)
    return {_PIP_SECRET: _private(folder / "pip.conf", text.getvalue().encode()), **secrets}
