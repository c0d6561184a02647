"""`ports.Runtime` over a container engine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
import zstandard
from docker.errors import ImageNotFound

from chalkcompute.local.engine.archive import archive_chunks
from chalkcompute.local.engine.discovery import ENGINE_ERRORS, Engine, explain
from chalkcompute.local.engine.replica import EngineReplica, remove_container
from chalkcompute.local.ports import ImagePullError, Images, PulledImage, ReplicaSpec, StartError
from chalkcompute.local.runtime.addresses import AddressPool
from chalkcompute.local.runtime.imageconfig import ImageConfig, foreign_platform
from chalkcompute.local.runtime.images import parse_reference
from chalkcompute.local.runtime.output import LogPipe
from chalkcompute.local.runtime.tiers import ONE_ADDRESS

__all__ = ["LABEL", "EngineRuntime"]

LABEL = "chalk.ai/local"
"""Label of every container: the state folder of the local cluster that it belongs to."""

_REPOSITORY = "localhost/chalk-local"
_CALLS_AT_ONCE = 8
_CLOSE_SECONDS = 1.0
_LIMITATIONS = (
    "Only ports that a container declares (`containerPort`, TCP) are reachable",
    "127.0.0.1 is a container's own: it reaches neither this machine's services nor the other containers "
    "of its Pod there",
    "Images that cannot be pulled are not stood in for by this machine's Python",
    "A daemon that is killed leaves its containers running until the next `chalk local up --runtime engine`",
)
_STOP_SIGNAL = "SIGTERM"
_LOAD_ERRORS: tuple[type[Exception], ...] = (*ENGINE_ERRORS, zstandard.ZstdError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An image that the engine has: its name there and its configuration."""

    tag: str
    pulled: PulledImage


class EngineRuntime:
    """Implements `ports.Runtime`. What an earlier one of the folder left is removed first."""

    def __init__(self, engine: Engine, state_dir: Path, images: Images) -> None:
        """Take over an engine for a state folder.

        Args:
            engine: What runs the containers.
            state_dir: The state folder, which marks the containers as ours.
            images: Where images come from.

        Raises:
            OSError: The engine does not answer (or another of `discovery.ENGINE_ERRORS`).
        """
        self._client = engine.client
        self._engine = engine
        self._owner = str(state_dir.absolute())
        self._repository = f"{_REPOSITORY}/{hashlib.sha256(self._owner.encode()).hexdigest()[:12]}"
        self._images = images
        self._addresses = AddressPool()
        self._loaded: dict[str, _Loaded] = {}
        self._loading = asyncio.Lock()
        self._replicas: set[EngineReplica] = set()
        self._executor = ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="engine")
        self._remove_containers()

    @property
    def tier(self) -> str:
        return f"engine ({self._engine.name})"

    @property
    def limitations(self) -> tuple[str, ...]:
        return _LIMITATIONS + (() if sys.platform == "linux" else (ONE_ADDRESS,))

    @property
    def limits(self) -> dict[str, str]:
        return dict.fromkeys(("cpu", "memory"), "engine")

    def assign_address(self, pod_uid: str, preferred: str | None = None) -> str:
        return self._addresses.assign(pod_uid, preferred)

    def release_address(self, pod_uid: str) -> None:
        self._addresses.release(pod_uid)

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> tuple[str, str | None]:
        parse_reference(image)
        pulled = await self._images.pull(image, policy=policy)
        if pulled.host_base is not None:
            raise _failure(
                image,
                f"no registry gives its base, and the Python {pulled.host_base} of this machine, which would "
                f"stand in, cannot run in {self._engine.name}: connect to the registry, or start the local "
                "cluster with `--runtime sandbox`",
            )
        if (found := foreign_platform(pulled.config)) is not None:
            raise _failure(
                image,
                f"no match for platform in manifest: not found: the image is for {found}, which this "
                "machine is not; build it for several platforms",
            )
        tag = f"{self._repository}:{pulled.id.partition(':')[2]}"
        async with self._loading:  # replicas of one group ask for one image at the same time
            try:
                await self._call(self._load, tag, pulled)
            except _LOAD_ERRORS as error:
                raise _failure(image, f"{self._engine.name} does not load it: {explain(error)}") from error
        self._loaded[image] = _Loaded(tag, pulled)
        return pulled.reference, pulled.warning

    async def start(self, spec: ReplicaSpec) -> EngineReplica:
        try:
            if spec.image not in self._loaded:
                await self.pull(spec.image)
        except ImagePullError as error:
            raise StartError(str(error)) from error
        image = self._loaded[spec.image]
        options = self._options(spec, image, self.assign_address(spec.pod_uid))
        try:
            log = LogPipe(asyncio.get_running_loop(), spec.log_path)
        except OSError as error:
            raise StartError(f"cannot open the log file `{spec.log_path}`: {error}") from error
        creation = asyncio.ensure_future(self._call(self._run, options))
        try:
            container, output = await asyncio.shield(creation)
        except StartError:
            log.close_writer()
            log.close()
            raise
        except asyncio.CancelledError:
            log.close_writer()
            log.close()
            creation.add_done_callback(self._discard)
            raise
        replica = EngineReplica(
            container,
            output,
            log=log,
            stop_signal=str(image.pulled.config.get("config", {}).get("StopSignal") or _STOP_SIGNAL),
            memory_limit=spec.memory_limit,
            executor=self._executor,
            on_exit=self._replicas.discard,
        )
        self._replicas.add(replica)
        return replica

    async def close(self) -> None:
        await asyncio.gather(*(replica.stop(_CLOSE_SECONDS) for replica in list(self._replicas)))
        await asyncio.to_thread(self._executor.shutdown)
        await asyncio.to_thread(self._remove_containers)
        self._client.close()
        self._addresses.close()

    def _options(self, spec: ReplicaSpec, image: _Loaded, address: str) -> dict[str, Any]:
        """What `containers.create` takes."""
        words = ImageConfig.parse(image.pulled.config).command_line(spec)
        options: dict[str, Any] = {
            "image": image.tag,
            "name": f"chalk-{spec.pod}-{spec.container}-{secrets.token_hex(4)}",
            "entrypoint": words[:1],
            "command": words[1:],
            "environment": dict(spec.env),
            "hostname": spec.pod[:63],
            "labels": {
                LABEL: self._owner,
                # As other kubelets over docker have it.
                "io.kubernetes.pod.namespace": spec.namespace,
                "io.kubernetes.pod.name": spec.pod,
                "io.kubernetes.pod.uid": spec.pod_uid,
                "io.kubernetes.container.name": spec.container,
            },
            "mounts": [
                docker.types.Mount(
                    mount.target, str(mount.source.resolve()), type="bind", read_only=mount.read_only
                )
                for mount in spec.mounts
            ],
            "ports": {f"{port}/tcp": (address, port) for port in spec.ports},
            # A program that is process 1 has no default for SIGTERM, and is not made to bury orphans.
            "init": True,
            "healthcheck": {"test": ["NONE"]},  # probes are the kubelet's
            "log_config": {"Type": "none"},  # the log is ours
            "security_opt": ["label=disable"],  # SELinux would keep containers from the mounts
            "use_config_proxy": False,  # the environment is complete
        }
        if spec.working_dir is not None:
            options["working_dir"] = spec.working_dir
        if spec.cpu_limit is not None:
            options["nano_cpus"] = int(min(spec.cpu_limit, self._engine.cpus) * 1e9)
        if spec.gpus:
            options["device_requests"] = [
                docker.types.DeviceRequest(device_ids=list(spec.gpus), capabilities=[["gpu"]])
            ]
        if spec.memory_limit is not None:
            options["mem_limit"] = options["memswap_limit"] = spec.memory_limit  # no swap on top
        return options

    def _run(self, options: dict[str, Any]) -> tuple[Any, Any]:
        """Create and start a container, its output caught from the first byte."""
        container = output = None
        try:
            container = self._client.containers.create(**options)
            output = container.attach(stream=True)
            container.start()
            container.reload()
        except ENGINE_ERRORS as error:
            if container is not None:
                remove_container(container, output)
            why = explain(error)
            missing = "not found" in why or "no such file" in why
            raise StartError(
                f"failed to start container: {why}", exit_code=127 if missing else 128
            ) from error
        return container, output

    def _load(self, tag: str, pulled: PulledImage) -> None:
        try:
            self._client.images.get(tag)
        except ImageNotFound:
            self._client.images.load(archive_chunks(pulled, tag))

    def _remove_containers(self) -> None:
        """Remove those that an earlier daemon left, or this one forgot."""
        for container in self._client.containers.list(
            all=True, filters={"label": f"{LABEL}={self._owner}"}, ignore_removed=True
        ):
            remove_container(container)

    def _discard(self, creation: asyncio.Future[tuple[Any, Any]]) -> None:
        """Nobody waits for the container any more."""
        if creation.cancelled() or creation.exception() is not None:
            return
        with contextlib.suppress(RuntimeError):  # the runtime closes, and removes what there is itself
            self._executor.submit(remove_container, *creation.result())

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Ask the engine, off the event loop."""
        call = functools.partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _failure(image: str, why: str) -> ImagePullError:
    return ImagePullError(f'failed to pull and unpack image "{parse_reference(image)}": {why}')
