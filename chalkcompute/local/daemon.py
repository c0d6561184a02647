"""The daemon of the embedded cluster: API server, controllers, kubelet, gateway and registry in one loop.

    python -m chalkcompute.local.daemon --state FOLDER [--api-port N] [--https-port N] [--http-port N]
        [--registry-port N] [--runtime sandbox|engine]

`lifecycle.up` starts it and reads from `--report-fd` one line of JSON: ready, or why not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import logging
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.server import ApiServer
from chalkcompute.local.api.store import Store
from chalkcompute.local.clock import utc_now
from chalkcompute.local.controllers import NodeFacts, run_controllers, this_machine, withdraw_readiness
from chalkcompute.local.credentials import (
    bearer_token,
    kubeconfig,
    load_server_certificate,
    write_kubeconfig,
)
from chalkcompute.local.daemon_report import Report
from chalkcompute.local.gateway import Activator, GatewayTraffic, run_gateway
from chalkcompute.local.gateway.authority import Authority, load_or_make
from chalkcompute.local.gateway.envoy import find_binary
from chalkcompute.local.gateway.objects import GATEWAY_NAMESPACE
from chalkcompute.local.gpus import Gpu, find_gpus
from chalkcompute.local.images import (
    OwnHosts,
    RegistryServer,
    announce_registry,
    namespace_annotations,
    supply_images,
)
from chalkcompute.local.kubelet import LogStore, RunningContainers, run_kubelet
from chalkcompute.local.kubelet.devices import GpuAssignments
from chalkcompute.local.lifecycle import CONTEXT, DOMAIN
from chalkcompute.local.measures import Metrics, Traffic
from chalkcompute.local.metrics import Sampler
from chalkcompute.local.ports import Api, Images, Runtime
from chalkcompute.local.ports_in_use import LOOPBACK, ChosenPorts, PortLostError, choose_ports
from chalkcompute.local.runtime import create_runtime
from chalkcompute.local.runtime.cgroup_search import find_cgroups
from chalkcompute.local.runtime.hostbase import HostBase
from chalkcompute.local.state import StateFolder, identify

__all__ = ["Settings", "main", "run"]

_log = logging.getLogger(__name__)

_CERTIFICATE_CHECK = 6 * 3600.0
_OPEN_FILES = 10_240  # the most that macOS takes
_PORTS = ("api_port", "https_port", "http_port", "registry_port")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run.

    Attributes:
        folder: The state folder, prepared.
        ports: Ports asked for, by name; None for no wish.
        runtime: `sandbox`, or `engine` for containers of docker or podman.
        tier: Sandbox tier, or `auto`.
    """

    folder: StateFolder
    ports: Mapping[str, int | None] = field(default_factory=dict)
    runtime: str = "sandbox"
    tier: str = "auto"


def main(argv: list[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="chalkcompute.local.daemon", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--runtime", choices=("sandbox", "engine"), default="sandbox")
    parser.add_argument("--tier", default="auto")
    parser.add_argument("--report-fd", type=int)
    for name in _PORTS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    arguments = parser.parse_args(argv)
    folder = StateFolder(arguments.state.absolute())
    if arguments.report_fd is not None and os.fork() != 0:
        os._exit(0)  # the caller waits for this process only; the daemon is nobody's child
    os.chdir(folder.path)
    os.umask(0o077)
    _allow_many_files()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    ports = {name: getattr(arguments, name) for name in _PORTS}
    settings = Settings(folder, ports, arguments.runtime, arguments.tier)
    report = Report(arguments.report_fd)
    try:
        folder.claim()
        asyncio.run(run(settings, report.ready))
    except LocalClusterError as error:
        _log.error("%s", error.message)
        report.failed(error.message, error.hint, again=isinstance(error, PortLostError))
        return 1
    except Exception as error:
        _log.exception("the daemon failed")
        report.failed(f"the local cluster's daemon failed: {error!r}", f"see `{folder.daemon_log}`")
        return 1
    return 0


async def run(settings: Settings, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; leaves no process behind.

    Args:
        settings: How to run.
        ready: Called once API server, node and gateway are ready.

    Raises:
        LocalClusterError: A part cannot start.
    """
    stopping = _stop_signals()
    folder, now = settings.folder, utc_now()
    binary = find_binary()
    ports = choose_ports(folder, settings.ports)
    authority = load_or_make(folder.ca, DOMAIN, now)
    async with contextlib.AsyncExitStack() as stack:
        store = Store(folder.store)
        stack.callback(store.close)
        host_base = HostBase(search_path=os.environ.get("PATH", ""), home=Path.home())
        supply = supply_images(folder.images, port=ports.registry, host_base=host_base, environ=os.environ)
        stack.push_async_callback(supply.passthrough.close)
        api = ResourceApi(store, namespace_annotations=namespace_annotations(supply.own))
        withdraw_readiness(api, utc_now)
        announce_registry(api, supply.own)
        runtime = _create_runtime(settings, supply.images, host_base)
        stack.push_async_callback(runtime.close)
        token = bearer_token(folder)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_server_certificate(tls, folder, authority, now)
        logs = LogStore(folder.pod_logs)
        gpus = find_gpus()
        node, running = this_machine(gpus=gpus), RunningContainers()
        metrics = Sampler(running, node.name)
        activator = Activator()
        traffic = GatewayTraffic(activator.room)
        server = ApiServer(api, token=token, ssl_context=tls, logs=logs, metrics=metrics, traffic=traffic)
        await _listen(server, ports.api, "API server", "--api-port")
        stack.push_async_callback(server.stop)
        await _listen(supply.server, ports.registry, "registry", "--registry-port")
        stack.push_async_callback(supply.server.stop)
        url = f"https://{LOOPBACK}:{ports.api}"
        write_kubeconfig(folder, kubeconfig(CONTEXT, url, authority.pem, token))
        facts = _facts(ports, runtime, node, supply.own, url, now)
        _announce(folder, facts, ready=False)

        serving = asyncio.Event()
        await _until_stopped(
            stopping,
            _run_node(api, runtime, folder, logs, node, gpus, running, metrics, traffic),
            metrics.run(),
            _run_gateway(api, folder, ports, binary, authority, serving, activator, traffic),
            _renew(tls, folder, authority),
            _call_when_ready(api, serving, lambda: _announce_ready(folder, facts, ready)),
        )
        _log.info("stopping")


def _stop_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # a terminal that closes is no reason to end
    return stopping


async def _run_node(
    api: Api,
    runtime: Runtime,
    folder: StateFolder,
    logs: LogStore,
    node: NodeFacts,
    gpus: Sequence[Gpu],
    running: RunningContainers,
    metrics: Metrics,
    traffic: Traffic,
) -> None:
    """The control plane's controllers, and this machine as its node."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_controllers(
                api,
                node=node,
                clock=utc_now,
                volumes_dir=folder.volumes,
                metrics=metrics,
                traffic=traffic,
            )
        )
        group.create_task(
            run_kubelet(
                api,
                runtime,
                node_name=node.name,
                logs_dir=folder.pod_logs,
                pods_dir=folder.pods,
                volumes_dir=folder.volumes,
                logs=logs,
                running=running,
                gpus=GpuAssignments(gpus, folder.runtime / "gpus.json"),
            )
        )


def _run_gateway(
    api: Api,
    folder: StateFolder,
    ports: ChosenPorts,
    binary: Path,
    authority: Authority,
    serving: asyncio.Event,
    activator: Activator,
    traffic: GatewayTraffic,
) -> Coroutine[Any, Any, None]:
    return run_gateway(
        api,
        state_dir=folder.path,
        https_port=ports.https,
        http_port=ports.http,
        envoy_binary=binary,
        authority=authority,
        domain=DOMAIN,
        log_path=folder.logs / "envoy.log",
        activator=activator,
        traffic=traffic,
        ready=serving.set,
    )


async def _until_stopped(stopping: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts until told to stop; one that fails ends them all and is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    waiter = asyncio.create_task(stopping.wait())
    try:
        running: set[asyncio.Task[Any]] = {*tasks, waiter}
        while waiter in running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*tasks, waiter):
            task.cancel()
        results = await asyncio.gather(*tasks, waiter, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                _log.error("a part failed", exc_info=result)


async def _call_when_ready(api: Api, serving: asyncio.Event, announce: Callable[[], None]) -> None:
    await serving.wait()
    while not (
        any(_holds("Ready", node) for node in api.list("Node"))
        and any(_holds("Programmed", gateway) for gateway in api.list("Gateway", GATEWAY_NAMESPACE))
    ):
        await asyncio.sleep(0.01)
    announce()


def _holds(condition: str, obj: Mapping[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def _allow_many_files() -> None:
    """Sockets of the gateway and of watches: macOS gives 256 unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _renew(tls: ssl.SSLContext, folder: StateFolder, authority: Authority) -> None:
    while True:
        await asyncio.sleep(_CERTIFICATE_CHECK)
        load_server_certificate(tls, folder, authority, utc_now())


async def _listen(server: ApiServer | RegistryServer, port: int, what: str, flag: str) -> None:
    try:
        await server.start(LOOPBACK, port)
    except OSError as error:
        raise PortLostError(
            f"the {what} cannot listen on port {port}: {error.strerror or error}",
            hint=f"choose another with `{flag}`",
        ) from error


def _create_runtime(settings: Settings, images: Images, host_base: HostBase) -> Runtime:
    if settings.runtime == "engine":
        from chalkcompute.local.engine import EngineRuntime, connect  # of an extra of its own

        return EngineRuntime(connect(os.environ), settings.folder.path, images)
    folder = settings.folder.path
    cgroups = find_cgroups(folder)
    try:
        return create_runtime(folder, tier=settings.tier, images=images, host_base=host_base, cgroups=cgroups)
    except ValueError as error:
        cgroups.close()
        raise LocalClusterError(f"the sandbox tier `{settings.tier}` cannot be used: {error}") from error


def _facts(
    ports: ChosenPorts, runtime: Runtime, node: NodeFacts, own: OwnHosts, url: str, started_at: datetime
) -> dict[str, Any]:
    return {
        "server": url,
        "api_port": ports.api,
        "https_port": ports.https,
        "http_port": ports.http,
        "registry_port": ports.registry,
        "registry": own.name,
        "tier": runtime.tier,
        "limits": dict(runtime.limits),
        "gpus": node.gpus,
        "gpu_type": node.gpu_type,
        "limitations": list(runtime.limitations),
        "notices": list(ports.notices),
        "version": importlib.metadata.version("chalk-scaling-groups"),
        "started_at": started_at.timestamp(),
    }


def _announce_ready(folder: StateFolder, facts: Mapping[str, Any], ready: Callable[[], None]) -> None:
    _announce(folder, facts, ready=True)
    _log.info(
        "ready: API server %s, gateway on %d and %d, registry %s",
        facts["server"],
        facts["https_port"],
        facts["http_port"],
        facts["registry"],
    )
    ready()


def _announce(folder: StateFolder, facts: Mapping[str, Any], *, ready: bool) -> None:
    identity = identify(os.getpid())
    if identity is None:
        raise LocalClusterError("this system does not tell when a process started")
    folder.announce(identity, {**facts, "ready": ready})


if __name__ == "__main__":
    sys.exit(main())
