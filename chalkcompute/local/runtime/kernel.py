"""Linux system calls that Python has no function for, over ctypes: namespaces, mounts, seccomp, capabilities.

Runs in the init of a replica (`init.py`), which is started with `-I -S` and therefore imports nothing
but the standard library and its neighbours in this folder. Linux only; x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture since 5.12

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_GET_ACTION_AVAIL = 2
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_SECCOMP_RET_USER_NOTIF = 0x7FC00000
_SECCOMP_RET_ALLOW = 0x7FFF0000

_BPF_LOAD_WORD = 0x20
_BPF_JUMP_EQUAL = 0x15
_BPF_RETURN = 0x06
_OFFSET_NR = 0
_OFFSET_ARCH = 4

# machine: (AUDIT_ARCH, seccomp, pivot_root, bind, connect)
_NUMBERS = {
    "x86_64": (0xC000003E, 317, 155, 49, 42),
    "aarch64": (0xC00000B7, 277, 41, 200, 203),
}

# What a container runtime leaves to root: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
# setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


class _SockFilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def supported() -> bool:
    """Whether the system call numbers of this machine are known."""
    return os.uname().sysname == "Linux" and os.uname().machine in _NUMBERS


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`."""
    _check(_libc.unshare(flags), "unshare")


def mount(
    source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    """`mount(2)`."""
    _check(
        _libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)),
        f"mount {kind or 'bind'} on {target}",
    )


def make_read_only(target: str) -> None:
    """Make a mount and what is mounted under it read-only."""
    attributes = _MountAttributes(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        _bytes(target),
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if done != 0:  # before 5.12: the mount itself, with the flags that a user namespace locks kept
        locked = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root and take the old one away."""
    number = _NUMBERS[os.uname().machine][2]
    _check(_libc.syscall(number, _bytes(new_root), _bytes(put_old)), "pivot_root")
    os.chdir("/")
    old = put_old[len(new_root) :]
    _check(_libc.umount2(_bytes(old), _MNT_DETACH), "umount of the old root")
    os.rmdir(old)  # noqa: PTH106 - starts sooner without pathlib


def set_hostname(name: str) -> None:
    """`sethostname(2)`."""
    encoded = os.fsencode(name)
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def set_name(name: str) -> None:
    """The name that `ps` shows for this process."""
    _libc.prctl(_PR_SET_NAME, os.fsencode(name), 0, 0, 0)


def become_subreaper() -> None:
    """Orphans among our descendants become our children."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us a signal when our parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "PR_SET_PDEATHSIG")


def limit_capabilities() -> None:
    """Take what a container runtime takes from root out of the bounding set: it counts from the next exec."""
    for capability in range(_CAPABILITIES):
        if capability not in _KEPT_CAPABILITIES:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL past the last one is fine


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, value)


def _program() -> bytes:
    """Bind and connect of the native ABI ask the supervisor; everything else passes."""
    arch, _, _, bind, connect = _NUMBERS[os.uname().machine]
    return b"".join(
        (
            _instruction(_BPF_LOAD_WORD, 0, 0, _OFFSET_ARCH),
            _instruction(_BPF_JUMP_EQUAL, 1, 0, arch),
            _instruction(_BPF_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
            _instruction(_BPF_LOAD_WORD, 0, 0, _OFFSET_NR),
            _instruction(_BPF_JUMP_EQUAL, 2, 0, bind),
            _instruction(_BPF_JUMP_EQUAL, 1, 0, connect),
            _instruction(_BPF_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
            _instruction(_BPF_RETURN, 0, 0, _SECCOMP_RET_USER_NOTIF),
        )
    )


def check_user_notification() -> None:
    """Raise OSError where the kernel has no seccomp user notification (before 5.0)."""
    action = ctypes.c_uint32(_SECCOMP_RET_USER_NOTIF)
    number = _NUMBERS[os.uname().machine][1]
    _check(_libc.syscall(number, _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action)), "USER_NOTIF")


def install_filter() -> int:
    """Ask a supervisor about every bind and connect from now on; returns the listener's descriptor."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    code = _program()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _SockFilterProgram(len(code) // 8, ctypes.addressof(buffer))
    number = _NUMBERS[os.uname().machine][1]
    return _check(
        _libc.syscall(
            number,
            _SECCOMP_SET_MODE_FILTER,
            _SECCOMP_FILTER_FLAG_NEW_LISTENER,
            ctypes.byref(program),
        ),
        "seccomp filter",
    )


def map_to_root(uid: int, gid: int) -> None:
    """In a new user namespace: our user is its root."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - starts sooner
            file.write(text)
