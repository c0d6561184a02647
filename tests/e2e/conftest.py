"""The end-to-end suite: the installed `chalk`, as a user runs it, against a cluster.

By default that is the embedded cluster, started here in a folder of its own. With
`--real-cluster KUBECONFIG` it is whatever that file's current context names; asked for and not
reachable is a failure. Every test has a namespace of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import CHALK, Chalk, Kubernetes, dump, environment
from tests.e2e.load import Door

FAILED = pytest.StashKey[bool]()
BESIDE_THE_GATEWAY = "answered beside the gateway"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What a cluster elsewhere needs: time to pull and to back off, and its own idea of certificates."""
    if not config.getoption("--real-cluster"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))
            item.add_marker(pytest.mark.filterwarnings("ignore:Unverified HTTPS request"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which answers did not come by the gateway: then it was not it that was tested."""
    reasons = Counter(
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == BESIDE_THE_GATEWAY and getattr(report, "when", None) == "call"
    )
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} x a replica was asked past the gateway: {reason}")


@pytest.fixture(scope="session")
def real(request: pytest.FixtureRequest) -> bool:
    """Whether the cluster is someone else's."""
    return bool(request.config.getoption("--real-cluster"))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, home: Path, real: bool) -> Mapping[str, str]:
    """The environment variables that every process of the suite sees, this one included."""
    registry = request.config.getoption("--registry")
    return environment(home, real=real) | ({"CHALK_REGISTRY": registry} if registry else {})


@pytest.fixture(autouse=True)
def _same_world(world: Mapping[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CHALK_", "KUBE")) and not name.startswith("CHALK_E2E_"):
            monkeypatch.delenv(name)
    for name, value in world.items():
        if name.startswith("CHALK_") or name in ("HOME", "NO_COLOR", "UV_CACHE_DIR"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)


@pytest.fixture(scope="session")
def kubeconfig(
    request: pytest.FixtureRequest, home: Path, world: Mapping[str, str], real: bool
) -> Iterator[Path]:
    if real:
        given = request.config.getoption("--real-cluster")
        path = Path(given).resolve()
        if not path.is_file():
            pytest.fail(f"--real-cluster {given}: no such file")
        try:
            status, body = Kubernetes(path).request("get", "/version")
        except Exception as error:
            pytest.fail(f"--real-cluster {given}: not reachable: {error}")
        assert status == 200, f"--real-cluster {given}: /version answered {status}: {body}"
        yield path
        return
    state = home / "local"
    env = {**world, "CHALK_LOCAL_HOME": str(state)}
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


@pytest.fixture(scope="session")
def _image(kubernetes: Kubernetes, real: bool) -> None:
    """The first pull may take longer than any test should wait."""
    if not real:
        return
    name = f"e2e{secrets.token_hex(5)}"
    kubernetes.make_namespace(name)
    try:
        kubernetes.pull_image(name)
    finally:
        kubernetes.remove_namespace(name)


@pytest.fixture
def namespace(kubernetes: Kubernetes, _image: None) -> Iterator[str]:
    """A namespace whose name is a valid environment id; gone afterwards."""
    name = f"e2e{secrets.token_hex(5)}"
    try:
        kubernetes.make_namespace(name)
        yield name
    finally:
        kubernetes.remove_namespace(name)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if call.when == "call":
        item.stash[FAILED] = outcome.get_result().failed


@pytest.fixture
def chalk(
    request: pytest.FixtureRequest,
    kubeconfig: Path,
    kubernetes: Kubernetes,
    namespace: str,
    home: Path,
    world: Mapping[str, str],
    real: bool,
) -> Iterator[Chalk]:
    runner = Chalk(kubeconfig, namespace, home, world, patience=600 if real else 180)
    yield runner
    if request.node.stash.get(FAILED, False):
        sys.stderr.write("\n\n".join(str(o) for o in runner.transcript))
        sys.stderr.write(dump(kubernetes, namespace))


@pytest.fixture
def registry(world: Mapping[str, str], kubernetes: Kubernetes, namespace: str, real: bool) -> str:
    """Where images of this test's namespace are pushed to, and the cluster pulls them from."""
    if found := world.get("CHALK_REGISTRY"):
        return found
    if real:
        pytest.skip("builds an image, and no --registry says where it can be pushed to")
    annotations = kubernetes.get(f"/api/v1/namespaces/{namespace}")["metadata"]["annotations"]
    return str(annotations["chalk.ai/registry"])


@pytest.fixture
def client(kubeconfig: Path, namespace: str) -> Any:
    """A `ChalkClient` of the SDK for this test's namespace."""
    from chalkcompute import ChalkClient

    return ChalkClient(kubeconfig=str(kubeconfig), namespace=namespace)


@pytest.fixture
def answer(
    request: pytest.FixtureRequest, kubernetes: Kubernetes, namespace: str, client: Any, real: bool
) -> Callable[..., tuple[int, str]]:
    """GET a path of a group by its gateway.

    The embedded gateway must answer, and at once. That of another cluster may take a moment after it has
    accepted a route, and may stand where this machine does not reach it: then a replica is asked, and the
    suite's last lines say so.
    """
    from chalkcompute.errors import UnreachableError

    def get(name: str, path: str = "/") -> tuple[int, str]:
        deadline = time.monotonic() + 60
        while True:
            try:
                response = client.call(name, path, method="GET", cold_start_timeout=10)
            except UnreachableError as error:
                if not real:
                    raise
                reason = error.message
                break
            if not real or response.status_code not in (404, 502, 503):
                return response.status_code, response.text
            if time.monotonic() > deadline:
                reason = f"it answers {response.status_code}"
                break
            time.sleep(1)
        request.node.user_properties.append((BESIDE_THE_GATEWAY, reason.replace(f"{namespace}-{name}", "…")))
        return ask_a_replica(kubernetes, namespace, name, path)

    return get


@pytest.fixture
def door(kubernetes: Kubernetes, namespace: str, client: Any, real: bool) -> Callable[[str], Door]:
    """How to connect to a group past all of our code; skips where its gateway is out of reach from here."""

    def find(name: str) -> Door:
        url = httpx.URL(client.get_scaling_group(name).web_url)
        host, port = url.netloc.decode(), url.port or {"https": 443, "http": 80}[url.scheme]
        gateway = kubernetes.gateway(namespace, name)
        context = None
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=os.environ.get("CHALK_CA_FILE"))
            if authority := (gateway["metadata"].get("annotations") or {}).get("chalk.ai/ca-certificate"):
                context.load_verify_locations(cadata=authority)
        if not real:
            return Door(host, "127.0.0.1", port, context)
        shown = [each["value"] for each in (gateway.get("status") or {}).get("addresses") or ()]
        given = os.environ.get("CHALK_GATEWAY_ADDRESS")
        tried = []
        for address in [given] if given else [url.host, *shown]:
            found = Door(host, address, port, context)
            try:
                found.connect(10).close()
            except OSError as error:
                tried.append(f"{address}: {error}")
            else:
                return found
        return pytest.skip(f"the gateway is not reachable from here ({'; '.join(tried)})")

    return find


def ask_a_replica(kubernetes: Kubernetes, namespace: str, name: str, path: str) -> tuple[int, str]:
    """By the API server's proxy; only the embedded one has none, and its pods are on this machine."""
    pod = next(p for p in kubernetes.pods(namespace, name) if "deletionTimestamp" not in p["metadata"])
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    if not kubernetes.serves("v1", "pods/proxy"):
        response = httpx.get(f"http://{pod['status']['podIP']}:{port}{path}", trust_env=False)
        return response.status_code, response.text
    status, body = kubernetes.request(
        "get", f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:{port}/proxy{path}"
    )
    return status, body if isinstance(body, str) else json.dumps(body)
