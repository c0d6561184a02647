"""A real daemon in a folder of its own."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalkcompute.errors import LocalClusterError
from chalkcompute.local import lifecycle
from chalkcompute.local.lifecycle import LocalStatus
from chalkcompute.local.ports_in_use import PREFERRED
from chalkcompute.local.state import ProcessIdentity, StateFolder, identify, read_json

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/chalk-gateway/gateways/local"
GATEWAY_CLASS = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/chalk-local"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder with ports that no other test prefers: a cluster that stops must find them again.

    They are below where clusters find theirs, and each of the processes that test has a range of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    mine = range(12000 + 500 * worker, 12500 + 500 * worker)
    path = tmp_path / "state"
    folder = StateFolder(path)
    folder.prepare()
    folder.ports.write_text(json.dumps(dict(zip(PREFERRED, random.sample(mine, 4), strict=True))))
    yield path
    lifecycle.down(path)


def request(status: LocalStatus, path: str, body: Any = None, *, token: str | None = None) -> Any:
    config = yaml.safe_load(status.kubeconfig.read_text())
    (cluster,), (user,) = config["clusters"], config["users"]
    authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    asked = urllib.request.Request(
        cluster["cluster"]["server"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {token or user['user']['token']}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(asked, context=context, timeout=30) as response:
        return json.load(response)


def envoy(state: Path) -> ProcessIdentity:
    identity = ProcessIdentity.from_mapping(read_json(state / "run" / "gateway" / "envoy.json"))
    assert identity is not None
    return identity


def daemon(state: Path) -> ProcessIdentity:
    identity = ProcessIdentity.from_mapping(read_json(StateFolder(state).daemon))
    assert identity is not None
    return identity


def test_up_is_ready_and_up_again_is_the_same(state: Path) -> None:
    first = lifecycle.up(state)
    assert first.running
    assert first.pid is not None
    assert request(first, "/version")["major"] == "1"
    gateway = request(first, GATEWAY)
    conditions = {c["type"]: c["status"] for c in gateway["status"]["conditions"]}
    assert conditions == {"Accepted": "True", "Programmed": "True"}
    ports = {listener["name"]: listener["port"] for listener in gateway["spec"]["listeners"]}
    assert ports == {"https": first.https_port, "http": first.http_port}
    features = request(first, GATEWAY_CLASS)["status"]["supportedFeatures"]
    assert {"name": "HTTPRouteRequestTimeout"} in features
    with pytest.raises(urllib.error.HTTPError, match="401"):
        request(first, "/api/v1/namespaces", token="wrong")
    again = lifecycle.up(state)
    assert (again.pid, again.started_at) == (first.pid, first.started_at)
    assert lifecycle.status(state).to_dict()["pid"] == first.pid
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{first.http_port}/", timeout=30)


def test_down_leaves_nothing_and_up_goes_on(state: Path) -> None:
    first = lifecycle.up(state)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
    uid = request(first, CONFIG_MAPS, body)["metadata"]["uid"]
    kubeconfig = first.kubeconfig.read_text()
    running = [daemon(state), envoy(state)]
    assert lifecycle.down(state)
    assert not any(identity.alive() for identity in running)
    assert not lifecycle.down(state)
    assert lifecycle.status(state) == LocalStatus(
        running=False, state_dir=state, kubeconfig=state / "kubeconfig"
    )
    second = lifecycle.up(state)
    assert request(second, f"{CONFIG_MAPS}/kept")["metadata"]["uid"] == uid
    assert second.kubeconfig.read_text() == kubeconfig, "a copy of it stays good"
    assert second.notices == ()


def test_no_time_to_start_leaves_no_daemon(state: Path) -> None:
    folder = StateFolder(state)
    folder.daemon_log.parent.mkdir(parents=True, exist_ok=True)
    folder.daemon_log.write_text("of an earlier run\n")
    with pytest.raises(LocalClusterError, match="not ready within 0 s and was stopped") as caught:
        lifecycle.up(state, timeout=0)
    assert "of an earlier run" not in caught.value.message
    # Where a daemon still runs, another one cannot take the folder.
    assert lifecycle.up(state).running


def test_killed_and_up_again(state: Path) -> None:
    first = lifecycle.up(state)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
    request(first, CONFIG_MAPS, body)
    killed, gateway = daemon(state), envoy(state)
    assert killed.signal(signal.SIGKILL)
    assert killed.wait_gone(30)
    assert gateway.wait_gone(30)
    assert not lifecycle.status(state).running
    second = lifecycle.up(state)
    assert second.pid != first.pid
    assert (second.server, second.https_port) == (first.server, first.https_port)
    assert request(second, f"{CONFIG_MAPS}/kept")["metadata"]["name"] == "kept"


def test_a_pid_that_someone_else_has_now(state: Path) -> None:
    folder = StateFolder(state)
    folder.prepare()
    ours = identify(os.getpid())
    assert ours is not None
    folder.daemon.write_text(json.dumps({**asdict(ours), "boot": "before", "ready": True, "started_at": 0}))
    status = lifecycle.up(state)
    assert status.pid != os.getpid()


def test_several_ups_at_once_are_one(tmp_path: Path) -> None:
    """The first ones ever: each finds no folder, and all make it."""
    path = tmp_path / "state"
    statuses: list[LocalStatus] = []
    threads = [threading.Thread(target=lambda: statuses.append(lifecycle.up(path))) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({status.pid for status in statuses}) == 1
        assert len(statuses) == 4
    finally:
        lifecycle.down(path)


def test_two_clusters_at_once_share_nothing(tmp_path: Path) -> None:
    """Both find the preferred ports free; whoever loses them looks again."""
    states = [tmp_path / "one", tmp_path / "two"]
    statuses: list[LocalStatus] = []
    threads = [
        threading.Thread(target=lambda path=path: statuses.append(lifecycle.up(path))) for path in states
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(statuses) == 2
        ports = {port for s in statuses for port in (s.server, s.https_port, s.http_port, s.registry)}
        assert len(ports) == 8
    finally:
        for path in states:
            lifecycle.down(path)


def test_a_taken_port_is_named(state: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(LocalClusterError, match=f"port {port} ") as raised:
            lifecycle.up(state, https_port=port)
    assert raised.value.hint is not None
    assert "--https-port" in raised.value.hint
    assert not lifecycle.status(state).running
    assert lifecycle.up(state).running


def test_other_ports_than_the_running_one_are_refused(state: Path) -> None:
    running = lifecycle.up(state)
    assert running.https_port is not None
    with pytest.raises(LocalClusterError, match="runs already"):
        lifecycle.up(state, https_port=running.https_port + 1)
    assert lifecycle.up(state, https_port=running.https_port).pid == running.pid


def test_an_unknown_tier_is_an_error(state: Path) -> None:
    with pytest.raises(LocalClusterError, match="hypervisor"):
        lifecycle.up(state, tier="hypervisor")


def test_a_damaged_store_is_an_error_that_says_so(state: Path) -> None:
    StateFolder(state).prepare()
    StateFolder(state).store.write_bytes(b"not a database, " * 1000)
    with pytest.raises(LocalClusterError, match=r"store\.db"):
        lifecycle.up(state)


def registries(status: LocalStatus) -> dict[str, str | None]:
    """What each Namespace says of where images are pushed."""
    found = request(status, "/api/v1/namespaces")["items"]
    return {
        each["metadata"]["name"]: (each["metadata"].get("annotations") or {}).get("chalk.ai/registry")
        for each in found
    }


def test_the_registry_and_where_to_push_to(state: Path) -> None:
    first = lifecycle.up(state)
    assert first.registry is not None
    assert first.to_dict()["registry"] == first.registry
    with urllib.request.urlopen(f"http://{first.registry}/v2/", timeout=30) as answer:
        assert answer.status == 200
    for name, given in (("team", {}), ("other", {"chalk.ai/registry": "registry.example/x"})):
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "annotations": given},
        }
        request(first, "/api/v1/namespaces", body)
    assert set(registries(first).values()) == {first.registry, "registry.example/x"}
    lifecycle.down(state)
    with socket.socket() as holder:
        # The registry's connections of a moment ago hold the port in TIME_WAIT.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", int(first.registry.rpartition(":")[2])))
        holder.listen()
        second = lifecycle.up(state)
    assert second.registry is not None
    assert second.registry != first.registry
    assert "references to images from before stay good" in second.notices[0]
    named = registries(second)
    assert named.pop("other") == "registry.example/x"
    assert set(named.values()) == {second.registry}


def test_reset_removes_everything(state: Path) -> None:
    running = lifecycle.up(state)
    both = [daemon(state), envoy(state)]
    assert running.pid == both[0].pid
    assert lifecycle.reset(state)
    assert not any(identity.alive() for identity in both)
    assert not state.exists()
    assert not lifecycle.reset(state)


def test_modules_of_the_working_folder_are_not_picked_up(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "aiohttp.py").write_text("raise SystemExit('picked up')")
    monkeypatch.chdir(elsewhere)
    assert lifecycle.up(state).running
