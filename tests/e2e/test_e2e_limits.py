"""Limits hold, on any cluster: what takes too much memory is ended as a whole, and CPU is shared out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.e2e.harness import IMAGE, Chalk, Kubernetes, eventually

EATING_CHILD = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", "kept = []\\nwhile True: kept.append(bytearray(b'x' * 2**20))"])
time.sleep(3600)
"""

SPINNING = """
import http.server, signal, threading, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
share = []
def spin():
    end = (began := time.monotonic()) + 4
    used = time.process_time()
    while time.monotonic() < end:
        pass
    share.append((time.process_time() - used) / (time.monotonic() - began))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = repr(share).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
threading.Thread(target=spin, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""Takes all the CPU that it gets for a while, and says how many cores that was."""


def entrypoint(program: str) -> tuple[str, ...]:
    return ("--port=8000", f"--image={IMAGE}", "--", "python", "-c", program)


def test_a_child_that_eats_all_memory_ends_the_replica(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    failed = chalk.sg("create", "--name=eater", "--memory=64Mi", *entrypoint(EATING_CHILD), code=6)
    assert "64Mi" in failed.err
    verdict = chalk.sg("get", "eater", "-o", "json").json()["verdict"]
    assert verdict["cause"] == "OutOfMemory"
    (pod,) = kubernetes.pods(namespace, "eater")
    (status,) = pod["status"]["containerStatuses"]
    ended = (status["lastState"] or status["state"])["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_replica_gets_the_cpu_of_its_limit(chalk: Chalk, answer: Callable[..., tuple[int, str]]) -> None:
    chalk.sg("create", "--name=spinner", "--cpu=200m", "--memory=96Mi", *entrypoint(SPINNING))

    def share() -> Any:
        return answer("spinner")[1].strip("[] \n")

    cores = float(eventually(share, "it has spun"))
    assert 0 < cores < 0.5  # the limit is 0.2: a cluster that has other work gives less, never more
