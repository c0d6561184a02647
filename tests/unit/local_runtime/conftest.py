from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from chalkcompute.local.ports import Images, ReplicaExit, ReplicaSpec
from chalkcompute.local.runtime import LocalRuntime, create_runtime
from chalkcompute.local.runtime.cgroups import Cgroups
from chalkcompute.local.runtime.probe import probe_machine
from tests.unit.reserved_port import reserved_port


def allowed_tiers() -> list[str]:
    """The tiers of this machine; the last two are possible for every Linux and every machine."""
    found = probe_machine()
    tiers = {
        "ns-root": found.root_namespaces is None and found.notification is None,
        "ns-user": found.user_namespaces is None and found.notification is None,
        "notify": found.notification is None,
        "plain": True,
    }
    return [name for name, allowed in tiers.items() if allowed]


TIERS = allowed_tiers()


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[name for name in TIERS if name.startswith("ns-")] or ["plain"])
def strongest_tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Sandbox:
    """A runtime in a folder of its own, with short ways to start what tests start."""

    def __init__(self, folder: Path, tier: str) -> None:
        self.folder = folder
        self.tier = tier
        self.runtime: LocalRuntime = create_runtime(folder, tier=tier)

    async def use(self, images: Images) -> None:
        """Take images from somewhere, instead of the host base alone."""
        await self.runtime.close()
        self.runtime = create_runtime(self.folder, tier=self.tier, images=images)

    async def use_cgroups(self, cgroups: Cgroups) -> None:
        """Have limits held by the kernel, instead of watching them all."""
        await self.runtime.close()
        self.runtime = create_runtime(self.folder, tier=self.tier, cgroups=cgroups)

    async def tick(self) -> None:
        """Wait for a moment."""
        await asyncio.sleep(0.01)

    def spec(self, *command: str, pod: str = "web", **changes: Any) -> ReplicaSpec:
        values: dict[str, Any] = {
            "namespace": "default",
            "pod": pod,
            "pod_uid": f"uid-{self.folder}-{pod}",
            "container": "app",
            "image": "python:3",
            "command": command,
            "log_path": self.folder / "logs" / pod / "0.log",
        }
        return ReplicaSpec(**{**values, **changes})

    def address(self, pod: str = "web") -> str:
        return self.runtime.assign_address(f"uid-{self.folder}-{pod}")

    def output(self, pod: str = "web") -> str:
        return (self.folder / "logs" / pod / "0.log").read_text()

    async def run(self, *command: str, **changes: Any) -> tuple[ReplicaExit, str]:
        replica = await self.runtime.start(self.spec(*command, **changes))
        ended = await replica.wait()
        return ended, self.output(changes.get("pod", "web"))


class RunSandboxed(Protocol):
    def __call__(self, tier: str, scenario: Callable[[Sandbox], Any]) -> Any: ...


@pytest.fixture
def sandboxed(tmp_path: Path) -> RunSandboxed:
    """Runs a scenario with a runtime on a loop, and closes the runtime after it."""

    def run(tier: str, scenario: Callable[[Sandbox], Any]) -> Any:
        async def main() -> Any:
            sandbox = Sandbox(tmp_path, tier)
            try:
                async with asyncio.timeout(100):
                    return await scenario(sandbox)
            finally:
                await sandbox.runtime.close()

        return asyncio.run(main())

    return run


async def fetch(address: str, port: int) -> bytes:
    """What a server at an address sends; waits for it to come up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            reader, writer = await asyncio.open_connection(address, port)
        except OSError:
            assert time.monotonic() < deadline, f"nothing answers at {address}:{port}"
            await asyncio.sleep(0.02)
            continue
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody else listens on meanwhile."""
    with reserved_port() as port:
        yield port
