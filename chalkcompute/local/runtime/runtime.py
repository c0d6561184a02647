"""`ports.Runtime` over init processes: pull, start, addresses."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalkcompute.local.ports import Mount, ReplicaSpec, StartError
from chalkcompute.local.runtime.addresses import AddressPool
from chalkcompute.local.runtime.hostbase import HostBase, Interpreter
from chalkcompute.local.runtime.images import parse_reference
from chalkcompute.local.runtime.notify import Supervisor
from chalkcompute.local.runtime.plain import ADDRESS_VARIABLE, hooked_python, linked_programs
from chalkcompute.local.runtime.probe import probe_machine
from chalkcompute.local.runtime.process import ProcessReplica, start_process
from chalkcompute.local.runtime.tiers import ONE_ADDRESS, TIERS, Tier, choose_tier, obstacle

__all__ = ["LocalRuntime", "create_runtime"]

_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDER = "runtime"
_SCRATCH = "replica-"
_CLOSE_SECONDS = 1.0
_DEFAULT_COMMAND = ("python3",)
# Interpreters below these come with the layers of the sandbox.
_LAYERED = ("/usr/", "/opt/", "/var/", "/lib/", "/bin/", "/nix/", "/gnu/")
# What lives here needs its neighbours, too.
_TOGETHER = ("/home/linuxbrew/.linuxbrew",)


def create_runtime(
    state_dir: Path,
    *,
    tier: str = "auto",
    environ: Mapping[str, str] | None = None,
) -> LocalRuntime:
    """The runtime for this machine. What an earlier one that was killed left in the folder is removed.

    Args:
        state_dir: Folder for what replicas need on disk; one runtime at a time.
        tier: `ns-root`, `ns-user`, `notify` or `plain`, or `auto` for the best that the machine allows.
        environ: Where PATH and HOME are looked up, for the interpreters of the host base.

    Raises:
        ValueError: An unknown tier, or one that this machine does not allow.
    """
    if tier != "auto" and tier not in TIERS:
        raise ValueError(f"tier `{tier}` is none of {', '.join(f'`{name}`' for name in ('auto', *TIERS))}")
    capabilities = probe_machine()
    chosen = choose_tier(capabilities) if tier == "auto" else TIERS[tier]
    if (why := obstacle(chosen, capabilities)) is not None:
        raise ValueError(f"this machine does not allow it ({why})")
    world = os.environ if environ is None else environ
    home = Path(world.get("HOME") or Path.home())
    for leftover in (state_dir / _FOLDER).glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return LocalRuntime(state_dir, chosen, HostBase(search_path=world.get("PATH", ""), home=home))


class LocalRuntime:
    """Implements `ports.Runtime`."""

    def __init__(self, state_dir: Path, tier: Tier, host_base: HostBase) -> None:
        self._folder = state_dir / _FOLDER
        self._tier = tier
        self._host_base = host_base
        self._addresses = AddressPool()
        self._supervisor: Supervisor | None = None
        self._replicas: set[ProcessReplica] = set()

    @property
    def tier(self) -> str:
        return self._tier.name

    @property
    def limitations(self) -> tuple[str, ...]:
        return self._tier.limitations + (() if sys.platform == "linux" else (ONE_ADDRESS,))

    def assign_address(self, pod_uid: str, preferred: str | None = None) -> str:
        return self._addresses.assign(pod_uid, preferred)

    def release_address(self, pod_uid: str) -> None:
        if self._supervisor is not None:
            self._supervisor.forget(self._addresses.assign(pod_uid))
        self._addresses.release(pod_uid)

    async def pull(self, image: str) -> tuple[str, str | None]:
        interpreter, warning = await self._host_base.resolve(parse_reference(image), image)
        return interpreter.image_id(), warning

    async def start(self, spec: ReplicaSpec) -> ProcessReplica:
        interpreter, _ = await self._host_base.resolve(parse_reference(spec.image), spec.image)
        address = self.assign_address(spec.pod_uid)
        try:
            scratch = self._scratch()
        except OSError as error:
            raise StartError(f"cannot make a folder for the replica: {error}") from error
        supervisor = self._supervise()

        def clean_up(replica: ProcessReplica) -> None:
            self._replicas.discard(replica)
            shutil.rmtree(scratch, ignore_errors=True)  # an empty mount point

        replica = await start_process(
            self._plan(spec, interpreter, address, scratch),
            log_path=spec.log_path,
            memory_limit=spec.memory_limit,
            on_listener=lambda listener, loopback: supervisor.add(listener, address, loopback),
            on_exit=clean_up,
        )
        self._replicas.add(replica)
        return replica

    async def close(self) -> None:
        await asyncio.gather(*(replica.stop(_CLOSE_SECONDS) for replica in list(self._replicas)))
        if self._supervisor is not None:
            self._supervisor.close()
        self._addresses.close()

    def _supervise(self) -> Supervisor:
        if self._supervisor is None:
            self._supervisor = Supervisor(asyncio.get_running_loop())
        return self._supervisor

    def _scratch(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._folder))

    def _plan(
        self, spec: ReplicaSpec, interpreter: Interpreter, address: str, scratch: Path
    ) -> dict[str, Any]:
        argv = [*(spec.command or ()), *spec.args] or list(_DEFAULT_COMMAND)
        env = {**_image_environment(interpreter), "HOSTNAME": spec.pod}
        plan: dict[str, Any] = {
            "namespaces": self._tier.namespaces,
            "filter": self._tier.filter,
            "hostname": spec.pod[:63],
            "scratch": str(scratch.resolve()),
            "argv": argv,
            "env": {**env, **spec.env},
            "cwd": spec.working_dir or "/",
        }
        if self._tier.namespaces:
            # A fresh image lets pip install; what it writes here goes with the replica.
            plan["env"] = {"PIP_BREAK_SYSTEM_PACKAGES": "1", **plan["env"]}
            return {**plan, **_inside(interpreter, spec.mounts, spec.pod, address)}
        return self._outside(plan, spec, interpreter, address, scratch)

    def _outside(
        self,
        plan: dict[str, Any],
        spec: ReplicaSpec,
        interpreter: Interpreter,
        address: str,
        scratch: Path,
    ) -> dict[str, Any]:
        """Without mounts: PATH leads to the interpreter, HOME is a folder of the replica's own."""
        programs = linked_programs(self._folder, interpreter)
        path = f"{programs}:{_PATH}"
        own: dict[str, str] = {"HOME": str(scratch)}
        if not self._tier.filter:
            path = f"{hooked_python(self._folder, interpreter)}:{path}"
            own[ADDRESS_VARIABLE] = address
        own["PATH"] = path
        env = {**plan["env"], **own, **spec.env}
        return {
            **plan,
            "argv": [_outside_path(word, spec.mounts) for word in plan["argv"]],
            "env": {name: _outside_path(value, spec.mounts) for name, value in env.items()},
            "cwd": _outside_path(plan["cwd"], spec.mounts),
        }


def _image_environment(interpreter: Interpreter) -> dict[str, str]:
    """What a `python` image sets."""
    return {
        "PATH": _PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHON_VERSION": interpreter.version,
    }


def _inside(
    interpreter: Interpreter, mounts: tuple[Mount, ...], hostname: str, address: str
) -> dict[str, Any]:
    """What the mount namespace of a replica holds beside the layers."""
    links = {f"/usr/local/bin/{name}": str(program) for name, program in interpreter.programs().items()}
    return {
        "trees": _trees(interpreter.prefix),
        "links": {path: target for path, target in links.items() if path != target},
        "files": {
            "/etc/hostname": f"{hostname}\n",
            "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            f"{address}\t{hostname}\n",
            **_resolver(Path("/etc/resolv.conf")),
        },
        "mounts": [
            {"source": str(mount.source.resolve()), "target": mount.target, "read_only": mount.read_only}
            for mount in mounts
        ],
    }


def _trees(prefix: Path) -> list[str]:
    """Folders of the host that an interpreter needs beside the layers of the sandbox."""
    for folder in _TOGETHER:
        if prefix.is_relative_to(folder):
            return [folder]
    return [] if f"{prefix}/".startswith(_LAYERED) else [str(prefix)]


def _resolver(path: Path) -> dict[str, str]:
    """The host's resolver settings, which are often a link to /run."""
    try:
        return {"/etc/resolv.conf": path.read_text(encoding="utf-8")}
    except (OSError, UnicodeError):
        return {}


def _outside_path(text: str, mounts: tuple[Mount, ...]) -> str:
    """A path below a mount's target, as a path of the host; any other text as it is."""
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if text == mount.target or text.startswith(mount.target.rstrip("/") + "/"):
            return str(mount.source) + text[len(mount.target.rstrip("/")) :]
    return text
