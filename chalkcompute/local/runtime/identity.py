"""The user that an image names, looked up in its own /etc/passwd and /etc/group.

Runs in the init of a replica, after its root has been entered.
Source: `moby/sys/user` (`GetExecUser`), which container runtimes use.
"""

# The init starts sooner without pathlib.
# ruff: noqa: PTH123

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Identity", "become", "identify"]

_PASSWD_FIELDS = 7
_GROUP_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a program runs as.

    Attributes:
        uid: User id.
        gid: Group id.
        groups: Further groups.
        home: Home folder, `/` where the user has no entry.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def identify(user: str, *, passwd: str = "/etc/passwd", group: str = "/etc/group") -> Identity:
    """Look up `user[:group]`, each a name or a number; "" is root.

    Raises:
        LookupError: A name without an entry; the text is that of a container runtime.
    """
    name, _, group_name = user.partition(":")
    name = name or "0"
    entry = next((each for each in _entries(passwd, _PASSWD_FIELDS) if name in (each[0], each[2])), None)
    if entry is None and not name.isdecimal():
        raise LookupError(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(entry[2] if entry else name)
    gid = int(entry[3]) if entry else 0
    groups: list[int] = []
    if group_name:
        found = next(
            (each for each in _entries(group, _GROUP_FIELDS) if group_name in (each[0], each[2])), None
        )
        if found is None and not group_name.isdecimal():
            raise LookupError(f"unable to find group {group_name}: no matching entries in group file")
        gid = int(found[2] if found else group_name)
    elif entry:
        groups = [int(each[2]) for each in _entries(group, _GROUP_FIELDS) if entry[0] in each[3].split(",")]
    return Identity(uid, gid, tuple(groups), (entry[5] if entry else "") or "/")


def become(identity: Identity) -> None:
    """Run as somebody from now on."""
    for descriptor in (1, 2):  # programs open /dev/stdout
        os.fchown(descriptor, identity.uid, -1)
    os.setgroups(identity.groups)
    os.setgid(identity.gid)
    os.setuid(identity.uid)


def _entries(path: str, fields: int) -> Iterator[list[str]]:
    """The entries of a file that have all their fields, with numbers where numbers belong."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        entry = line.strip().split(":")
        numbers = entry[2:4] if fields == _PASSWD_FIELDS else entry[2:3]
        if len(entry) >= fields and all(number.isdecimal() for number in numbers):
            yield entry
