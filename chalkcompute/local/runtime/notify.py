"""The supervisor of bind and connect: every Pod has its own loopback address, whatever its programs say.

The init of a replica installs a seccomp filter that hands bind(2) and connect(2) to us (`kernel.py`).
We read the socket address in the caller's memory, put the Pod's address in the place of a wildcard or
loopback address, and let the call go on. So any server, in any language, keeps its hard-coded port, two
replicas of it run side by side, and nothing listens outside this machine. It is no security boundary.

    bind     0.0.0.0, 127.0.0.0/8, ::, ::1 and their IPv4-mapped forms   -> the Pod's address
    connect  the same, to a port that the Pod has bound                   -> the Pod's address

Port 0 is left alone. A socket that is IPv6-only cannot have the Pod's IPv4 address, and on a cluster
would not be reachable at it either: it gets a port of its own on ::1, so that the servers that listen
on both families come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Rewrite", "Supervisor", "rewrite"]

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_FLAG_CONTINUE = 1
_BIND_NUMBERS = frozenset({49, 200})  # x86_64, aarch64
_LONGEST_ADDRESS = 28  # sockaddr_in6
_SYS_PIDFD_GETFD = 438

_ANY6 = bytes(16)
_LOOPBACK6 = bytes(15) + b"\x01"
_MAPPED = bytes(10) + b"\xff\xff"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Bytes to put at an offset of a socket address."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Pod:
    address: bytes
    bound: set[int]
    loopback_ports: set[int]


@dataclass(frozen=True, slots=True)
class _Call:
    """One notification: who calls, and where the socket address is."""

    identity: int
    thread: int
    binding: bool
    descriptor: int
    pointer: int
    length: int


def rewrite(
    address: bytes, *, binding: bool, pod: bytes, bound: set[int], ipv6_only: Callable[[], bool]
) -> Rewrite | None:
    """What to change in a socket address, or None. Ports that are bound are added to `bound`.

    Args:
        address: The `sockaddr` in the caller's memory.
        binding: bind(2), else connect(2).
        pod: The Pod's address, four bytes.
        bound: Ports that the Pod has bound so far.
        ipv6_only: Whether the socket is IPv6-only; asked only when it matters.
    """
    if len(address) < 8:
        return None
    family = struct.unpack_from("=H", address)[0]
    port = struct.unpack_from("!H", address, 2)[0]
    if port == 0:
        return None
    if family == socket.AF_INET:
        host, mapped = address[4:8], False
    elif family == socket.AF_INET6 and len(address) >= 24:
        host = address[8:24]
        mapped = host.startswith(_MAPPED)
        if mapped:
            host = host[12:]
        elif host in (_ANY6, _LOOPBACK6):
            return _rewrite_ipv6(binding=binding, port=port, pod=pod, bound=bound, ipv6_only=ipv6_only)
        else:
            return None
    else:
        return None
    if binding and host == pod:
        bound.add(port)
    if (host != bytes(4) and host[0] != 127) or host == pod:
        return None
    if binding:
        bound.add(port)
    elif port not in bound:
        return None
    return Rewrite(20, pod) if mapped else Rewrite(4, pod)


def _rewrite_ipv6(
    *, binding: bool, port: int, pod: bytes, bound: set[int], ipv6_only: Callable[[], bool]
) -> Rewrite | None:
    if binding:
        if ipv6_only():
            # Port, flow label, address: any port of ::1.
            return Rewrite(2, bytes(2) + bytes(4) + _LOOPBACK6)
        bound.add(port)
    elif port not in bound:
        return None
    return Rewrite(8, _MAPPED + pod)


class Supervisor:
    """Answers the notifications of all replicas on the running event loop, without a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listeners: set[int] = set()
        self._bound: dict[str, set[int]] = {}

    def add(self, listener: int, address: str, loopback_ports: set[int]) -> None:
        """Serve a listener for the Pod with this address; the descriptor becomes ours.

        The filter's end, when its last process has gone, closes it. Ports that are bound on a loopback
        address are added to `loopback_ports`.
        """
        self._listeners.add(listener)
        bound = self._bound.setdefault(address, set())
        pod = _Pod(socket.inet_aton(address), bound, loopback_ports)
        self._loop.add_reader(listener, self._serve, listener, pod)

    def forget(self, address: str) -> None:
        """The Pod with this address is gone."""
        self._bound.pop(address, None)

    def close(self) -> None:
        """Stop serving. A bind or connect that still comes fails with ENOSYS."""
        for listener in list(self._listeners):
            self._drop(listener)

    def _drop(self, listener: int) -> None:
        self._listeners.discard(listener)
        self._loop.remove_reader(listener)
        os.close(listener)

    def _serve(self, listener: int, pod: _Pod) -> None:
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        events = poller.poll(0)
        if not events:
            return
        if not events[0][1] & select.POLLIN:  # POLLHUP: no process uses the filter any more
            self._drop(listener)
            return
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECV, buffer)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):  # ENOENT: the caller died meanwhile
                self._drop(listener)
            return
        identity, thread, _, number, _, _, descriptor, pointer, length, *_ = _NOTIFICATION.unpack(buffer)
        # A process that is gone, or that may not be read, gets its call unchanged.
        with contextlib.suppress(OSError):
            call = _Call(identity, thread, number in _BIND_NUMBERS, descriptor, pointer, length)
            _patch(listener, call, pod)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, _RESPONSE.pack(identity, 0, 0, _FLAG_CONTINUE))


def _patch(listener: int, call: _Call, pod: _Pod) -> None:
    """Put the Pod's address into the caller's memory where `rewrite` says so."""
    with Path(f"/proc/{call.thread}/mem").open("r+b", buffering=0) as memory:
        fcntl.ioctl(listener, _ID_VALID, struct.pack("=Q", call.identity))  # the pid may be another's by now
        memory.seek(call.pointer)
        address = memory.read(min(call.length, _LONGEST_ADDRESS)) or b""
        change = rewrite(
            address,
            binding=call.binding,
            pod=pod.address,
            bound=pod.bound,
            ipv6_only=lambda: _ipv6_only(call, address, pod.bound),
        )
        if change is not None:
            if call.binding and is_loopback(address):
                pod.loopback_ports.add(struct.unpack_from("!H", address, 2)[0])
            memory.seek(call.pointer + change.offset)
            memory.write(change.data)


def is_loopback(address: bytes) -> bool:
    """Whether a `sockaddr` is of 127.0.0.0/8 or ::1."""
    if struct.unpack_from("=H", address)[0] == socket.AF_INET:
        return address[4] == 127
    host = address[8:24]
    return host == _LOOPBACK6 or (host.startswith(_MAPPED) and host[12] == 127)


def _ipv6_only(call: _Call, address: bytes, bound: set[int]) -> bool:
    """Whether a socket of another process is IPv6-only; guessed where the kernel will not say."""
    try:
        with _socket_of(call.thread, call.descriptor) as copy:
            return bool(copy.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    except OSError:
        # A container may refuse pidfd_getfd. Who binds a port on both families does so IPv6-only.
        return struct.unpack_from("!H", address, 2)[0] in bound


def _socket_of(thread: int, descriptor: int) -> socket.socket:
    """A copy of a descriptor of another process."""
    status = Path(f"/proc/{thread}/status").read_text(encoding="utf-8")
    process = int(next(line for line in status.splitlines() if line.startswith("Tgid:")).split()[1])
    pidfd = os.pidfd_open(process)
    try:
        copy = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return socket.socket(fileno=copy)
    finally:
        os.close(pidfd)
