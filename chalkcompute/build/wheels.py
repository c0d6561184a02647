"""Python packages from wheels, for the Python and platform of the image, whatever this machine has."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from chalkcompute.build.layers import Entry
from chalkcompute.build.pythons import ImagePython
from chalkcompute.errors import ImageBuildError
from chalkcompute.spec.checks import without_credentials

__all__ = ["NoWheelError", "install_packages", "installed_entries"]

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_DATA = ("etc", "include", "man", "share")  # a wheel's data files, which belong beside `lib`
_LIB = "lib"  # libraries of C (`mkl`, `tbb`) are such data as well; with Python in it, it is a package
_LEFT_OUT = frozenset({".lock", ".gitignore", "CACHEDIR.TAG"})  # uv's own
# They would have uv install for this machine, or write what differs from machine to machine.
_NOT_PASSED = frozenset(
    {
        "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_COMPILE_BYTECODE", "UV_NO_BINARY",
        "UV_NO_BUILD", "UV_ONLY_BINARY", "UV_PREFIX", "UV_PYTHON", "UV_PYTHON_PLATFORM", "UV_SYSTEM_PYTHON",
        "UV_TARGET", "VIRTUAL_ENV",
    }
)  # fmt: skip
_TRAMPOLINE = re.compile(rb"#!/bin/sh\n'''exec' .*\n' '''\n")  # for interpreters whose path is too long
_SHEBANG = re.compile(rb"#![^\n]*python[^\n]*\n")
_HINTS = (
    (
        re.compile(r"invalid peer certificate|certificate verify failed", re.IGNORECASE),
        "set `SSL_CERT_FILE` to a PEM file with the authority that signed the certificate of the index, or "
        "of the proxy before it",
    ),
    (
        re.compile(r"error sending request|dns error|timed out|connection (?:refused|reset)", re.IGNORECASE),
        "see to the network, a proxy (`HTTPS_PROXY`) and the index (`PIP_INDEX_URL`; `pip.conf` does not "
        "count)",
    ),
)
_NO_WHEEL = re.compile(
    r"no usable wheels|no wheels? with|no (?:compatible|matching) wheels?|Wheels are required|"
    r"building from source is disabled|only has? wheels",
    re.IGNORECASE,
)


class NoWheelError(ImageBuildError):
    """A package has no wheel for the image; a container engine may build it."""


def install_packages(
    packages: Sequence[str],
    requirements: Sequence[Path],
    python: ImagePython,
    platform: str,
    *,
    into: Path,
    environ: Mapping[str, str],
) -> None:
    """Resolve and install packages into the empty folder `into`.

    Args:
        packages: Requirements.
        requirements: Requirements files.
        python: Of the image.
        platform: `linux/amd64` or `linux/arm64`.
        into: The folder.
        environ: Its `UV_*` and `PIP_*` settings of indexes and proxies count.

    Raises:
        NoWheelError: A package has no wheel for this Python and platform.
        ImageBuildError: There is no such package, or the index cannot be reached.
    """
    from uv import find_uv_bin

    architecture = _ARCHITECTURES.get(platform.split("/")[1])
    if architecture is None:
        raise ImageBuildError(
            f"Python packages can be installed for `linux/amd64` and `linux/arm64`, not for `{platform}`"
        )
    libc = "musl" if python.is_musl else "gnu"
    command = [
        find_uv_bin(), "pip", "install", "--quiet", "--color", "never", "--no-progress",
        "--python", sys.executable, "--target", str(into), "--python-version", python.version,
        "--python-platform", f"{architecture}-unknown-linux-{libc}", "--only-binary", ":all:",
    ]  # fmt: skip
    if environ.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):
        command.append("--no-index")
    for path in requirements:
        command += ["--requirement", str(path)]
    if packages:
        command += ["--requirement", "-"]
    done = subprocess.run(
        command,
        env=_environment(environ),
        cwd=into,  # not where a `pyproject.toml` of the user's project would be obeyed
        # Not in the command line, which all users of the machine may read: a URL may have a password in it.
        input="".join(f"{package}\n" for package in packages),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise _failure(done.stderr, python, platform)


def installed_entries(folder: Path, python: ImagePython) -> list[Entry]:
    """The files that `install_packages` left in `folder`, where the image has them.

    Nothing in them depends on this machine: scripts start `env python3`, and no list of files names them
    otherwise.
    """
    entries: dict[str, Entry] = {}
    records = []
    data = {top for top in _DATA if not (folder / top / "__init__.py").exists()}
    if not any((folder / _LIB).rglob("*.py")):
        data.add(_LIB)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in _LEFT_OUT or "__pycache__" in path.parts or path.name == "uv_cache.json":
            continue
        if path.name == "RECORD" and path.parent.name.endswith(".dist-info"):
            records.append((name, path))
            continue
        content: Path | bytes = path
        if name.startswith("bin/"):
            content = _portable(path.read_bytes())
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        entries[name] = Entry(_placed(name, data, python), mode, content)
    for name, path in records:
        entries[name] = Entry(
            posixpath.join(python.site, name), 0o644, _record(path.read_text("utf-8"), entries, python)
        )
    return list(entries.values())


def _placed(name: str, data: Collection[str], python: ImagePython) -> str:
    top, slash, _ = name.partition("/")
    if slash and (top in data or top == "bin"):
        return posixpath.join(python.prefix, name)
    return posixpath.join(python.site, name)


def _portable(script: bytes) -> bytes:
    for shebang in (_TRAMPOLINE, _SHEBANG):
        match = shebang.match(script)
        if match:
            return b"#!/usr/bin/env python3\n" + script[match.end() :]
    return script


def _record(text: str, entries: Mapping[str, Entry], python: ImagePython) -> bytes:
    """The list of installed files (PEP 376), its paths as in the image and its hashes as they are now."""
    rows = []
    for row in csv.reader(io.StringIO(text)):
        if not row or row[0].endswith("/uv_cache.json"):
            continue
        entry = entries.get(row[0])
        if entry is not None:
            row[0] = posixpath.relpath(entry.path, python.site)
            if isinstance(entry.content, bytes):
                digest = base64.urlsafe_b64encode(hashlib.sha256(entry.content).digest())
                row[1:] = [f"sha256={digest.rstrip(b'=').decode()}", str(len(entry.content))]
        rows.append(row)
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerows(sorted(rows))
    return made.getvalue().encode()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: pip's settings of indexes are understood, uv's own win."""
    passed = {name: value for name, value in environ.items() if name not in _NOT_PASSED}
    # As pip does since 24.2: a company's proxy is signed by an authority that only this machine knows.
    # (`UV_NATIVE_TLS` is what older versions call it.)
    if "UV_NATIVE_TLS" not in passed:
        passed.setdefault("UV_SYSTEM_CERTS", "true")
        passed.setdefault("UV_NATIVE_TLS", passed["UV_SYSTEM_CERTS"])
    if "PIP_INDEX_URL" in environ and "UV_INDEX_URL" not in environ:
        passed.setdefault("UV_DEFAULT_INDEX", environ["PIP_INDEX_URL"])
    if "PIP_EXTRA_INDEX_URL" in environ:
        passed.setdefault("UV_EXTRA_INDEX_URL", environ["PIP_EXTRA_INDEX_URL"])
    if "PIP_FIND_LINKS" in environ:
        links = [link if "://" in link else str(Path(link).absolute()) for link in
                 environ["PIP_FIND_LINKS"].split()]  # fmt: skip
        passed.setdefault("UV_FIND_LINKS", ",".join(links))
    if "PIP_CERT" in environ:
        passed.setdefault("SSL_CERT_FILE", environ["PIP_CERT"])
    return passed


def _failure(said: str, python: ImagePython, platform: str) -> ImageBuildError:
    lines = [line.strip() for line in without_credentials(said).splitlines() if line.strip()]
    reason = " ".join(line for line in lines if not line.startswith(("Using CPython", "warning:", "hint:")))
    reason = re.sub(r"requirement in `-` at position \d+", "a requirement", reason)  # of `pip_install`
    reason = re.sub(r"^(error:|×) *", "", reason).replace(" cause: ", ": ").rstrip(".")
    message = f"the Python packages cannot be installed for Python {python.version} on {platform}: {reason}"
    if _NO_WHEEL.search(said):
        return NoWheelError(
            message,
            hint="ask for a version that has wheels, or install a container engine that can build them here "
            "(`buildah`, `podman` or `docker`)",
        )
    for pattern, hint in _HINTS:
        if pattern.search(said):
            return ImageBuildError(message, hint=hint)
    return ImageBuildError(message, hint="see to the names and versions, and to the index (`PIP_INDEX_URL`)")
