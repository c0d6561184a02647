"""What the local gateway costs: requests per second and their slowest hundredth, beside the replica direct.

One replica that does next to nothing is asked by three ways in turn: straight at its address, through the
gateway over plain HTTP, and through the gateway over TLS; once by many connections at a time (what it can
carry) and once by a single one (what it adds to a request). Each figure is the median over rounds, and so is
each ratio, taken within a round. Load comes from `wrk` where it is installed, else from a generator of our
own, which is slower than what it measures: then only the ratios tell something.

usage: python benchmarks/gateway.py [--rounds 5] [--seconds 3] [--connections 16]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes import config
from kubernetes.client import CoreV1Api

from chalkcompute import ChalkClient, ScalingGroupSpec

CHALK = Path(sys.executable).parent / "chalk"
NAME = "bench"
PORT = 8000

# A thread or a parser for each request would be measured instead of the gateway.
SERVER = """
import asyncio
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/plain\\r\\ncontent-length: 6\\r\\n\\r\\nhello\\n"
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        self.transport.write(ANSWER * len(heads))
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "", 8000, backlog=512)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Way:
    """One way to the replica; `host` is what the Host header says."""

    name: str
    url: str
    host: str


@dataclass(frozen=True)
class Figures:
    """Requests per second, and the seconds within which 99 of 100 were answered."""

    rate: float
    p99: float


def by_wrk(way: Way, connections: int, seconds: float) -> Figures:
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-H", f"Host: {way.host}"]
    said = subprocess.run(
        ["wrk", *options, way.url], check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{way.url} does not answer as it should:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    if rate is None or p99 is None:
        raise SystemExit(f"wrk says something else than expected:\n{said}")
    return Figures(float(rate[1]), float(p99[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[p99[2]])


def by_hand(way: Way, connections: int, seconds: float) -> Figures:
    taken: list[float] = []
    target = urlsplit(way.url)
    context = None
    if target.scheme == "https":
        context = ssl.create_default_context()  # as wrk does, which checks no certificate
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = f"GET / HTTP/1.1\r\nHost: {way.host}\r\n\r\n".encode()

    async def ask(until: float) -> None:
        reader, writer = await asyncio.open_connection(target.hostname, target.port, ssl=context)
        while (begun := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{way.url} does not answer as it should:\n{head!r}")
            await reader.readexactly(6)
            taken.append(time.perf_counter() - begun)
        writer.close()

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(until) for _ in range(connections)))

    asyncio.run(all_of_them())
    return Figures(len(taken) / seconds, statistics.quantiles(taken, n=100)[98])


def ways(kubeconfig: Path) -> list[Way]:
    """Make the group, and find the ways to its replica."""
    client = ChalkClient(kubeconfig=str(kubeconfig), namespace="default")
    spec = ScalingGroupSpec(
        name=NAME, image="python:3.12", port=PORT, cpu="2", entrypoint=("python", "-c", SERVER)
    )
    client.create_scaling_group(spec)
    client.wait_scaling_group(NAME, until="available")
    config.load_kube_config(  # type: ignore[no-untyped-call, unused-ignore]
        config_file=str(kubeconfig)
    )
    pods = CoreV1Api().list_namespaced_pod("default", label_selector=f"chalk.ai/scaling-group={NAME}")
    (address,) = (pod.status.pod_ip for pod in pods.items if pod.status is not None)
    tls = urlsplit(str(client.get_scaling_group(NAME).web_url))
    status = subprocess.run(
        [str(CHALK), "local", "status"], check=True, capture_output=True, text=True
    ).stdout
    plain = re.search(r"http://\S+:(\d+)", status)
    if plain is None:
        raise SystemExit(f"the local cluster has no plain HTTP:\n{status}")
    return [
        Way("direct", f"http://{address}:{PORT}/", tls.netloc),
        Way("plain", f"http://127.0.0.1:{plain[1]}/", tls.netloc),
        Way("TLS", f"https://127.0.0.1:{tls.port}/", tls.netloc),
    ]


def report(title: str, rounds: list[dict[str, Figures]]) -> None:
    print(f"\n{title}")
    for name in rounds[0]:
        rate, p99 = (
            statistics.median(getattr(figures[name], field) for figures in rounds)
            for field in ("rate", "p99")
        )
        less, more = (
            statistics.median(
                getattr(figures[name], field) / getattr(figures["direct"], field) for figures in rounds
            )
            for field in ("rate", "p99")
        )
        print(
            f"{name:7} {rate:8.0f} requests/s   ratio {less:5.2f}   "
            f"p99 {p99 * 1e3:7.2f} ms   ratio {more:5.2f}"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--connections", type=int, default=16)
    options = arguments.parse_args()
    measure = by_wrk if shutil.which("wrk") else by_hand
    print(
        "load by wrk" if measure is by_wrk else "load by our own generator: `wrk` is not installed",
        flush=True,
    )
    figures: dict[int, list[dict[str, Figures]]] = {options.connections: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HOME": folder, "CHALK_LOCAL_HOME": f"{folder}/state"}
        try:
            subprocess.run([str(CHALK), "local", "up"], check=True, stdout=subprocess.DEVNULL)
            found = ways(Path(folder) / "state" / "kubeconfig")
            for way in found:
                measure(way, options.connections, 1)  # connections, caches and code are warm then
            for _ in range(options.rounds):
                for connections, rounds in figures.items():
                    rounds.append({way.name: measure(way, connections, options.seconds) for way in found})
        finally:
            subprocess.run([str(CHALK), "local", "down"], check=True, stdout=subprocess.DEVNULL)
    for connections, rounds in figures.items():
        report(f"{connections} connections" if connections > 1 else "one connection", rounds)


if __name__ == "__main__":
    main()
