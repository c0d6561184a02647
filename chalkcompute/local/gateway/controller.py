"""The gateway at work: watches objects, writes Envoy's files and everyone's status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.clock import utc_now
from chalkcompute.local.gateway import objects as own
from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.authority import Certificate
from chalkcompute.local.gateway.conditions import gateway_class_status, gateway_status, route_status
from chalkcompute.local.gateway.lingering import Lingering
from chalkcompute.local.gateway.objects import GatewayPorts, Objects
from chalkcompute.local.gateway.translate import Translation, translate
from chalkcompute.local.ports import Api, Change, Manifest
from chalkcompute.local.state import write_atomically

__all__ = ["MANAGER", "ConfigFiles", "GatewayController"]

MANAGER = "chalk-gateway"
"""Field manager of everything that the gateway writes."""

_log = logging.getLogger(__name__)

_GATHER = 0.005  # seconds in which changes that belong together (a rollout's) become one
_RETRY = 1.0


async def _at_once(clusters: Collection[str]) -> None:
    """Nothing to wait for."""


def _is_of_routes(name: str) -> bool:
    return name.startswith(("rds-", "lds"))


class ConfigFiles:
    """Envoy's watched folder; a file is written only when its content changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[str, str] = {}

    def clear(self) -> None:
        """Make the folder, without what an earlier run left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        self._written.clear()

    def write(self, files: Mapping[str, dict[str, Any]]) -> None:
        """Write in the given order."""
        for name, content in files.items():
            text = json.dumps(content, separators=(",", ":"))
            if self._written.get(name) != text:
                write_atomically(self.folder / f"{name}.json", text)
                self._written[name] = text

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other file."""
        for name in self._written.keys() - set(names):
            (self.folder / f"{name}.json").unlink(missing_ok=True)
            del self._written[name]


class GatewayController:
    """Reconciles everything at once after each burst of changes.

    Args:
        api: The API server.
        files: Envoy's files.
        domain: Domain of the listeners.
        ports: Their ports.
        certificate: Gives the certificate to serve, renewed when due.
        ca_pem: The authority to advertise.
        now: The clock, in UTC.
        follow: Told what is behind each of Envoy's clusters, whenever that has been written.
        loaded: Waits until Envoy has clusters of these names, or no longer.
    """

    def __init__(
        self,
        api: Api,
        files: ConfigFiles,
        *,
        domain: str,
        ports: GatewayPorts,
        certificate: Callable[[], Certificate],
        ca_pem: str,
        now: Callable[[], datetime] = utc_now,
        follow: Callable[[Mapping[str, Backend]], None] = lambda backends: None,
        loaded: Callable[[Collection[str]], Awaitable[None]] = _at_once,
    ) -> None:
        self._api = api
        self._files = files
        self._domain = domain
        self._ports = ports
        self._certificate = certificate
        self._ca_pem = ca_pem
        self._now = now
        self._follow_clusters = follow
        self._loaded = loaded
        self._clusters: frozenset[str] = frozenset()
        self._objects = Objects()
        self._dirty = asyncio.Event()
        self._serving = False
        self._lingering = Lingering()
        self.configured = asyncio.Event()
        """Set once Envoy's files have been written."""

    def set_serving(self, serving: bool) -> None:
        """Tell whether Envoy serves: what `Programmed` says."""
        self._serving = serving
        self._clusters = frozenset()
        self._dirty.set()

    def refresh(self) -> None:
        """Look again, for instance at the certificate."""
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        self.ensure_objects()
        changes = self._api.changes(own.KINDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(changes))
            group.create_task(self._reconcile_forever())

    def ensure_objects(self) -> None:
        """Make our own objects, or bring them back to what they should be."""
        for wanted in (
            own.namespace(),
            own.gateway_class(),
            own.gateway(self._domain, self._ports, self._ca_pem),
        ):
            self._ensure(wanted)

    def _ensure(self, wanted: Manifest) -> None:
        metadata = wanted["metadata"]
        try:
            live = self._api.get(wanted["kind"], metadata["name"], metadata.get("namespace", ""))
        except StatusError as error:
            if error.code != 404:
                raise
            self._api.create(wanted, manager=MANAGER)
            return
        changed = {**live, "metadata": {**live["metadata"]}}
        if metadata.get("annotations"):
            changed["metadata"]["annotations"] = {
                **(live["metadata"].get("annotations") or {}),
                **metadata["annotations"],
            }
        if "spec" in wanted:
            changed["spec"] = {**live.get("spec", {}), **wanted["spec"]}
        self._api.update(changed, manager=MANAGER)

    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._objects.update(change)
            self._dirty.set()

    async def _reconcile_forever(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_GATHER)
            self._dirty.clear()
            try:
                await self.reconcile()
            except (StatusError, OSError):
                _log.exception("the gateway's configuration could not be brought up to date")
                self._later()
            except Exception:
                # A defect of ours. What Envoy has goes on being served; the next change may be digestible.
                _log.exception("the gateway's controller failed")
                self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(_RETRY, self._dirty.set)

    async def reconcile(self) -> None:
        """Bring files and statuses up to date with the objects known now."""
        if self._objects.gateway is None or self._objects.gateway_class is None:
            self.ensure_objects()
        translation = translate(self._objects, self._ports, self._certificate(), self._files.folder)
        files, again = self._lingering.join(translation.files, time.monotonic())
        await self._write_files(files, frozenset(translation.backends))
        if again is not None:
            asyncio.get_running_loop().call_later(again, self._dirty.set)
        self.configured.set()
        self._follow_clusters(translation.backends)
        self._write_statuses(translation)

    async def _write_files(self, files: Mapping[str, dict[str, Any]], clusters: frozenset[str]) -> None:
        """Write what routes lead to, and the routes when Envoy has that.

        At any file that is moved into the folder it looks at all of them, in an order of its own: it may see
        a route before the cluster that it leads to, and answers 503 by it until then.
        """
        self._files.write({name: content for name, content in files.items() if not _is_of_routes(name)})
        if self._serving and not clusters <= self._clusters:
            await self._loaded(clusters)
            self._clusters = clusters
        self._files.write(files)
        self._files.keep_only(files.keys())

    def _write_statuses(self, translation: Translation) -> None:
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        for outcome in translation.routes:
            self._write_status(outcome.route, route_status(outcome, now))
        gateway_class, gateway = self._objects.gateway_class, self._objects.gateway
        if gateway_class is not None:
            self._write_status(gateway_class, gateway_class_status(gateway_class, now))
        if gateway is not None:
            status = gateway_status(
                gateway, translation.attached, self._ports, serving=self._serving, now=now
            )
            self._write_status(gateway, status)

    def _write_status(self, obj: Manifest, status: Manifest | None) -> None:
        if status is None or obj.get("status") == status:
            return
        try:
            self._api.update({**obj, "status": status}, manager=MANAGER, subresource="status")
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            # Changed or gone meanwhile: that change is on its way to us and brings us here again.


async def run_together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run until one ends, then end the others; the first failure is raised as it is."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):  # raised above, or on its way out
                await task
