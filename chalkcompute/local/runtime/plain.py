"""Addresses without the kernel's help: a hook in Python's own socket class.

Where seccomp user notification is not to be had, `python` inside is a virtual environment of ours over the
chosen interpreter. Its one `.pth` file imports the hook, which works with `-I` and `-E`, too, and shadows
no `sitecustomize` of the user.
"""

from __future__ import annotations

import os
from pathlib import Path

from chalkcompute.local.runtime.hostbase import Interpreter
from chalkcompute.local.state import write_atomically

__all__ = ["ADDRESS_VARIABLE", "hooked_python", "linked_programs"]

ADDRESS_VARIABLE = "CHALK_POD_ADDRESS"

_HOOK = '''"""Bind and connect with the Pod's address in the place of wildcard and loopback addresses."""
import os
import socket

_pod = os.environ.get("CHALK_POD_ADDRESS")
_bound = set()


def _own(sock, address):
    if not isinstance(address, tuple) or not address[1]:
        return False
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host = address[0]
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    return host in ("", "0.0.0.0", "localhost", "::", "::1") or host.replace("::ffff:", "").startswith("127.")


def _moved(sock, address):
    return (_pod if sock.family == socket.AF_INET else "::ffff:" + _pod, *address[1:])


def _patch(cls):
    bind, connect, connect_ex = cls.bind, cls.connect, cls.connect_ex

    def _bind(self, address):
        if _own(self, address):
            if self.family == socket.AF_INET6 and self.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                return bind(self, ("::1", 0))
            _bound.add(address[1])
            address = _moved(self, address)
        return bind(self, address)

    def _connect(self, address):
        if _own(self, address) and address[1] in _bound:
            address = _moved(self, address)
        return connect(self, address)

    def _connect_ex(self, address):
        if _own(self, address) and address[1] in _bound:
            address = _moved(self, address)
        return connect_ex(self, address)

    cls.bind, cls.connect, cls.connect_ex = _bind, _connect, _connect_ex


if _pod:
    _patch(socket.socket)
'''


def linked_programs(folder: Path, interpreter: Interpreter) -> Path:
    """A folder for PATH with `python`, `pip` and the like as links to an interpreter."""
    bin_folder = folder / f"python-{interpreter.version}" / "bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    for name, program in interpreter.programs().items():
        _link(bin_folder / name, program)
    return bin_folder


def hooked_python(folder: Path, interpreter: Interpreter) -> Path:
    """A folder for PATH whose `python` has the hook."""
    root = folder / f"hooked-{interpreter.version}"
    packages = root / "lib" / f"python{interpreter.minor}" / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    _hold(packages / "chalk_pod_address.py", _HOOK)
    _hold(packages / "chalk_pod_address.pth", "import chalk_pod_address\n")
    _hold(
        root / "pyvenv.cfg",
        f"home = {interpreter.executable.parent}\n"
        "include-system-site-packages = true\n"
        f"version = {interpreter.version}\n",
    )
    bin_folder = root / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name in ("python", "python3", f"python{interpreter.minor}"):
        _link(bin_folder / name, interpreter.executable)
    return bin_folder


def _hold(path: Path, content: str) -> None:
    """Have a file with this content; a replica that starts meanwhile must never find a part of it."""
    if not path.is_file() or path.read_bytes() != content.encode():
        write_atomically(path, content, mode=0o644)


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
