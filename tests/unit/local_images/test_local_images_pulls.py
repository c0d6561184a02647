"""Pulls, and other registries passed through: caches, offline, damage, many at once."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from chalkcompute.errors import RegistryError
from chalkcompute.local.images.catalog import OwnHosts
from chalkcompute.local.images.passthrough import Upstream
from chalkcompute.local.ports import ImagePullError, PulledImage
from chalkcompute.registry import OCI_INDEX, OCI_MANIFEST, Descriptor, FetchedManifest
from tests.unit.local_images.conftest import (
    Cluster,
    DockerRegistry,
    Image,
    digest,
    encoded,
    index_of,
    put_manifest,
)


def pull(cluster: Cluster, image: str, policy: str = "IfNotPresent") -> PulledImage:
    return cluster.run(cluster.images.pull(image, policy=policy))


def refusal(cluster: Cluster, image: str, policy: str = "IfNotPresent") -> ImagePullError:
    with pytest.raises(ImagePullError) as caught:
        pull(cluster, image, policy)
    return caught.value


def test_what_was_pushed_here_runs_here(cluster: Cluster) -> None:
    image = Image()
    image.push(cluster.url, "team/app", "v1")
    for reference in (
        f"{cluster.host}/team/app:v1",
        f"127.0.0.1:{cluster.port}/team/app:v1",
        f"{cluster.host}/team/app@{digest(image.manifest)}",
    ):
        for policy in ("Always", "IfNotPresent", "Never"):
            pulled = pull(cluster, reference, policy)
            (layer,) = pulled.layers
            assert pulled.id == digest(image.config)
            assert pulled.config["config"] == {"Cmd": ["/greeting"]}
            assert layer.path.read_bytes() == image.layer
            assert [layer.diff_id] == pulled.config["rootfs"]["diff_ids"]
            assert layer.media_type.endswith("tar+gzip")
            assert (pulled.warning, pulled.host_base) == (None, None)
    missing = f"{cluster.host}/team/app:v2"
    assert str(refusal(cluster, missing)) == (
        f'failed to pull and unpack image "{missing}": failed to resolve reference "{missing}": '
        f"{missing}: not found"
    )
    never = refusal(cluster, missing, "Never")
    assert (never.reason, str(never)) == (
        "ErrImageNeverPull",
        f'Container image "{missing}" is not present with pull policy of Never',
    )
    assert refusal(cluster, "A:b:c").reason == "InvalidImageName"


def test_another_port_later_and_references_stay_good(tmp_path: Path) -> None:
    before = Cluster(tmp_path / "images")
    Image().push(before.url, "team/app", "v1")
    before.close()
    after = Cluster(tmp_path / "images")
    try:
        assert pull(after, f"localhost:{before.port}/team/app:v1").layers
        assert pull(after, f"localhost:{after.port}/team/app:v1").layers
        assert after.own.name == f"localhost:{after.port}"
        assert "connection refused" in str(refusal(after, f"localhost:{before.port}/team/app:v2"))
        assert "connection refused" in str(refusal(after, "localhost:1/team/app:v1"))
    finally:
        after.close()


def test_damaged_memory_of_ports(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"a": [')
    own = OwnHosts(tmp_path / "ports.json", 5005)
    assert own.are_now("127.0.0.1:5005")
    assert not own.were_once("localhost:5006")
    assert not own.were_once("a.example:5005")
    assert OwnHosts(tmp_path / "ports.json", 5006).were_once("localhost:5005")


def test_another_registry_is_passed_through_and_there_offline(
    cluster: Cluster, upstream: DockerRegistry, client: httpx.Client
) -> None:
    image = Image()
    image.push(upstream.url, "library/thing", "1")
    query = {"ns": upstream.host}
    answer = client.get("/v2/library/thing/manifests/1", params=query)
    assert answer.content == image.manifest
    assert answer.headers["oci-namespace"] == upstream.host
    assert answer.headers["content-type"] == OCI_MANIFEST
    client.get("/v2/library/thing/manifests/1", params=query)
    client.head("/v2/library/thing/manifests/1", params=query)
    asked = cluster.upstreams[upstream.host].asked
    assert asked == ["resolve 1", "manifest 1"], "at most once a minute"
    # Its layers are mounted before they are fetched.
    mount = {"mount": digest(image.layer), "from": "library/thing"}
    assert client.post("/v2/team/app/blobs/uploads/", params=mount).status_code == 201
    mount = {"mount": digest(image.config), "from": "library/thing"}
    assert client.post("/v2/team/app/blobs/uploads/", params=mount).status_code == 201
    head = client.head(f"/v2/team/app/blobs/{digest(image.layer)}")
    assert int(head.headers["content-length"]) == len(image.layer)
    put_manifest(client, "team/app", "v1", image.manifest)
    assert len(asked) == 2
    assert pull(cluster, f"{cluster.host}/team/app:v1").layers[0].path.read_bytes() == image.layer
    cluster.now += 61
    assert client.get("/v2/library/thing/manifests/1", params=query).content == image.manifest
    assert [line for line in asked if not line.startswith("blob")] == ["resolve 1", "manifest 1", "resolve 1"]
    upstream.stop()
    cluster.now += 61
    assert client.get("/v2/library/thing/manifests/1", params=query).content == image.manifest
    assert pull(cluster, f"{upstream.host}/library/thing:1", "Always").layers
    gone = client.get("/v2/library/other/manifests/1", params=query)
    assert gone.status_code == 502
    assert "connection refused" in gone.json()["errors"][0]["message"]


def test_a_tag_that_moves(cluster: Cluster, upstream: DockerRegistry) -> None:
    old, new = Image("old"), Image("new")
    reference = f"{upstream.host}/a:latest"
    old.push(upstream.url, "a", "latest")
    assert pull(cluster, reference).id == digest(old.config)
    new.push(upstream.url, "a", "latest")
    assert pull(cluster, reference).id == digest(old.config)
    assert pull(cluster, reference, "Never").id == digest(old.config)
    assert pull(cluster, reference, "Always").id == digest(new.config)
    assert pull(cluster, f"{upstream.host}/a@{digest(old.manifest)}").id == digest(old.config)


def test_the_image_for_this_machine(cluster: Cluster, upstream: DockerRegistry) -> None:
    image, other = Image(), Image("other")
    image.push(upstream.url, "a", "mine")
    other.push(upstream.url, "a", "other")
    architecture = json.loads(image.config)["architecture"]
    index = index_of((other.manifest, "s390x"), (image.manifest, architecture))
    useless = index_of((other.manifest, "s390x"))
    with httpx.Client(base_url=upstream.url, trust_env=False) as client:
        put_manifest(client, "a", "both", index, OCI_INDEX)
        put_manifest(client, "a", "useless", useless, OCI_INDEX)
    assert refusal(cluster, f"{upstream.host}/a:both", "Never").reason == "ErrImageNeverPull"
    assert pull(cluster, f"{upstream.host}/a:both").id == digest(image.config)
    assert pull(cluster, f"{upstream.host}/a:both", "Never").id == digest(image.config)
    assert not any(digest(other.layer) in line for line in cluster.upstreams[upstream.host].asked)
    assert "no match for platform in manifest: not found" in str(
        refusal(cluster, f"{upstream.host}/a:useless")
    )


def test_what_is_no_image(cluster: Cluster, client: httpx.Client) -> None:
    image = Image()
    image.push(cluster.url, "a", "v1")
    document = json.loads(image.manifest)
    put_manifest(client, "a", "odd", encoded({**document, "layers": document["layers"] * 2}))
    assert "mismatched image rootfs and manifest layers" in str(refusal(cluster, f"{cluster.host}/a:odd"))


def test_a_damaged_blob_is_fetched_again(cluster: Cluster, upstream: DockerRegistry) -> None:
    image = Image()
    image.push(upstream.url, "a", "v1")
    reference = f"{upstream.host}/a:v1"
    path = pull(cluster, reference).layers[0].path
    path.write_bytes(b"rotten")
    assert pull(cluster, reference).layers[0].path.read_bytes() == image.layer
    manifest = cluster.store.blob(digest(image.manifest))
    assert manifest is not None
    manifest.write_bytes(b"{}")
    assert pull(cluster, reference).id == digest(image.config)
    # Of what was pushed here there is no other copy.
    image.push(cluster.url, "b", "v1")
    path.write_bytes(b"rotten")
    cluster.store._sources.joinpath(digest(image.layer).partition(":")[2]).unlink()
    assert "not found" in str(refusal(cluster, f"{cluster.host}/b:v1"))


def test_many_pulls_at_once_are_one(cluster: Cluster, upstream: DockerRegistry) -> None:
    image = Image("x" * 1_000_000)
    image.push(upstream.url, "a", "v1")

    async def many() -> list[PulledImage]:
        return await asyncio.gather(*(cluster.images.pull(f"{upstream.host}/a:v1") for _ in range(20)))

    assert len({pulled.id for pulled in cluster.run(many())}) == 1
    asked = cluster.upstreams[upstream.host].asked
    assert len(asked) == len(set(asked)) == 4


class Dead:
    """A registry that does not answer, or refuses."""

    def __init__(self, error: RegistryError) -> None:
        self.error = error
        self.asked = 0

    def resolve(self, repository: str, reference: str) -> Any:
        self.asked += 1
        raise self.error

    def manifest(self, repository: str, reference: str) -> Any:
        self.asked += 1
        raise self.error

    def download_blob(self, *arguments: Any, **named: Any) -> None:
        raise self.error

    def close(self) -> None:
        pass


def connect_to(dead: Dead) -> Any:
    def connect(host: str) -> Upstream:
        del host
        return dead

    return connect


VERSION = sys.version.split()[0]
MINOR = ".".join(VERSION.split(".")[:2])


def test_the_host_base_stands_in_when_nobody_answers(tmp_path: Path) -> None:
    dead = Dead(RegistryError("there is no address for the registry `docker.io`"))
    cluster = Cluster(tmp_path / "images", connect_to(dead))
    try:
        pulled = pull(cluster, f"python:{MINOR}-slim")
        assert pulled.host_base is not None
        assert pulled.host_base.startswith(MINOR)
        assert pulled.reference.startswith("docker.io/library/python@sha256:")
        assert "this machine's own Python" in (pulled.warning or "")
        assert "stood in for" in (pulled.warning or "")
        assert pulled.config["config"]["Cmd"] == ["python3"]
        assert f"PYTHON_VERSION={pulled.host_base}" in pulled.config["config"]["Env"]
        assert len(pulled.layers) == 1
        assert pull(cluster, f"python:{MINOR}-slim").id == pulled.id
        assert dead.asked == 1, "not asked again so soon"
        cluster.now += 31
        pull(cluster, f"python:{MINOR}-slim")
        assert dead.asked == 2
        message = str(refusal(cluster, "redis:7"))
        assert message.startswith('failed to pull and unpack image "docker.io/library/redis:7": failed to')
        assert message.endswith("dial tcp: there is no address for the registry `docker.io`")
        assert "no address" in str(refusal(cluster, "python:no-such-tag"))
    finally:
        cluster.close()


def test_an_image_built_on_the_host_base_says_so(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "images", connect_to(Dead(RegistryError("no answer"))))
    try:
        with httpx.Client(base_url=cluster.url, trust_env=False) as client:
            path = f"/v2/library/python/manifests/{MINOR}"
            base = client.get(path, params={"ns": "docker.io"})
            assert base.headers["oci-namespace"] == "docker.io"
            assert base.headers["warning"].startswith('299 - "image `docker.io/library/python:')
            for part in (base.json()["config"], *base.json()["layers"]):
                mount = {"mount": part["digest"], "from": "library/python"}
                assert client.post("/v2/app/blobs/uploads/", params=mount).status_code == 201
            put_manifest(client, "app", "v1", base.content)
        pulled = pull(cluster, f"{cluster.host}/app:v1")
        assert pulled.host_base is not None
        assert "this machine's own Python" in (pulled.warning or "")
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "docker.io/library/python:3.12: not found"),
        (401, "pull access denied, repository does not exist or may require authorization"),
        (429, "429 Too Many Requests: toomanyrequests"),
        (500, "it failed"),
    ],
)
def test_a_registry_that_answers_is_believed(tmp_path: Path, status: int, words: str) -> None:
    cluster = Cluster(tmp_path / "images", connect_to(Dead(RegistryError("it failed", status=status))))
    try:
        assert words in str(refusal(cluster, "python:3.12"))
    finally:
        cluster.close()


class Interrupted(Dead):
    """Docker Hub, which goes away after a manifest."""

    def __init__(self, image: Image) -> None:
        super().__init__(RegistryError("the network has gone"))
        self.image = image

    def resolve(self, repository: str, reference: str) -> Descriptor:
        return Descriptor(OCI_MANIFEST, digest(self.image.manifest), len(self.image.manifest))

    def manifest(self, repository: str, reference: str) -> FetchedManifest:
        return FetchedManifest(self.resolve(repository, reference), self.image.manifest)


def test_an_image_of_which_only_the_manifest_came(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "images", connect_to(Interrupted(Image())))
    try:
        assert pull(cluster, f"python:{MINOR}").host_base is not None
        cluster.now += 31
        assert "failed to copy: failed to do request: dial tcp: the network has gone" in str(
            refusal(cluster, "redis:7")
        )
    finally:
        cluster.close()


class Full(Interrupted):
    """A registry that has all, and no room for it here."""

    def download_blob(self, *arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_a_pull_that_failed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "images", connect_to(Full(Image())))
    try:
        assert str(refusal(cluster, "redis:7")).endswith("failed to copy: No space left on device")
    finally:
        cluster.close()


def test_a_full_disk_is_said_to_who_pushes(
    cluster: Cluster, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def append(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("chalkcompute.local.images.uploads.Uploads.append", append)
    answer = client.post("/v2/app/blobs/uploads/", params={"digest": f"sha256:{'0' * 64}"}, content=b"x")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (507, "UNKNOWN")
    assert "No space left on device" in answer.json()["errors"][0]["message"]
