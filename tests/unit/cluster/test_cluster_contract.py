"""The real client against the embedded cluster's real API server (over TLS: the end-to-end suite)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from chalkcompute.cluster.kubeconfig import Connection
from chalkcompute.cluster.rest import RestCluster
from chalkcompute.cluster.transport import OfficialTransport
from chalkcompute.errors import (
    InvalidObjectError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    UnauthorizedError,
)
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.server import ApiServer
from chalkcompute.local.api.store import Store
from chalkcompute.types import Manifest

TOKEN = "contract"


class NoLogs:
    def open(self, namespace: str, pod: str, pod_uid: str, container: str, previous: bool) -> Path | None:
        return None


def connection(folder: Path, port: int, token: str = TOKEN) -> Connection:
    server = f"http://127.0.0.1:{port}"
    path = folder / f"kubeconfig-{token}"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return Connection(server=server, context="c", files=(path,), context_name="c")


class Served:
    """The API server in a thread with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self.port = self._port.result(60)

    async def _serve(self) -> None:
        with contextlib.closing(Store(self.folder / "store.db")) as store:
            server = ApiServer(ResourceApi(store), token=TOKEN, ssl_context=None, logs=NoLogs())
            self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
            self._port.set_result(await server.start())
            await self._ended.wait()
            await server.stop()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("contract"))
    yield made
    made.stop()


@pytest.fixture
def cluster(served: Served) -> Iterator[RestCluster]:
    with contextlib.closing(OfficialTransport(connection(served.folder, served.port))) as opened:
        yield RestCluster(opened)


def config_map(name: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "labels": {"of": name}},
        "data": data,
    }


def test_create_replace_and_their_conflicts(cluster: RestCluster) -> None:
    made = cluster.create(config_map("a", x="1"))
    with pytest.raises(ObjectExistsError):
        cluster.create(config_map("a"))
    changed = cluster.replace({**made, "data": {"x": "2"}})
    assert cluster.get("ConfigMap", "a", "default")["data"] == {"x": "2"}
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    with pytest.raises(ObjectConflictError):
        cluster.replace({**made, "data": {"x": "3"}})


def test_apply_tells_new_from_old_and_does_nothing_twice(cluster: RestCluster) -> None:
    dry = cluster.apply(config_map("b", x="1"), dry_run=True)
    assert dry.created
    with pytest.raises(ObjectNotFoundError):
        cluster.get("ConfigMap", "b", "default")
    first, again = (cluster.apply(config_map("b", x="1")) for _ in range(2))
    assert (first.created, again.created) == (True, False)
    assert first.obj["metadata"]["resourceVersion"] == again.obj["metadata"]["resourceVersion"]


def test_an_unknown_field_is_a_bad_object_by_every_verb(cluster: RestCluster) -> None:
    wrong = {**config_map("c"), "oops": 1}
    for write in (cluster.create, cluster.apply):
        with pytest.raises(InvalidObjectError, match="oops"):
            write(wrong)


def test_delete_needs_the_right_uid(cluster: RestCluster) -> None:
    made = cluster.create(config_map("d"))
    with pytest.raises(ObjectConflictError):
        cluster.delete("ConfigMap", "d", "default", uid="00000000-0000-0000-0000-000000000000")
    assert cluster.delete("ConfigMap", "d", "default", uid=made["metadata"]["uid"])
    assert not cluster.delete("ConfigMap", "d", "default")


def test_lists_by_label_over_many_pages(cluster: RestCluster) -> None:
    for n in range(503):
        cluster.create(
            {
                **config_map(f"p{n:03}"),
                "metadata": {"name": f"p{n:03}", "namespace": "default", "labels": {"of": "pages"}},
            }
        )
    found = cluster.list("ConfigMap", "default", labels="of=pages")
    assert [obj["metadata"]["name"] for obj in found] == [f"p{n:03}" for n in range(503)]
    assert {obj["kind"] for obj in found} == {"ConfigMap"}
    assert cluster.list("ConfigMap", "default", labels="of=nobody") == []


def test_of_a_secret_only_the_metadata_travels(cluster: RestCluster) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default", "labels": {"of": "s"}, "annotations": {"a": "b"}},
        "type": "Opaque",
        "immutable": True,
        "data": {"KEY": "aHVudGVyMg=="},
    }
    for created in (True, False):
        applied = cluster.apply(secret)
        assert (applied.created, "data" in applied.obj) == (created, False)
    (found,) = cluster.list("Secret", "default", labels="of=s", metadata_only=True)
    assert set(found) == {"apiVersion", "kind", "metadata"}
    assert (found["apiVersion"], found["kind"]) == ("v1", "Secret")
    assert found["metadata"] == applied.obj["metadata"]
    assert cluster.get("Secret", "s", "default")["data"] == secret["data"]
    with pytest.raises(InvalidObjectError) as caught:
        cluster.apply({**secret, "data": {"KEY": "b3RoZXI="}})
    assert "aHVudGVyMg" not in str(caught.value)
    assert "b3RoZXI" not in str(caught.value)


def test_a_watch_starts_where_the_last_answer_ended(cluster: RestCluster) -> None:
    made = cluster.create(config_map("w", x="1"))
    version = made["metadata"]["resourceVersion"]
    cluster.replace({**made, "data": {"x": "2"}})
    events = cluster.watch(
        "ConfigMap", "default", fields="metadata.name=w", resource_version=version, timeout=1
    )
    seen = [event for event in events if event.type != "BOOKMARK"]
    assert [(event.type, event.obj["data"]) for event in seen] == [("MODIFIED", {"x": "2"})]
    with pytest.raises(ObjectConflictError) as caught:
        list(cluster.watch("ConfigMap", "default", resource_version="1", timeout=1))
    assert caught.value.status == 410


def test_scale(cluster: RestCluster) -> None:
    labels = {"app": "x"}
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            },
        }
    )
    scale = cluster.merge("Deployment", "s", {"spec": {"replicas": 4}}, "default", subresource="scale")
    assert scale["kind"] == "Scale"
    assert cluster.get("Deployment", "s", "default")["spec"]["replicas"] == 4


def test_capabilities(cluster: RestCluster) -> None:
    assert cluster.capabilities().serves("gateway.networking.k8s.io", "httproutes", "v1")
    assert cluster.capabilities().serves("autoscaling", "horizontalpodautoscalers", "v2")
    assert cluster.capabilities().serves("keda.sh", "scaledobjects")
    assert not cluster.capabilities().serves("keda.sh", "triggerauthentications")


def test_a_wrong_token(served: Served) -> None:
    stranger = connection(served.folder, served.port, token="wrong")
    with contextlib.closing(OfficialTransport(stranger)) as opened, pytest.raises(UnauthorizedError):
        RestCluster(opened).list("Pod", "default")
