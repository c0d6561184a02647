"""What the end-to-end tests are made of: the installed `chalk`, the cluster's own view, patience."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

CHALK = Path(sys.executable).parent / "chalk"
IMAGE = os.environ.get("CHALK_E2E_IMAGE", "python:3.12")
"""An image with `python` on its PATH that the cluster can pull."""

HTTP_SERVER = "python,-m,http.server,8000"

SERVER = [
    "python",
    "-c",
    "import runpy, signal, sys; signal.signal(signal.SIGTERM, signal.default_int_handler); "
    "sys.argv.append('8000'); runpy.run_module('http.server', run_name='__main__')",
]
"""`http.server` that ends when it is told to.

As process 1 of a container the plain one ignores SIGTERM: after every delete the replica would stay
for the 30 seconds of the grace period, and with it what it takes of a small node.
"""

SMALL: dict[str, Any] = {"cpu": "50m", "memory": "96Mi", "shutdown_delay_seconds": 1}
"""Arguments of the SDK for a replica of which many fit on a small node; `Chalk.serve` asks for the same."""

_KEPT = ("CHALK_GATEWAY", "CHALK_CA_FILE", "CHALK_KEDA_")
RUN = "CHALK_E2E_RUN"
RUN_LABEL = "chalk.ai/e2e"
"""Label of the namespaces of one run of the suite, so that its end finds them all."""


def environment(home: Path, *, real: bool) -> dict[str, str]:
    """The environment of the command line and of the SDK alike: of what chalk reads, nothing of the caller's.

    But for another cluster's: its gateway and its KEDA are where their owner says, and its credentials may
    come from a program that looks into the home folder.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHALK_", "KUBE")) or (real and name.startswith(_KEPT))
    }
    if "CHALK_CA_FILE" in env:
        env["CHALK_CA_FILE"] = str(Path(env["CHALK_CA_FILE"]).expanduser().resolve())
    # What packages uv has downloaded before it need not download again for another HOME.
    env.setdefault("UV_CACHE_DIR", str(Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "uv"))
    return {**env, "NO_COLOR": "1"} if real else {**env, "NO_COLOR": "1", "HOME": str(home)}


@dataclass(frozen=True)
class Outcome:
    """One finished command: exit code and both streams."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        command = f"$ chalk {' '.join(self.args)}\n[exit {self.code}]"
        return f"{command}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass
class Chalk:
    """Runs the installed `chalk` against one namespace and keeps what it said, for a failing test."""

    kubeconfig: Path
    namespace: str
    home: Path
    base: Mapping[str, str]
    patience: float
    transcript: list[Outcome] = field(default_factory=list)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            **self.base,
            "KUBECONFIG": str(self.kubeconfig),
            "CHALK_NAMESPACE": self.namespace,
            **(extra or {}),
        }

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        return self._start([str(CHALK), *args], env, cwd or self.home)

    def _start(self, command: list[str], env: Mapping[str, str] | None, cwd: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=self.environment(env),
        )

    def python(self, script: Path, *, code: int | None = 0, env: Mapping[str, str] | None = None) -> Outcome:
        """Run a program that uses the SDK, in the folder where it is."""
        process = self._start([sys.executable, str(script)], env, script.parent)
        return self.end(process, f"# python {script}", code=code)

    def __call__(self, *args: str, code: int | None = 0, **kwargs: Any) -> Outcome:
        return self.end(self.start(*args, **kwargs), *args, code=code)

    def end(self, process: subprocess.Popen[str], *args: str, code: int | None = 0) -> Outcome:
        """Wait for what `start` has started."""
        try:
            out, err = process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"chalk {' '.join(args)} did not end within {self.patience} s\n{out}\n{err}")
        outcome = Outcome(args, process.returncode, out, err)
        self.transcript.append(outcome)
        if code is not None:
            assert outcome.code == code, f"expected exit {code}\n{outcome}"
        return outcome

    def sg(self, *args: str, code: int | None = 0, **kwargs: Any) -> Outcome:
        return self("scaling-group", *args, code=code, **kwargs)

    def serve(self, name: str, *args: str, code: int | None = 0, **kwargs: Any) -> Outcome:
        """Create a small group that serves its working folder on port 8000; a flag given again wins."""
        return self.sg(
            "create",
            f"--name={name}",
            f"--image={IMAGE}",
            "--port=8000",
            f"--entrypoint={json.dumps(SERVER)}",
            f"--cpu={SMALL['cpu']}",
            f"--memory={SMALL['memory']}",
            f"--shutdown-delay={SMALL['shutdown_delay_seconds']}",
            *args,
            code=code,
            **kwargs,
        )


class Kubernetes:
    """The cluster's own view, past our code: plain requests with the official client's connection."""

    def __init__(self, kubeconfig: Path) -> None:
        from kubernetes import client, config
        from kubernetes.dynamic import DynamicClient

        configuration = type.__call__(client.Configuration)
        config.load_kube_config(  # type: ignore[no-untyped-call, unused-ignore]
            config_file=str(kubeconfig), client_configuration=configuration
        )
        if _is_loopback(configuration.host):
            configuration.proxy = None  # whatever HTTPS_PROXY says, as in Go and in the product
        self._client = DynamicClient(  # type: ignore[no-untyped-call, unused-ignore]
            client.ApiClient(configuration), discoverer=lambda client, cache_file: None
        )
        self._served: dict[str, frozenset[str]] = {}

    def request(self, method: str, path: str, body: Any = None, **kwargs: Any) -> tuple[int, Any]:
        status, answer = self._once(method, path, body, **kwargs)
        for _ in range(3):
            if status != 429 and (method != "get" or status < 500):
                break
            time.sleep(1)  # a busy API server, or the etcd behind it
            status, answer = self._once(method, path, body, **kwargs)
        return status, answer

    def _once(self, method: str, path: str, body: Any, **kwargs: Any) -> tuple[int, Any]:
        from kubernetes.dynamic.exceptions import DynamicApiError

        kwargs.setdefault("content_type", "application/json" if body is not None else None)
        try:
            response = self._client.request(
                method, path, body=body, serialize=False, _request_timeout=(5, 30), **kwargs
            )
        except DynamicApiError as error:
            return error.status, error.body
        text = response.data.decode() if isinstance(response.data, bytes) else response.data
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    def get(self, path: str) -> Any:
        status, body = self.request("get", path)
        assert status == 200, (status, path, body)
        return body

    def find(self, path: str) -> Any:
        """The object, or None if there is none."""
        status, body = self.request("get", path)
        assert status in (200, 404), (status, path, body)
        return body if status == 200 else None

    def items(self, path: str, labels: str = "") -> list[Any]:
        """A list; of a kind that the cluster does not serve, an empty one."""
        status, body = self.request("get", path, query_params=[("labelSelector", labels)] if labels else [])
        assert status in (200, 404), (status, path, body)
        return list(body["items"]) if status == 200 else []

    def serves(self, version: str, plural: str) -> bool:
        """Whether the cluster's discovery has it: `serves("keda.sh/v1alpha1", "scaledobjects")`."""
        if version not in self._served:
            found = self.find(f"/{'apis' if '/' in version else 'api'}/{version}")
            self._served[version] = frozenset(r["name"] for r in (found or {}).get("resources", ()))
        return plural in self._served[version]

    def group_objects(self, namespace: str, name: str) -> list[str]:
        """`Kind/name` of everything that carries the group's label, Events aside."""
        found = []
        for path in (
            f"/api/v1/namespaces/{namespace}/configmaps",
            f"/api/v1/namespaces/{namespace}/secrets",
            f"/api/v1/namespaces/{namespace}/services",
            f"/api/v1/namespaces/{namespace}/pods",
            f"/apis/apps/v1/namespaces/{namespace}/deployments",
            f"/apis/apps/v1/namespaces/{namespace}/replicasets",
            f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
            f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
            f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects",
            f"/apis/http.keda.sh/v1beta1/namespaces/{namespace}/interceptorroutes",
        ):
            plural = path.rsplit("/", 1)[1]
            found += [
                f"{plural}/{o['metadata']['name']}"
                for o in self.items(path, f"chalk.ai/scaling-group={name}")
            ]
        return sorted(found)

    def pods(self, namespace: str, name: str) -> list[Any]:
        return self.items(f"/api/v1/namespaces/{namespace}/pods", f"chalk.ai/scaling-group={name}")

    def deployment(self, namespace: str, name: str) -> Any:
        return self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")

    def container(self, namespace: str, name: str) -> Any:
        """The one container of a group's pods, as its Deployment has it."""
        (container,) = self.deployment(namespace, name)["spec"]["template"]["spec"]["containers"]
        return container

    def route(self, namespace: str, name: str) -> Any:
        return self.get(f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}")

    def gateway(self, namespace: str, name: str) -> Any:
        """The Gateway that a group's route is attached to; without a spec where it may not be looked at."""
        (parent,) = self.route(namespace, name)["spec"]["parentRefs"]
        status, gateway = self.request(
            "get",
            f"/apis/gateway.networking.k8s.io/v1/namespaces/{parent['namespace']}/gateways/{parent['name']}",
        )
        if status == 403:
            return {"metadata": {}}
        assert status == 200, gateway
        return gateway

    def scheme(self, namespace: str, name: str) -> str:
        """`https`, or `http` where the listener that a group's route is attached to is no HTTPS one."""
        gateway = self.gateway(namespace, name)
        if "spec" not in gateway:
            return "https"  # what the product assumes, too, when it may not look
        (parent,) = self.route(namespace, name)["spec"]["parentRefs"]
        (listener,) = (o for o in gateway["spec"]["listeners"] if o["name"] == parent["sectionName"])
        return {"HTTPS": "https", "HTTP": "http"}[listener["protocol"]]

    def make_namespace(self, name: str) -> None:
        """Ready for use: a real cluster refuses pods until it has made the default service account."""
        extra = dict(
            pair.split("=", 1)
            for pair in os.environ.get("CHALK_E2E_NAMESPACE_LABELS", "").replace(" ", "").split(",")
            if pair
        )
        labels = {**extra, RUN_LABEL: os.environ[RUN]}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        status, body = self.request("post", "/api/v1/namespaces", namespace)
        assert status == 201, body
        if self.serves("v1", "serviceaccounts"):
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            eventually(lambda: self.find(account), f"namespace {name} has its service account")

    def remove_namespace(self, name: str) -> None:
        """Let it go; its replicas at once, so that the next test finds their room free."""
        self.request("delete", f"/api/v1/namespaces/{name}")
        self.request("delete", f"/api/v1/namespaces/{name}/pods", query_params=[("gracePeriodSeconds", "0")])

    def remove_namespaces_of_this_run(self) -> None:
        for namespace in self.items("/api/v1/namespaces", f"{RUN_LABEL}={os.environ[RUN]}"):
            if "deletionTimestamp" not in namespace["metadata"]:
                self.remove_namespace(namespace["metadata"]["name"])

    def pull_image(self, namespace: str) -> None:
        """Have every node that takes pods pull `IMAGE`, however long that takes."""
        status, body = self.request("get", "/api/v1/nodes")
        nodes = [n["metadata"]["name"] for n in body["items"] if _takes_pods(n)] if status == 200 else []
        pods = f"/api/v1/namespaces/{namespace}/pods"
        for number, node in enumerate(nodes or [None]):
            spec = {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "containers": [{"name": "pull", "image": IMAGE, "command": ["python", "-c", "pass"]}],
                **({"nodeName": node} if node else {}),
            }
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pull-{number}"},
                "spec": spec,
            }
            status, body = self.request("post", pods, pod)
            assert status == 201, body
        deadline = time.monotonic() + 900
        while any(p["status"].get("phase") in (None, "Pending", "Running") for p in self.items(pods)):
            if time.monotonic() > deadline:
                break  # a node that is broken is none of ours; the tests tell about those that are not
            time.sleep(0.5)
        states = [p["status"] for p in self.items(pods)]
        if not any(s.get("phase") == "Succeeded" for s in states):
            pytest.fail(f"no node has run {IMAGE}; CHALK_E2E_IMAGE names another image: {json.dumps(states)}")


def _takes_pods(node: Any) -> bool:
    taints = node["spec"].get("taints") or ()
    return (
        not node["spec"].get("unschedulable")
        and all(taint["effect"] == "PreferNoSchedule" for taint in taints)
        and node["metadata"].get("labels", {}).get("kubernetes.io/os", "linux") == "linux"
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def kubeconfig_copy(original: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A changed copy; the files that it names relative to itself are still found."""
    config = yaml.safe_load(original.read_text(encoding="utf-8"))
    for plural, singular in (("clusters", "cluster"), ("users", "user")):
        for entry in config[plural]:
            for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
                if value := entry[singular].get(key):
                    entry[singular][key] = str(original.parent / value)
    change(config)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def dump(kubernetes: Kubernetes, namespace: str) -> str:
    """Objects, events and pod states of a failed test's namespace."""
    lines = [f"\n===== namespace {namespace} ====="]
    for group, plurals in (
        ("api/v1", ("pods", "services", "configmaps", "events")),
        ("apis/apps/v1", ("deployments", "replicasets")),
        ("apis/autoscaling/v2", ("horizontalpodautoscalers",)),
        ("apis/gateway.networking.k8s.io/v1", ("httproutes",)),
    ):
        for plural in plurals:
            status, body = kubernetes.request("get", f"/{group}/namespaces/{namespace}/{plural}")
            for obj in body["items"] if status == 200 else ():
                if plural == "events":
                    lines.append(f"event {obj.get('type')} {obj.get('reason')}: {obj.get('message')}")
                else:
                    lines.append(f"{plural}/{obj['metadata']['name']} {json.dumps(obj.get('status'))}")
    return "\n".join(lines)


def eventually(condition: Callable[[], Any], what: str, timeout: float = 100.0) -> Any:
    """The first true value of `condition`, asked every 0.2 s."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(StopIteration, KeyError, IndexError):
            if value := condition():
                return value
        time.sleep(0.2)
    return pytest.fail(f"not within {timeout} s: {what}")
