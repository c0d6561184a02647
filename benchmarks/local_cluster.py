"""What the embedded cluster costs on top of the bare processes it starts.

Three figures, each the median over rounds and each beside the bare cost of what it does, measured in
the same round: `up` beside starting Envoy, create -> Available of two `http.server` replicas beside
starting two Python processes until both answer, delete -> nothing left beside stopping those two.

usage: python benchmarks/local_cluster.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chalkcompute import ChalkClient, ScalingGroupSpec
from chalkcompute.local.gateway.envoy import find_binary

CHALK = Path(sys.executable).parent / "chalk"
SERVER = ("python", "-m", "http.server", "8000")


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = action()
    return time.perf_counter() - begun, result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.002)


def bare_envoy(folder: Path) -> float:
    """Seconds from starting Envoy with an empty configuration to its admin port answering."""
    port = free_port()
    config = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(find_binary()), "-c", str(path), "--disable-hot-restart", "-l", "off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port)
    taken = time.perf_counter() - begun
    process.kill()
    process.wait()
    return taken


def bare_servers() -> tuple[float, float]:
    """Seconds to start two `http.server` processes until both listen, and to stop them."""
    ports = [free_port(), free_port()]
    begun = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for port in ports
    ]
    for port in ports:
        wait_for_port(port)
    started = time.perf_counter() - begun
    begun = time.perf_counter()
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
    return started, time.perf_counter() - begun


def one_round(client: ChalkClient, number: int) -> dict[str, tuple[float, float]]:
    name = f"bench{number}"
    spec = ScalingGroupSpec(
        name=name,
        image="python:3.12",
        port=8000,
        min_replicas=2,
        max_replicas=2,
        shutdown_delay_seconds=0,
        entrypoint=SERVER,
    )

    def create() -> None:
        client.create_scaling_group(spec)
        client.wait_scaling_group(name, until="available")

    created, _ = timed(create)
    deleted, _ = timed(lambda: client.delete_scaling_group(name))
    started, stopped = bare_servers()
    return {"create": (created, started), "delete": (deleted, stopped)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    figures: dict[str, list[tuple[float, float]]] = {"up": [], "create": [], "delete": []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        env = {**os.environ, "HOME": folder, "CHALK_LOCAL_HOME": str(home / "state")}

        def chalk(*args: str) -> None:
            subprocess.run(
                [str(CHALK), *args], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

        try:
            for number in range(rounds):
                chalk("local", "down")
                up, _ = timed(lambda: chalk("local", "up"))
                figures["up"].append((up, bare_envoy(home)))
                client = ChalkClient(kubeconfig=str(home / "state" / "kubeconfig"), namespace="default")
                client.list_scaling_groups()  # connecting and importing are not what is measured
                for verb, pair in one_round(client, number).items():
                    figures[verb].append(pair)
        finally:
            chalk("local", "down")
    beside = {"up": "starting Envoy", "create": "starting two Pythons", "delete": "stopping two Pythons"}
    for verb, pairs in figures.items():
        ours = statistics.median(p[0] for p in pairs)
        bare = statistics.median(p[1] for p in pairs)
        ratio = statistics.median(p[0] / p[1] for p in pairs)
        print(f"{verb:7} {ours * 1e3:7.0f} ms   {beside[verb]:21} {bare * 1e3:6.0f} ms   ratio {ratio:5.1f}")


if __name__ == "__main__":
    main()
