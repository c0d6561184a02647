"""What goes with a group: the objects of its namespace, the images of its registry, an app that tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness import Kubernetes

EXAMPLES = Path(__file__).parents[2] / "examples"

_PATHS = (
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/secrets",
    "/api/v1/namespaces/{}/services",
    "/api/v1/namespaces/{}/pods",
    "/api/v1/namespaces/{}/persistentvolumeclaims",
    "/apis/apps/v1/namespaces/{}/deployments",
    "/apis/apps/v1/namespaces/{}/replicasets",
    "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "/apis/http.keda.sh/v1beta1/namespaces/{}/interceptorroutes",
)
_THE_CLUSTERS = ("kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt")
"""ConfigMaps that controllers put into every namespace, when they get to it."""

TELLING = """
import hashlib, http.server, json, os, pathlib, stat
def look(folder):
    found = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith("..")]
        for path in (pathlib.Path(parent, name) for name in names if not name.startswith("..")):
            mode = oct(stat.S_IMODE(path.stat().st_mode))
            found[str(path)] = [mode, hashlib.sha256(path.read_bytes()).hexdigest()]
    return found
def write(path):
    path.parent.write_text(path.name)
ways = {"files": look, "read": lambda path: path.read_text(), "write": write}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        way, _, rest = self.path.lstrip("/").partition("/")
        try:
            if way == "env":
                status, answer = 200, {name: os.environ.get(name) for name in rest.split(",")}
            else:
                status, answer = 200, ways[way](pathlib.Path("/" + rest))
        except OSError as error:
            status, answer = 500, repr(error)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""`/env/A,B`, `/files/folder` (modes and digests), `/read/path`, `/write/path/text`."""


def objects(kubernetes: Kubernetes, namespace: str) -> dict[str, Any]:
    """`plural/name` of everything that a deploy can touch, Events aside, to the whole object."""
    return {
        f"{path.rpartition('/')[2]}/{obj['metadata']['name']}": obj
        for path in _PATHS
        for obj in kubernetes.items(path.format(namespace))
        if obj["metadata"]["name"] not in _THE_CLUSTERS
        and obj.get("type") != "kubernetes.io/service-account-token"
    }


def versions(kubernetes: Kubernetes, namespace: str) -> dict[str, str]:
    """The same with their versions: equal before and after, nothing was written."""
    return {name: obj["metadata"]["resourceVersion"] for name, obj in objects(kubernetes, namespace).items()}


def tags(registry: str, name: str) -> list[str]:
    """The tags of a group's repository (distribution-spec, "Content discovery")."""
    host, _, path = registry.partition("/")
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    repository = f"{path}/{name}" if path else name
    response = httpx.get(f"{scheme}://{host}/v2/{repository}/tags/list", trust_env=scheme == "https")
    return sorted(response.json().get("tags") or ()) if response.status_code == 200 else []
