"""A base image out of this machine's own Python, for where none can be pulled: steps can RUN in it.

It is laid out as the official `python` images are: the interpreter and `pip` under `/usr/local`, no byte
code, no tests; beside it a shell, `env` and the libraries that these load. Nothing of it is downloaded.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from chalkcompute.registry import OCI_MANIFEST, Registry

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"usr/local/lib/python{VERSION}"
_LEFT_OUT = frozenset(
    ("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "turtledemo")
)
_LISTED = re.compile(r"(?:=> )?(/\S+) \(0x")
_PIP = b"#!/usr/local/bin/python3\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
_TEXTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "usr/local/bin/pip": _PIP,
}


class NoBaseError(Exception):
    """This machine's Python cannot be made a base of."""


def write_base_layer(into: Path) -> None:
    """Pack the root filesystem as a gzip-compressed tar; whole or not at all.

    Raises:
        NoBaseError: There is no `pip`, or no `ldd` to say which libraries are needed.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=into.parent, suffix=".part")
    try:
        with (
            os.fdopen(handle, "wb") as part,
            gzip.GzipFile(filename="", fileobj=part, mode="wb", compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            _pack(tar)
        Path(name).replace(into)
    finally:
        Path(name).unlink(missing_ok=True)


def push_base(host: str, repository: str, layer: Path) -> str:
    """Push the base of one layer; its reference."""
    with gzip.open(layer) as plain:
        diff_id = f"sha256:{hashlib.file_digest(plain, 'sha256').hexdigest()}"
    config = json.dumps(
        {
            "os": "linux",
            "architecture": architecture(),
            "created": "2026-01-02T03:04:05Z",
            "config": {
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
                        f"PYTHON_VERSION={platform.python_version()}"],
                "Cmd": ["python3"],
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "this machine's Python"}],
        }
    ).encode()  # fmt: skip
    with Registry(host) as registry, tempfile.TemporaryDirectory() as folder:
        described = []
        for kind, path in (("config.v1+json", Path(folder) / "config"), ("layer.v1.tar+gzip", layer)):
            if path != layer:
                path.write_bytes(config)
            with path.open("rb") as stream:
                digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            size = path.stat().st_size
            registry.push_blob(repository, digest, size, path)
            described.append(
                {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": size}
            )
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": described[0],
                "layers": described[1:],
            }
        ).encode()
        registry.push_manifest(repository, "1", OCI_MANIFEST, manifest)
    return f"{host}/{repository}:1"


def architecture() -> str:
    """Of this machine, as images call it: `amd64`, `arm64`."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _pack(tar: tarfile.TarFile) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    python = Path(sys.base_prefix) / "bin" / f"python{VERSION}"
    shell, env = (shutil.which(name) for name in ("sh", "env"))
    if shell is None or env is None or not python.exists():
        raise NoBaseError(f"`sh`, `env` or `{python}` is missing")
    files = {
        f"usr/local/bin/python{VERSION}": python.resolve(),
        "bin/sh": Path(shell).resolve(),
        "usr/bin/env": Path(env).resolve(),
    }
    for path in _below(library):
        files[f"{LIBRARY}/{path.relative_to(library)}"] = path
    for name, path in _pip_files():
        files[f"{LIBRARY}/site-packages/{name}"] = path
    files.update(_libraries(path for name, path in files.items() if ".so" in name or "/bin/" in f"/{name}"))
    folders = {str(parent) for name in (*files, *_TEXTS) for parent in Path(name).parents} - {"."}
    for folder in sorted(folders | {"root", "proc", "sys", "dev", "run", "var/tmp", "var", "tmp"}):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder.endswith("tmp") else 0o755
        tar.addfile(info)
    for name, path in sorted(files.items()):
        info = tarfile.TarInfo(name)
        info.size, info.mode = path.stat().st_size, 0o755 if path.stat().st_mode & 0o100 else 0o644
        with path.open("rb") as stream:
            tar.addfile(info, stream)
    for name, text in _TEXTS.items():
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text), 0o755 if "/bin/" in name else 0o644
        tar.addfile(info, io.BytesIO(text))
    for name in ("python3", "python"):
        info = tarfile.TarInfo(f"usr/local/bin/{name}")
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, f"python{VERSION}", 0o777
        tar.addfile(info)


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.name.startswith("config-"):  # the latter is for compiling
            continue
        if path.is_dir():
            yield from _below(path)
        elif path.suffix not in (".pyc", ".a") and path.is_file():
            yield path


def _pip_files() -> Iterator[tuple[str, Path]]:
    """What `pip` in this environment consists of, but for its commands."""
    try:
        pip = importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        raise NoBaseError(f"`pip` is not installed beside `{sys.executable}`") from None
    for file in pip.files or []:
        if not file.parts[0].startswith("..") and file.suffix != ".pyc":
            yield str(file), Path(str(file.locate()))


def _libraries(programs: Iterable[Path]) -> dict[str, Path]:
    """The shared libraries that programs and extension modules load, where the loader finds them."""
    command = ["ldd", *map(str, programs)]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
    except OSError as error:
        raise NoBaseError(f"`ldd` cannot be run: {error.strerror}") from None
    found = {Path(name) for name in _LISTED.findall(listed)}
    libc = next((path for path in found if path.name.startswith("libc.so")), None)
    if libc is None:
        raise NoBaseError("`ldd` names no C library")
    for name in ("libstdc++.so.6", "libgcc_s.so.1"):  # wheels load these, and the official images have them
        for folder in (libc.parent, Path("/usr") / libc.parent.relative_to("/")):
            with contextlib.suppress(OSError):
                found.add((folder / name).resolve(strict=True).with_name(name))
    placed = {}
    for path in found:
        is_usual = path.parts[1] in ("lib", "lib64")
        place = path if is_usual else libc.parent / path.name  # the loader looks there without being told
        placed[str(place).lstrip("/")] = path.resolve()
    return placed
