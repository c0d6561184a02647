"""What the end-to-end tests are made of: the installed `chalk`, the cluster's own view, patience."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHALK = Path(sys.executable).parent / "chalk"
IMAGE = os.environ.get("CHALK_E2E_IMAGE", "python:3.12")
"""An image with `python` on its PATH that the cluster can pull."""

HTTP_SERVER = "python,-m,http.server,8000"


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
    transcript: list[Outcome] = field(default_factory=list)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CHALK_")}
        return {
            **kept,
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
            "CHALK_NAMESPACE": self.namespace,
            "NO_COLOR": "1",
            **(extra or {}),
        }

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(CHALK), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment(env),
        )

    def __call__(
        self, *args: str, code: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 180
    ) -> Outcome:
        process = self.start(*args, env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"chalk {' '.join(args)} did not end within {timeout} s\n{out}\n{err}")
        outcome = Outcome(args, process.returncode, out, err)
        self.transcript.append(outcome)
        if code is not None:
            assert outcome.code == code, f"expected exit {code}\n{outcome}"
        return outcome

    def sg(self, *args: str, code: int | None = 0, **kwargs: Any) -> Outcome:
        return self("scaling-group", *args, code=code, **kwargs)

    def serve(self, name: str, *args: str, code: int | None = 0, **kwargs: Any) -> Outcome:
        """Create a group that serves its working folder on port 8000."""
        return self.sg(
            "create",
            f"--name={name}",
            f"--image={IMAGE}",
            "--port=8000",
            f"--entrypoint={HTTP_SERVER}",
            *args,
            code=code,
            **kwargs,
        )


class Kubernetes:
    """The cluster's own view, past our code: plain requests with the official client's connection."""

    def __init__(self, kubeconfig: Path) -> None:
        from kubernetes import config
        from kubernetes.dynamic import DynamicClient

        api = config.new_client_from_config(  # type: ignore[no-untyped-call, unused-ignore]
            config_file=str(kubeconfig)
        )
        self._client = DynamicClient(  # type: ignore[no-untyped-call, unused-ignore]
            api, discoverer=lambda client, cache_file: None
        )

    def request(self, method: str, path: str, body: Any = None, **kwargs: Any) -> tuple[int, Any]:
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

    def items(self, path: str, labels: str = "") -> list[Any]:
        status, body = self.request("get", path, query_params=[("labelSelector", labels)] if labels else [])
        return body["items"] if status == 200 else []

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


def dump(kubernetes: Kubernetes, namespace: str) -> str:
    """Objects, events and pod states of a failed test's namespace."""
    lines = [f"\n===== namespace {namespace} ====="]
    for path in ("pods", "services", "configmaps", "events"):
        for obj in kubernetes.items(f"/api/v1/namespaces/{namespace}/{path}"):
            if path == "events":
                lines.append(f"event {obj.get('type')} {obj.get('reason')}: {obj.get('message')}")
            else:
                lines.append(f"{path}/{obj['metadata']['name']} {json.dumps(obj.get('status'))}")
    for group in ("apps/v1", "gateway.networking.k8s.io/v1"):
        for plural in ("deployments", "replicasets", "httproutes"):
            for obj in kubernetes.items(f"/apis/{group}/namespaces/{namespace}/{plural}"):
                lines.append(f"{plural}/{obj['metadata']['name']} {json.dumps(obj.get('status'))}")
    return "\n".join(lines)


def eventually(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """The first true value of `condition`, asked every 0.2 s."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(StopIteration, KeyError, IndexError):
            if value := condition():
                return value
        time.sleep(0.2)
    return pytest.fail(f"not within {timeout} s: {what}")
