"""When a replica can serve: what its probe asks, how long it may take to start, and what follows."""

from __future__ import annotations

from typing import Any

from chalkcompute import ReadinessProbe, ScalingGroup
from tests.e2e.harness import IMAGE, SMALL, Chalk, Kubernetes, eventually

WARMING = """
import http.server, itertools, signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
asked = itertools.count(1)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        cold = self.path == "/ready" and next(asked) < 12
        self.send_response(503 if cold else 200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""Refuses its first requests, as a model that is not loaded yet."""

HEALTH = """
import itertools, signal, socketserver, struct
signal.signal(signal.SIGTERM, signal.default_int_handler)
asked = itertools.count(1)
def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.read(24)
        self.wfile.write(frame(4, 0, 0))
        body = {}
        while len(head := self.rfile.read(9)) == 9:
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream, payload = int.from_bytes(head[5:], "big"), self.rfile.read(length)
            if kind in (4, 6) and not flags & 1:
                self.wfile.write(frame(kind, 1, 0, payload if kind == 6 else b""))
            if kind == 0:
                body[stream] = body.get(stream, b"") + payload
            if kind in (0, 1) and flags & 1:
                self.answer(stream, body.get(stream, b""))
    def answer(self, stream, body):
        known = b"model" in body
        status = 1 if known and next(asked) >= 12 else 2
        headers = b"\\x88\\x0f\\x10\\x10application/grpc"
        self.wfile.write(frame(1, 4, stream, headers))
        self.wfile.write(frame(0, 0, stream, b"\\0" + struct.pack("!I", 2) + bytes((8, status))))
        self.wfile.write(frame(1, 5, stream, b"\\0\\x0bgrpc-status\\x010"))
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("", 8000), Handler).serve_forever()
"""
"""`grpc.health.v1.Health/Check` in the frames that it takes: `model` is not serving at first."""

SLOW = """
import http.server, signal, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
time.sleep({seconds})
http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def group(client: Any, name: str, program: str, **more: Any) -> ScalingGroup:
    return ScalingGroup(
        image=IMAGE,
        name=name,
        port=8000,
        entrypoint=["python", "-c", program],
        client=client,
        **{**SMALL, **more},
    )


def messages(kubernetes: Kubernetes, namespace: str, reason: str) -> set[str]:
    """What the Events of a reason say."""
    events = kubernetes.items(f"/api/v1/namespaces/{namespace}/events")
    return {event["message"] for event in events if event["reason"] == reason}


def restarts(kubernetes: Kubernetes, namespace: str, name: str) -> int:
    statuses = [s for pod in kubernetes.pods(namespace, name) for s in pod["status"]["containerStatuses"]]
    return sum(status["restartCount"] for status in statuses)


def test_ready_when_the_path_says_so(client: Any, kubernetes: Kubernetes, namespace: str) -> None:
    made = group(client, "warm", WARMING, readiness_probe=ReadinessProbe.http("/ready", period_seconds=1))
    made.deploy().wait_ready()
    assert "Readiness probe failed: HTTP probe failed with statuscode: 503" in messages(
        kubernetes, namespace, "Unhealthy"
    )
    assert restarts(kubernetes, namespace, "warm") == 0


def test_ready_when_the_grpc_health_service_says_so(
    client: Any, kubernetes: Kubernetes, namespace: str
) -> None:
    made = group(client, "health", HEALTH, readiness_probe=ReadinessProbe.grpc("model", period_seconds=1))
    made.deploy().wait_ready()
    assert any('"NOT_SERVING"' in said for said in messages(kubernetes, namespace, "Unhealthy"))


def test_a_slow_start_has_the_time_that_it_is_allowed(
    client: Any, kubernetes: Kubernetes, namespace: str
) -> None:
    made = group(
        client,
        "slow",
        SLOW.format(seconds=4),
        startup_timeout_seconds=120,
        readiness_probe=ReadinessProbe.http("/", period_seconds=1),
    )
    made.deploy().wait_ready()
    assert any(
        said.startswith("Startup probe failed: ") for said in messages(kubernetes, namespace, "Unhealthy")
    )
    (pod,) = kubernetes.pods(namespace, "slow")
    (status,) = pod["status"]["containerStatuses"]
    assert (status["started"], status["ready"], status["restartCount"]) == (True, True, 0)


def test_a_start_that_takes_longer_is_ended_and_said(
    client: Any, chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    made = group(
        client,
        "late",
        SLOW.format(seconds=3600),
        startup_timeout_seconds=2,
        readiness_probe=ReadinessProbe.tcp(period_seconds=1),
    )
    made.deploy()
    ended = "Container app failed startup probe, will be restarted"
    eventually(lambda: ended in messages(kubernetes, namespace, "Killing"), "the start is given up")
    eventually(lambda: restarts(kubernetes, namespace, "late") > 0, "the container is started again")

    def said() -> Any:
        return chalk.sg("get", "late", "-o", "json").json()["verdict"]

    verdict = eventually(said, "there is a verdict")
    assert "startup" in str(verdict)
