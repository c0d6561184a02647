"""What a group that sleeps costs its first caller on top of starting the process.

Each round waits until the group has no replica, asks it through the local gateway, and takes the time until
its answer; beside that, in the same round, the time from starting the same server by hand until it answers.
The aim is a difference of 150 ms.

usage: python benchmarks/scale_from_zero.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from chalkcompute import ChalkClient, ScalingGroupSpec

CHALK = Path(sys.executable).parent / "chalk"
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}"
NAME = "doze"
AIM = 0.150


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, host: str) -> bool:
    """Whether a server says 200. HEAD: `http.server` sends a body as a packet of its own, 40 ms later."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("HEAD", "/", headers={"Host": host})
        return connection.getresponse().status == 200


def bare_start() -> float:
    """Seconds from starting the server to its first answer."""
    port = free_port()
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(PYTHON), "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                if answers(port, "localhost"):
                    return time.perf_counter() - begun
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def wait_asleep(client: ChalkClient) -> None:
    """Until the group has no replica, and its last one is gone."""
    while True:
        counts = client.get_scaling_group(NAME).replicas
        if not counts.desired and not counts.ready:
            return
        time.sleep(0.1)


@contextlib.contextmanager
def local_cluster() -> Iterator[Path]:
    """A local cluster of our own; its state folder."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        env = {**os.environ, "HOME": folder, "CHALK_LOCAL_HOME": str(state)}

        def chalk(*args: str) -> None:
            subprocess.run([str(CHALK), *args], env=env, check=True, capture_output=True)

        chalk("local", "up")
        try:
            yield state
        finally:
            chalk("local", "down")


def http_port(state: Path) -> int:
    for path in state.glob("*.json"):
        facts = json.loads(path.read_text())
        if isinstance(facts, dict) and "http_port" in facts:
            return int(facts["http_port"])
    raise SystemExit(f"no file of {state} tells the gateway's port")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    woken, bare = [], []
    with local_cluster() as state:
        client = ChalkClient(kubeconfig=str(state / "kubeconfig"), namespace="default")
        spec = ScalingGroupSpec(
            name=NAME,
            image=IMAGE,
            port=8000,
            min_replicas=0,
            max_replicas=1,
            idle_timeout_seconds=1,
            shutdown_delay_seconds=0,
            entrypoint=("python", "-m", "http.server", "8000"),
        )
        client.create_scaling_group(spec)
        client.wait_scaling_group(NAME, until="available")
        host, port = f"default-{NAME}.gw.localhost", http_port(state)
        for number in range(options.rounds):
            wait_asleep(client)
            time.sleep(1)
            begun = time.perf_counter()
            if not answers(port, host):
                raise SystemExit(f"round {number}: the group did not answer")
            woken.append(time.perf_counter() - begun)
            bare.append(bare_start())
            print(
                f"round {number}: woken {woken[-1] * 1e3:4.0f} ms, bare {bare[-1] * 1e3:4.0f} ms",
                file=sys.stderr,
            )
    extra = statistics.median(w - b for w, b in zip(woken, bare, strict=True))
    ratio = statistics.median(w / b for w, b in zip(woken, bare, strict=True))
    print(f"first answer {statistics.median(woken) * 1e3:5.0f} ms   ", end="")
    print(f"bare start {statistics.median(bare) * 1e3:5.0f} ms   ratio {ratio:4.1f}   ", end="")
    print(f"extra {extra * 1e3:4.0f} ms (aim {AIM * 1e3:.0f})")


if __name__ == "__main__":
    main()
