"""The end-to-end suite: the installed `chalk`, as a user runs it, against a cluster.

By default that is the embedded cluster, started here in a folder of its own. With
`--real-cluster KUBECONFIG` it is whatever that file's current context names; asked for and not
reachable is a failure. Every test has a namespace of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import CHALK, Chalk, Kubernetes, dump

FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, home: Path) -> Iterator[Path]:
    real = request.config.getoption("--real-cluster")
    if real:
        path = Path(real).resolve()
        if not path.is_file():
            pytest.fail(f"--real-cluster {real}: no such file")
        try:
            status, body = Kubernetes(path).request("get", "/version")
        except Exception as error:
            pytest.fail(f"--real-cluster {real}: not reachable: {error}")
        assert status == 200, f"--real-cluster {real}: /version answered {status}: {body}"
        yield path
        return
    state = home / "local"
    env = {**os.environ, "HOME": str(home), "CHALK_LOCAL_HOME": str(state)}
    up = subprocess.run(
        [str(CHALK), "local", "up"], env=env, check=False, capture_output=True, text=True, timeout=120
    )
    try:
        assert up.returncode == 0, f"chalk local up failed\n{up.stdout}\n{up.stderr}"
        yield state / "kubeconfig"
    finally:
        down = subprocess.run(
            [str(CHALK), "local", "down"], env=env, check=False, capture_output=True, text=True, timeout=120
        )
    assert down.returncode == 0, f"chalk local down failed\n{down.stdout}\n{down.stderr}"


@pytest.fixture(scope="session")
def kubernetes(kubeconfig: Path) -> Kubernetes:
    return Kubernetes(kubeconfig)


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace whose name is a valid environment id; gone afterwards."""
    name = f"e2e{secrets.token_hex(5)}"
    status, body = kubernetes.request(
        "post",
        "/api/v1/namespaces",
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"chalk.ai/e2e": "true"}},
        },
    )
    assert status == 201, body
    try:
        yield name
    finally:
        kubernetes.request("delete", f"/api/v1/namespaces/{name}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if call.when == "call":
        item.stash[FAILED] = outcome.get_result().failed


@pytest.fixture
def chalk(
    request: pytest.FixtureRequest, kubeconfig: Path, kubernetes: Kubernetes, namespace: str, home: Path
) -> Iterator[Chalk]:
    runner = Chalk(kubeconfig, namespace, home)
    yield runner
    if request.node.stash.get(FAILED, False):
        sys.stderr.write("\n\n".join(str(o) for o in runner.transcript))
        sys.stderr.write(dump(kubernetes, namespace))


@pytest.fixture
def client(kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """A `ChalkClient` of the SDK for this test's namespace."""
    from chalkcompute import ChalkClient

    monkeypatch.chdir(home)
    return ChalkClient(kubeconfig=str(kubeconfig), namespace=namespace)


@pytest.fixture
def answer(kubernetes: Kubernetes, namespace: str, client: Any) -> Callable[[str, str], tuple[int, str]]:
    """GET a path of a group: by its gateway where that is reachable from here, else by the API server.

    The gateway of a cluster that is not ours may stand in a network that this machine does not
    reach; the API server's proxy to a replica is there on every cluster.
    """
    import httpx

    from chalkcompute.errors import UnreachableError

    def get(name: str, path: str = "/") -> tuple[int, str]:
        try:
            response = client.call(name, path, method="GET", cold_start_timeout=10)
        except (UnreachableError, httpx.TransportError, OSError):
            pod = next(
                p for p in kubernetes.pods(namespace, name) if "deletionTimestamp" not in p["metadata"]
            )
            port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
            status, body = kubernetes.request(
                "get", f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:{port}/proxy{path}"
            )
            return status, body if isinstance(body, str) else json.dumps(body)
        return response.status_code, response.text

    return get
