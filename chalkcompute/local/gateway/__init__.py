"""The gateway of the embedded cluster: HTTPRoutes served by Envoy over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from chalkcompute.local.gateway.activator import Activator
from chalkcompute.local.gateway.authority import Authority, Certificate, server_certificate
from chalkcompute.local.gateway.controller import ConfigFiles, GatewayController, run_together
from chalkcompute.local.gateway.envoy import EnvoyFiles, EnvoyProcess, clusters_loaded
from chalkcompute.local.gateway.objects import GatewayPorts
from chalkcompute.local.gateway.traffic import GatewayTraffic
from chalkcompute.local.ports import Api

__all__ = ["Activator", "GatewayPorts", "GatewayTraffic", "run_gateway"]

_CERTIFICATE_CHECK = 6 * 3600.0
_CERTIFICATE = "gateway"


async def run_gateway(
    api: Api,
    *,
    state_dir: Path,
    https_port: int,
    http_port: int,
    envoy_binary: Path,
    authority: Authority,
    domain: str,
    log_path: Path,
    activator: Activator,
    traffic: GatewayTraffic,
    concurrency: int = 2,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the HTTPRoutes until cancelled; calls `ready` each time that Envoy serves.

    Start it in the main thread (prctl(2), PR_SET_PDEATHSIG).

    Args:
        api: The API server.
        state_dir: Folder for certificates (`ca`) and Envoy's files (`run/gateway`).
        https_port: Port of the HTTPS listener on 127.0.0.1.
        http_port: Port of the plain HTTP listener.
        envoy_binary: Envoy.
        authority: Signs the gateway's certificate.
        domain: Domain of the listeners; the certificate is for it and `*.` below it.
        log_path: Envoy's log.
        activator: Takes requests for groups without a replica; started and stopped here.
        traffic: Told what Envoy counts.
        concurrency: Envoy's worker threads.
        ready: Called when both listeners are open.

    Raises:
        PortLostError: Envoy cannot open a listener (its port was taken between our look and its start).
    """
    folder = state_dir / "run" / "gateway"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = ConfigFiles(folder / "xds")
    files.clear()

    def certificate() -> Certificate:
        names = (f"*.{domain}", domain)
        return server_certificate(state_dir / "ca", _CERTIFICATE, authority, names, datetime.now(UTC))

    envoy_files = EnvoyFiles(folder, log_path)
    controller = GatewayController(
        api,
        files,
        domain=domain,
        ports=GatewayPorts(https_port, http_port),
        certificate=certificate,
        ca_pem=authority.pem,
        follow=traffic.follow,
        loaded=partial(clusters_loaded, envoy_files.admin),
    )
    envoy = EnvoyProcess(envoy_binary, envoy_files, ("https", "http"), concurrency=concurrency)
    await _run_parts(api, controller, envoy, envoy_files, activator, traffic, ready)


async def _run_parts(
    api: Api,
    controller: GatewayController,
    envoy: EnvoyProcess,
    envoy_files: EnvoyFiles,
    activator: Activator,
    traffic: GatewayTraffic,
    ready: Callable[[], None],
) -> None:
    port = await activator.start()
    try:
        await run_together(
            activator.run(api, port),
            controller.run(),
            _serve(controller, envoy, activator, traffic, ready),
            traffic.run(envoy_files.admin),
            _renew(controller),
        )
    finally:
        await activator.stop()


async def _serve(
    controller: GatewayController,
    envoy: EnvoyProcess,
    activator: Activator,
    traffic: GatewayTraffic,
    ready: Callable[[], None],
) -> None:
    await controller.configured.wait()

    def started() -> None:
        controller.set_serving(True)
        ready()

    def ended() -> None:
        controller.set_serving(False)
        traffic.restart()

    running = asyncio.create_task(envoy.run(started=started, ended=ended))
    try:
        await asyncio.shield(running)
    finally:
        await activator.stop()  # while Envoy still is there to pass on what held requests are told
        running.cancel()
        await asyncio.wait({running})


async def _renew(controller: GatewayController) -> None:
    while True:
        await asyncio.sleep(_CERTIFICATE_CHECK)
        controller.refresh()
