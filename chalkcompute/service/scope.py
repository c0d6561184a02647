"""What every verb is given besides its cluster: where to work, and the world's clock and chance."""

from __future__ import annotations

import getpass
import os
import random
import secrets
import socket
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chalkcompute.manifests.placement import Profile

__all__ = ["Scope", "World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where to work, as far as it was said.

    Attributes:
        namespace: Kubernetes namespace.
        environment: Environment id, or None to ask the namespace.
        gateway: `(namespace, name)` of the Gateway, or None to look for it.
        gateway_section: Name of its listener, or None for the one that fits.
        gateway_domain: Its domain, or None to read it off the listener.
        gateway_port: Port at which clients reach it, or None for the listener's own.
        profile: Names that differ from cluster to cluster.
        registry: `host/path` below which images are pushed, or None to ask the namespace.
        platforms: What images are built for (`linux/amd64`), or () to ask the nodes.
    """

    namespace: str
    environment: str | None = None
    gateway: tuple[str, str] | None = None
    gateway_section: str | None = None
    gateway_domain: str | None = None
    gateway_port: int | None = None
    profile: Profile = field(default_factory=Profile)
    registry: str | None = None
    platforms: tuple[str, ...] = ()


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a passwd entry
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}:{os.getpid()}{_pid_realm()}"


def _pid_realm() -> str:
    """`/` and what tells apart two sets of process ids: containers may share a host name, not a namespace.

    "" where the system does not tell (it is not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        realm = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
    return f"/{zlib.crc32(realm.encode()):08x}"


def _is_gone(holder: str) -> bool:
    """Whether a holder was a process of this machine, its process ids being ours, that has ended."""
    host, _, process = holder.rpartition("@")[2].rpartition(":")
    pid, slash, realm = process.partition("/")
    if host != socket.gethostname() or slash + realm != _pid_realm():
        return False
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The effects besides the cluster; tests pass their own.

    Attributes:
        now: The time of day, UTC.
        monotonic: Seconds, for time limits.
        sleep: Wait that many seconds.
        jitter: A number between 0 and 1.
        new_id: A fresh group id.
        holder: Who we are in an operation's lease: `user@host:pid`, and `/` which set of process ids.
        is_gone: Whether the holder of a lease is known to have ended.
        new_salt: Random text that nobody can guess.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    holder: Callable[[], str] = _holder
    is_gone: Callable[[str], bool] = _is_gone
    new_salt: Callable[[], str] = lambda: secrets.token_hex(16)
