from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from chalkcompute.local.ports import ReplicaSpec

IMAGE = "localhost:5000/team/app:1"


class RunScenario(Protocol):
    def __call__(self, start: Callable[[], Any], scenario: Callable[[Any], Any]) -> Any: ...


@pytest.fixture
def running() -> RunScenario:
    """Runs a scenario with a runtime on a loop, and closes the runtime after it."""

    def run(start: Callable[[], Any], scenario: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            runtime = start()
            try:
                async with asyncio.timeout(100):
                    return await scenario(runtime)
            finally:
                await runtime.close()

        return asyncio.run(main())

    return run


def a_spec(folder: Path, *command: str, pod: str = "web", **changes: Any) -> ReplicaSpec:
    values: dict[str, Any] = {
        "namespace": "default",
        "pod": pod,
        "pod_uid": f"uid-{folder}-{pod}",
        "container": "app",
        "image": IMAGE,
        "command": command,
        "log_path": folder / "logs" / pod / "0.log",
    }
    return ReplicaSpec(**{**values, **changes})


def log_of(folder: Path, pod: str = "web") -> str:
    return (folder / "logs" / pod / "0.log").read_text()
