"""`call()` through the real gateway: what it answers by itself, and what a replica does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalkcompute.errors import UnreachableError
from tests.e2e.harness import IMAGE

# Counts what it sees, hangs up at /die, and at /forge words a 503 like Envoy.
APP = """
import http.server, json
seen = {}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/seen":
            return self.say(200, json.dumps(seen))
        key = f"{self.command} {self.path}"
        seen[key] = seen.get(key, 0) + 1
        if self.path == "/forge":
            self.say(503, "no healthy upstream")
    def say(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    do_POST = do_PUT = do_DELETE = do_GET
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_a_cold_group_is_waited_for_and_what_reached_a_replica_is_not_sent_again(
    client: Any, request: pytest.FixtureRequest
) -> None:
    from chalkcompute import ScalingGroup

    group = ScalingGroup(
        image=IMAGE, name="counts", port=8000, entrypoint=["python", "-c", APP], client=client
    ).deploy()
    try:
        # Right after `deploy()` the replica runs, and need not listen yet.
        assert group.call("/seen", json={}).json() == {}
    except UnreachableError:
        assert request.config.getoption("--real-cluster"), "the local gateway is always reachable"
        return
    expected: dict[str, int] = {}
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert group.call("/die", method=method).status_code in (502, 503)
        assert group.call("/forge", method=method).status_code == 503
        expected |= {f"{method} /die": 1, f"{method} /forge": 1}
    assert json.loads(group.call("/seen", method="GET").text) == expected
