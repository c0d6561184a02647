"""The init of one replica: prepares its sandbox, starts the program, reaps, and leaves nothing behind.

Started as `python -I -S -c 'import init; init.main()'` with this folder on the path and a plan (JSON, see
`process.py`) on standard input; standard output and error are the replica's log. Descriptors in the plan:

    control  socket to the daemon: we send the seccomp listener (`F` + descriptor) and the exit code (`X7`);
             we receive `T` (terminate) and `K` (kill everything)
    leash    read end of a pipe whose other end only the daemon holds: when it closes, everything ends
    status   write end of a pipe: closed when the program is executing, or an error as JSON

`cgroups` names the files that the program joins its control groups with; the inits stay outside, so that a
replica that has used up its share, or its memory, does not keep them from their work.

With namespaces there are two of us: the outer one waits outside, the inner one is process 1 of the pid
namespace, so that the kernel ends every process of the replica with it. Without, the one init is the
subreaper of all its descendants and ends them one by one.
"""

# The init starts sooner without pathlib and subprocess.
# ruff: noqa: PTH112, PTH113, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from chalkcompute.local.runtime import identity, kernel, rootfs
else:
    import identity
    import kernel
    import rootfs

_KILLED = 128 + signal.SIGKILL
_START_FAILED = 128
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class _StartFailureError(Exception):
    """The program cannot be started; the text is what a container runtime says."""


def main() -> None:
    """Run the plan on standard input."""
    plan = json.load(sys.stdin)
    devnull = os.open("/dev/null", os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    for name in ("control", "leash", "status"):
        os.set_inheritable(plan[name], False)
    wakeup = _watch_signals()
    linux = sys.platform == "linux"
    if linux:
        kernel.set_name("chalk-init")
        kernel.become_subreaper()
    control = socket.socket(fileno=plan["control"])
    try:
        # Opened here, where the files are: the inner root does not have them.
        plan["cgroups"] = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in plan["cgroups"]]
        child = _start_inner(plan, control) if plan["namespaces"] else _start_program(plan, control)
    except (OSError, _StartFailureError) as error:
        _report(plan["status"], f"cannot prepare the sandbox: {error}")
        raise SystemExit(_START_FAILED) from None
    os.close(plan["status"])
    code = _supervise(child, wakeup, plan["leash"], control, whole_tree=not plan["namespaces"])
    with contextlib.suppress(OSError):  # the daemon may be gone
        control.send(b"X%d" % code)
    raise SystemExit(0)


def _start_inner(plan: dict[str, Any], control: socket.socket) -> int:
    """Enter new namespaces; the child is process 1 there. Returns its pid outside."""
    uid, gid = os.getuid(), os.getgid()
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID
    if plan["namespaces"] == "user":
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        kernel.map_to_root(uid, gid)
    else:
        kernel.unshare(flags)
    child = os.fork()
    if child:
        return child
    code = _START_FAILED
    try:
        kernel.die_with_parent(signal.SIGKILL)
        wakeup = _watch_signals()
        kernel.set_hostname(plan["hostname"])
        os.umask(0o022)  # a container's; the daemon's own is stricter
        rootfs.enter(plan)
        program = _start_program(plan, control)
        os.close(plan["status"])
        control.close()
        code = _supervise(program, wakeup, plan["leash"], None, whole_tree=False)
    except Exception as error:  # nothing above us could report it
        _report(plan["status"], f"cannot prepare the sandbox: {error}")
    finally:
        os._exit(code)


def _start_program(plan: dict[str, Any], control: socket.socket) -> int:
    child = os.fork()
    if child:
        for descriptor in plan["cgroups"]:
            os.close(descriptor)
        return child
    try:
        _join_cgroups(plan["cgroups"])
        os.setsid()
        if sys.platform == "linux":
            kernel.die_with_parent(signal.SIGKILL)
        _become_program(plan, control)
    except _StartFailureError as error:
        _report(plan["status"], f"unable to start container process: {error}")
    except Exception as error:  # the child must never run on as a second init
        _report(plan["status"], f"unable to start container process: {type(error).__name__}: {error}")
    finally:
        os._exit(_START_FAILED)


def _join_cgroups(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        try:
            os.write(descriptor, b"0\n")
        except OSError as error:
            raise _StartFailureError(f"cannot join its control group: {_strerror(error)}") from None


def _become_program(plan: dict[str, Any], control: socket.socket) -> NoReturn:
    env: dict[str, str] = plan["env"]
    argv: list[str] = plan["argv"]
    try:
        os.chdir(plan["cwd"])
    except OSError as error:
        raise _StartFailureError(
            f'chdir to cwd ("{plan["cwd"]}") set in config.json failed: {_strerror(error)}'
        ) from None
    program = find_program(argv[0], env.get("PATH", os.defpath))
    if plan["namespaces"]:
        kernel.limit_capabilities()
        env = {"HOME": _become_user(plan), **env}
    if plan["filter"]:
        listener = kernel.install_filter()
        rights = array.array("i", [listener])
        control.sendmsg([b"F"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(listener)
    signal.set_wakeup_fd(-1)
    for number in (*_FORWARDED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program, argv, env)
    except OSError as error:
        raise _StartFailureError(f"exec {program}: {_strerror(error)}") from None


def _become_user(plan: dict[str, Any]) -> str:
    """Run as the image's user where there is more than one; returns the home folder."""
    several = plan["namespaces"] == "root"
    try:
        user = identity.identify(plan["user"] if several else "")
    except LookupError as error:
        raise _StartFailureError(str(error)) from None
    if several and (user.uid, user.gid) != (0, 0):
        identity.become(user)
        kernel.die_with_parent(signal.SIGKILL)  # forgotten with the change
    return user.home


def find_program(name: str, path: str) -> str:
    """The file to execute for `name`, as a container runtime looks it up.

    Raises:
        _StartFailureError: with the runtime's words.
    """
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            raise _StartFailureError(f'exec: "{name}": stat {name}: {_strerror(error)}') from None
        if stat.S_ISDIR(mode):
            raise _StartFailureError(f'exec: "{name}": is a directory')
        if not os.access(name, os.X_OK):
            raise _StartFailureError(f'exec: "{name}": permission denied')
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise _StartFailureError(f'exec: "{name}": executable file not found in $PATH')


def _strerror(error: OSError) -> str:
    """`no such file or directory`, in the lower case of the runtimes' messages."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


def _report(status: int, message: str) -> None:
    with contextlib.suppress(OSError):  # the daemon may be gone; then nobody wants to know
        os.write(status, json.dumps({"message": message, "exit_code": _START_FAILED}).encode() + b"\n")


def _watch_signals() -> int:
    """A descriptor on which the numbers of signals arrive as bytes."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*_FORWARDED, signal.SIGCHLD):
        signal.signal(number, _noted)
    return reader


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has it."""


def _supervise(
    child: int, wakeup: int, leash: int, control: socket.socket | None, *, whole_tree: bool
) -> int:
    """Reap until `child` ends, passing signals and orders on; returns its exit code as a shell counts."""
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    poller.register(leash, select.POLLIN)
    if control is not None:
        poller.register(control.fileno(), select.POLLIN)
    code: int | None = None
    while code is None:
        for descriptor, _ in poller.poll():
            if descriptor == leash:
                _kill(child, whole_tree)
                if whole_tree:
                    _kill_descendants()
                raise SystemExit(_KILLED)
            if descriptor == wakeup:
                _pass_on(os.read(wakeup, 256), child)
            elif control is not None:
                _obey(control, child, whole_tree)
        code = _reap(child)
    if whole_tree:
        _kill_descendants()
    return code


def _pass_on(numbers: bytes, child: int) -> None:
    for number in numbers:
        if number in _FORWARDED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def _obey(control: socket.socket, child: int, whole_tree: bool) -> None:
    order = control.recv(16)
    if order == b"T":
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    else:  # `K`, or the daemon is gone
        _kill(child, whole_tree)


def _reap(main: int) -> int | None:
    """Reap everything that ended; the exit code of `main` when it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return _KILLED if code is None else code
        if pid == 0:
            return code
        if pid == main:
            exit_code = os.waitstatus_to_exitcode(status)
            code = exit_code if exit_code >= 0 else 128 - exit_code


def _kill(child: int, whole_tree: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    if whole_tree:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _kill_descendants() -> None:
    """End what the program left behind; new orphans become our children, so this ends."""
    while True:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants() -> list[int]:
    """Every process below us, from /proc; none where there is no /proc (macOS)."""
    parents: dict[int, int] = {}
    if not os.path.isdir("/proc/self"):
        return []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    found: list[int] = []
    wanted = {os.getpid()}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found.extend(wanted)
    return found
