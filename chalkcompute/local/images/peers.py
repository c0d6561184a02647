"""Who is at the other end of a connection on loopback.

Any user of the machine can connect to a port of 127.0.0.1. Linux tells whose socket the other end is, in
/proc/net/tcp (proc_pid_net(5)); other systems do not, and there everybody is served.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

__all__ = ["is_own_peer", "uid_of_peer"]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_MAPPED = "0000000000000000FFFF0000"  # ::ffff:a.b.c.d, for a client whose socket is an IPv6 one


def is_own_peer(peer: tuple[str, int], own: tuple[str, int]) -> bool:
    """Whether the peer of a connection is a process of this user, or of root.

    Args:
        peer: Address and port of the other end.
        own: Address and port of our end.
    """
    if not _TABLES[0].exists():
        return True
    tables = [table.read_text(encoding="ascii") for table in _TABLES if table.exists()]
    return uid_of_peer(peer, own, tables) in (os.geteuid(), 0)


def uid_of_peer(peer: tuple[str, int], own: tuple[str, int], tables: list[str]) -> int | None:
    """The user that has the socket at the other end, or None when none is known.

    Args:
        peer: Address and port of the other end.
        own: Address and port of our end.
        tables: Content of /proc/net/tcp and /proc/net/tcp6.
    """
    ends = f"{_end(peer)} {_end(own)} "
    for table in tables:
        for line in table.splitlines():
            # A part of the line that is cheap to find; then the columns say for sure.
            if ends not in line and f"{_MAPPED}{_end(peer)} {_MAPPED}{_end(own)} " not in line:
                continue
            columns = line.split()
            uid, inode = columns[7], columns[9]
            # A socket that its process has closed belongs to nobody, and is listed as root's.
            if inode != "0":
                return int(uid)
    return None


def _end(address: tuple[str, int]) -> str:
    # Four bytes in network order, printed as a number of this machine: reversed on a little-endian one.
    packed = socket.inet_aton(address[0])
    return f"{int.from_bytes(packed, sys.byteorder):08X}:{address[1]:04X}"
