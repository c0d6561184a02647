"""`ports.Runtime` over init processes: pull, start, addresses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalkcompute.local.ports import ImagePullError, Images, ReplicaSpec, StartError
from chalkcompute.local.runtime.addresses import AddressPool
from chalkcompute.local.runtime.cgroups import Cgroups, ReplicaCgroup
from chalkcompute.local.runtime.hostbase import HostBase, Interpreter
from chalkcompute.local.runtime.hostlayer import UNFINISHED
from chalkcompute.local.runtime.notify import Supervisor
from chalkcompute.local.runtime.outside import outside_plan
from chalkcompute.local.runtime.plain import hooked_python, linked_programs
from chalkcompute.local.runtime.prepare import DEFAULT_PATH, ImagePreparer, PreparedImage
from chalkcompute.local.runtime.probe import TRIAL, probe_machine
from chalkcompute.local.runtime.process import ProcessReplica, start_process
from chalkcompute.local.runtime.rootfs import HOST_FOLDERS
from chalkcompute.local.runtime.tiers import FILES_COUNT, ONE_ADDRESS, TIERS, Tier, choose_tier, obstacle
from chalkcompute.local.runtime.usage import PROC
from chalkcompute.local.runtime.watch import ReplicaLimits
from chalkcompute.local.state import remove_tree

__all__ = ["LocalRuntime", "create_runtime"]

_log = logging.getLogger(__name__)

_FOLDER = "runtime"
_SCRATCH = "replica-"
_CLOSE_SECONDS = 1.0
# Interpreters below these come with the layers of the sandbox.
_LAYERED = ("/usr/", "/opt/", "/var/", "/lib/", "/bin/", "/nix/", "/gnu/")
# What lives here needs its neighbours, too.
_TOGETHER = ("/home/linuxbrew/.linuxbrew",)


def create_runtime(
    state_dir: Path,
    *,
    tier: str = "auto",
    environ: Mapping[str, str] | None = None,
    images: Images | None = None,
    host_base: HostBase | None = None,
    cgroups: Cgroups | None = None,
) -> LocalRuntime:
    """The runtime for this machine. What an earlier one that was killed left in the folder is removed.

    Args:
        state_dir: Folder for what replicas need on disk; one runtime at a time.
        tier: `ns-root`, `ns-user`, `notify` or `plain`, or `auto` for the best that the machine allows.
        environ: Where PATH and HOME are looked up, for the interpreters of the host base.
        images: Where images come from; None for the host base alone.
        host_base: Finds the interpreters of this machine; None for one of the runtime's own.
        cgroups: What holds limits; None to watch them all.

    Raises:
        ValueError: An unknown tier, or one that this machine does not allow.
    """
    if tier != "auto" and tier not in TIERS:
        raise ValueError(f"tier `{tier}` is none of {', '.join(f'`{name}`' for name in ('auto', *TIERS))}")
    folder = state_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    capabilities = probe_machine(str(folder))
    chosen = choose_tier(capabilities) if tier == "auto" else TIERS[tier]
    if (why := obstacle(chosen, capabilities)) is not None:
        raise ValueError(f"this machine does not allow it ({why})")
    world = os.environ if environ is None else environ
    home = Path(world.get("HOME") or Path.home())
    for pattern in (f"{_SCRATCH}*", f"{TRIAL}*", f"{UNFINISHED}*"):
        for leftover in folder.glob(pattern):
            _remove(leftover)
    host_base = host_base or HostBase(search_path=world.get("PATH", ""), home=home)
    disk = capabilities.disk is None and not is_in_host_layers(folder)
    return LocalRuntime(state_dir, chosen, host_base, images, cgroups or Cgroups(), disk=disk)


def is_in_host_layers(folder: Path) -> bool:
    """Whether it is below a folder that is itself a layer of replicas: no overlay is written into that."""
    return folder.resolve().parts[1:2] in [(name,) for name in HOST_FOLDERS]


def _remove(folder: Path) -> None:
    """Remove what a replica left; what cannot go now goes at the next start."""
    with contextlib.suppress(OSError):
        remove_tree(folder)


class LocalRuntime:
    """Implements `ports.Runtime`."""

    def __init__(
        self,
        state_dir: Path,
        tier: Tier,
        host_base: HostBase,
        images: Images | None,
        cgroups: Cgroups,
        *,
        disk: bool,
    ) -> None:
        self._cgroups = cgroups
        self._disk = disk
        self._removals: set[asyncio.Future[None]] = set()
        self._folder = state_dir / _FOLDER
        self._tier = tier
        self._images = ImagePreparer(
            images,
            host_base,
            tier,
            state_dir,
            self._folder,
            lambda interpreter: self._programs(interpreter)[0],
        )
        self._addresses = AddressPool()
        self._supervisor: Supervisor | None = None
        self._replicas: set[ProcessReplica] = set()

    @property
    def tier(self) -> str:
        return self._tier.name

    @property
    def limitations(self) -> tuple[str, ...]:
        held = {name for name, how in self.limits.items() if how.startswith("cgroup")}
        in_memory = (FILES_COUNT,) if "memory" in held and self._tier.namespaces and not self._disk else ()
        return self._tier.limitations + in_memory + (() if sys.platform == "linux" else (ONE_ADDRESS,))

    @property
    def limits(self) -> dict[str, str]:
        watched = "watched" if PROC.is_dir() else "not enforced"
        found = {name: self._cgroups.version_for(name) for name in ("cpu", "memory")}
        return {name: f"cgroup v{version}" if version else watched for name, version in found.items()}

    def assign_address(self, pod_uid: str, preferred: str | None = None) -> str:
        return self._addresses.assign(pod_uid, preferred)

    def release_address(self, pod_uid: str) -> None:
        if self._supervisor is not None:
            self._supervisor.forget(self._addresses.assign(pod_uid))
        self._addresses.release(pod_uid)

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> tuple[str, str | None]:
        prepared = await self._images.pull(image, policy)
        return prepared.id, prepared.warning

    async def start(self, spec: ReplicaSpec) -> ProcessReplica:
        try:
            image = await self._images.ready(spec.image)
        except ImagePullError as error:
            raise StartError(str(error)) from error
        address = self.assign_address(spec.pod_uid)
        try:
            scratch = self._scratch()
        except OSError as error:
            raise StartError(f"cannot make a folder for the replica: {error}") from error
        try:
            plan = self._plan(spec, image, address, scratch)
        except StartError:
            scratch.rmdir()
            raise
        supervisor = self._supervise()

        cgroup = self._cgroup(scratch.name, spec)
        plan["cgroups"] = cgroup.joins if cgroup is not None else ()

        def clean_up(replica: ProcessReplica) -> None:
            self._replicas.discard(replica)
            # Behind: it may have written a lot.
            removal = asyncio.get_running_loop().run_in_executor(None, _remove, scratch)
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)

        try:
            replica = await start_process(
                plan,
                log_path=spec.log_path,
                limits=ReplicaLimits(
                    spec.cpu_limit, spec.memory_limit, cgroup, inits=2 if self._tier.namespaces else 1
                ),
                on_listener=lambda listener, loopback: supervisor.add(listener, address, loopback),
                on_exit=clean_up,
            )
        except StartError:
            if cgroup is not None:
                cgroup.remove()
            _remove(scratch)
            raise
        self._replicas.add(replica)
        return replica

    async def close(self) -> None:
        await asyncio.gather(*(replica.stop(_CLOSE_SECONDS) for replica in list(self._replicas)))
        await asyncio.gather(*self._removals)
        if self._supervisor is not None:
            self._supervisor.close()
        self._addresses.close()
        self._cgroups.close()

    def _cgroup(self, name: str, spec: ReplicaSpec) -> ReplicaCgroup | None:
        """Its control groups; None where there are none, so that its limits are watched."""
        if not self._cgroups.hierarchies:
            return None
        try:
            return self._cgroups.make(name, cpu=spec.cpu_limit, memory=spec.memory_limit)
        except OSError as error:
            _log.warning("pod %s: its limits are watched: no control group: %s", spec.pod, error)
            return None

    def _supervise(self) -> Supervisor:
        if self._supervisor is None:
            self._supervisor = Supervisor(asyncio.get_running_loop())
        return self._supervisor

    def _scratch(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._folder))

    def _plan(self, spec: ReplicaSpec, image: PreparedImage, address: str, scratch: Path) -> dict[str, Any]:
        config = image.config
        plan: dict[str, Any] = {
            "namespaces": self._tier.namespaces,
            "filter": self._tier.filter,
            "hostname": spec.pod[:63],
            "scratch": str(scratch.resolve()),
            "disk": self._disk,
            "argv": config.command_line(spec),
            "env": {"PATH": DEFAULT_PATH, **config.env, "HOSTNAME": spec.pod, **spec.env},
            "cwd": spec.working_dir or config.working_dir,
            "user": config.user,
        }
        if self._tier.namespaces:
            return {**plan, **_inside(image, spec, address)}
        assert image.interpreter is not None  # else it was not prepared in this tier
        return outside_plan(
            plan,
            spec,
            image.interpreter,
            programs=self._programs(image.interpreter),
            merged=image.merged,
            home=scratch,
            hook_address=None if self._tier.filter else address,
        )

    def _programs(self, interpreter: Interpreter) -> list[Path]:
        """Where `python` and the like are without namespaces, for the start of PATH."""
        linked = linked_programs(self._folder, interpreter)
        return [linked] if self._tier.filter else [hooked_python(self._folder, interpreter), linked]


def _inside(image: PreparedImage, spec: ReplicaSpec, address: str) -> dict[str, Any]:
    """What the mount namespace of a replica holds."""
    hostname = spec.pod
    return {
        "layers": [str(folder) for folder in image.folders],
        "host": image.interpreter is not None,
        "trees": _trees(image.interpreter.prefix) if image.interpreter is not None else [],
        "files": {
            "/etc/hostname": f"{hostname}\n",
            "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            f"{address}\t{hostname}\n",
            **_resolver(Path("/etc/resolv.conf")),
        },
        "mounts": [
            {"source": str(mount.source.resolve()), "target": mount.target, "read_only": mount.read_only}
            for mount in spec.mounts
        ],
        "devices": [str(device) for device in spec.devices],
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
