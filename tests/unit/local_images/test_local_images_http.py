"""The registry of the local cluster as any client sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import pytest

from chalkcompute.local.images.http import RegistryServer
from chalkcompute.local.images.peers import uid_of_peer
from chalkcompute.registry import OCI_INDEX, OCI_MANIFEST, Registry
from tests.unit.local_images.conftest import Cluster, Image, digest, encoded, index_of, put_manifest


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def test_our_own_client_pushes_and_fetches(cluster: Cluster, tmp_path: Path) -> None:
    image = Image()
    source, into = tmp_path / "layer", tmp_path / "fetched"
    source.write_bytes(image.layer)
    config = tmp_path / "config"
    config.write_bytes(image.config)
    with Registry(cluster.host) as registry:
        assert not registry.has_blob("team/app", digest(image.layer))
        registry.push_blob("team/app", digest(image.layer), len(image.layer), source)
        registry.push_blob("team/app", digest(image.config), len(image.config), config)
        pushed = registry.push_manifest("team/app", "v1", OCI_MANIFEST, image.manifest)
        assert pushed == digest(image.manifest)
        assert registry.has_blob("team/app", digest(image.layer))
        assert registry.resolve("team/app", "v1").digest == pushed
        assert registry.manifest("team/app", pushed).raw == image.manifest
        registry.download_blob("team/app", digest(image.layer), len(image.layer), into)
        assert registry.mount_blob("other", digest(image.layer), "team/app")
        assert not registry.mount_blob("other", digest(b"nowhere"), "team/app")
    assert into.read_bytes() == image.layer
    assert list(cluster.store.staging.iterdir()) == []


def test_an_upload_in_pieces_goes_on_where_it_broke(client: httpx.Client, cluster: Cluster) -> None:
    data = b"0123456789"
    begun = client.post("/v2/a/blobs/uploads/")
    where = begun.headers["location"]
    assert begun.status_code == 202
    first = client.patch(where, content=data[:4], headers={"Content-Range": "0-3"})
    assert (first.status_code, first.headers["range"]) == (202, "0-3")
    wrong = client.patch(where, content=data[6:], headers={"Content-Range": "6-9"})
    assert code(wrong) == (416, "BLOB_UPLOAD_INVALID")
    assert wrong.headers["range"] == "0-3"
    status = client.get(where)
    assert (status.status_code, status.headers["range"]) == (204, "0-3")
    done = client.put(where, params={"digest": digest(data)}, content=data[4:])
    assert done.status_code == 201
    fetched = client.get(done.headers["location"], headers={"Range": "bytes=3-5"})
    assert (fetched.status_code, fetched.content) == (206, b"345")
    assert code(client.get(where)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert cluster.store.blob_size(digest(data)) == len(data)


def test_what_is_not_its_digest_is_not_kept(client: httpx.Client, cluster: Cluster) -> None:
    answer = client.post("/v2/a/blobs/uploads/", params={"digest": digest(b"else")}, content=b"this")
    assert code(answer) == (400, "DIGEST_INVALID")
    assert cluster.store.blob_size(digest(b"else")) is None
    where = client.post("/v2/a/blobs/uploads/").headers["location"]
    assert code(client.put(where, params={"digest": "sha512:00"}, content=b"x")) == (400, "DIGEST_INVALID")
    assert client.delete(where).status_code == 204
    assert code(client.delete(where)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert list(cluster.store.staging.iterdir()) == []


def test_manifests_are_checked(client: httpx.Client) -> None:
    image = Image()

    def put(reference: str, raw: bytes, media_type: str = OCI_MANIFEST) -> tuple[int, str]:
        headers = {"Content-Type": media_type}
        return code(client.put(f"/v2/a/manifests/{reference}", content=raw, headers=headers))

    assert put("v1", image.manifest) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert put("v1", b"{}") == (400, "MANIFEST_INVALID")
    assert put("v1", b"[") == (400, "MANIFEST_INVALID")
    assert put("v1", encoded({"config": 1, "layers": []})) == (400, "MANIFEST_INVALID")
    assert put("v1", image.manifest, "text/plain") == (400, "MANIFEST_INVALID")
    assert put(digest(b""), image.manifest) == (400, "DIGEST_INVALID")
    assert put("v1", index_of((image.manifest, "amd64")), OCI_INDEX) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert put("v1", b" " * (4 * 1024 * 1024 + 2)) == (413, "SIZE_INVALID")


def test_an_index_and_tags(client: httpx.Client, cluster: Cluster) -> None:
    image = Image()
    image.push(cluster.url, "a/b", "one")
    index = index_of((image.manifest, "amd64"))
    for tag in ("two", "three"):
        put_manifest(client, "a/b", tag, index, OCI_INDEX)
    put_manifest(client, "a/b", digest(index), index, OCI_INDEX)
    got = client.head("/v2/a/b/manifests/two")
    assert got.headers["docker-content-digest"] == digest(index)
    assert int(got.headers["content-length"]) == len(index)
    assert client.get("/v2/a/b/manifests/three").content == index
    assert client.get("/v2/a/b/tags/list").json() == {"name": "a/b", "tags": ["one", "three", "two"]}
    page = client.get("/v2/a/b/tags/list", params={"n": 2})
    assert page.json()["tags"] == ["one", "three"]
    rest = client.get(page.headers["link"].partition(">")[0].strip("<"))
    assert rest.json()["tags"] == ["two"]
    assert code(client.get("/v2/nothing/tags/list")) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/a/manifests/none", (404, "MANIFEST_UNKNOWN")),
        ("GET", "/v2/a/manifests/%2E%2E%2Fx", (404, "MANIFEST_UNKNOWN")),
        ("GET", "/v2/A/manifests/x", (400, "NAME_INVALID")),
        ("GET", "/v2/_tags/tags/list", (400, "NAME_INVALID")),
        ("GET", f"/v2/a/blobs/{digest(b'none')}", (404, "BLOB_UNKNOWN")),
        ("GET", "/v2/a/blobs/sha256:0", (400, "DIGEST_INVALID")),
        ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fx", (404, "BLOB_UPLOAD_UNKNOWN")),
        ("PUT", "/v2/a/manifests/x?ns=docker.io", (405, "UNSUPPORTED")),
        ("POST", "/v2/a/manifests/x", (405, "UNSUPPORTED")),
        ("GET", "/elsewhere", (404, "NAME_UNKNOWN")),
    ],
)
def test_failures_look_as_the_specification_says(
    client: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert code(client.request(method, path)) == expected


def test_a_damaged_blob_is_no_blob(client: httpx.Client, cluster: Cluster) -> None:
    image = Image()
    image.push(cluster.url, "a", "v1")
    path = cluster.store.blob(digest(image.layer))
    assert path is not None
    path.write_bytes(b"rotten" * 100)
    assert code(client.get(f"/v2/a/blobs/{digest(image.layer)}")) == (404, "BLOB_UNKNOWN")
    image.push(cluster.url, "a", "v1")
    assert client.get(f"/v2/a/blobs/{digest(image.layer)}").content == image.layer


@pytest.mark.parametrize("host", ["..", ".", "local", "a.b/c", "me:word@a.b", "a.b?x=1", "a.b#", "x" * 256])
def test_only_a_registry_is_passed_through(client: httpx.Client, host: str) -> None:
    for path in ("/v2/a/manifests/b", "/v2/a/tags/list"):
        assert code(client.get(path, params={"ns": host})) == (400, "NAME_INVALID")


def test_other_users_and_pages_of_a_browser_are_refused(client: httpx.Client, cluster: Cluster) -> None:
    assert client.get("/v2/").status_code == 200
    assert code(client.get("/v2/", headers={"Origin": "https://a.example"})) == (403, "DENIED")
    # As `<img src="http://localhost:5005/v2/a/manifests/b?ns=...">` on a page asks.
    assert code(client.get("/v2/", headers={"Sec-Fetch-Site": "cross-site"})) == (403, "DENIED")
    for host in ("a.example", "localhost.a.example", "[", "a@localhost"):
        assert code(client.get("/v2/", headers={"Host": host})) == (403, "DENIED")
    strangers = RegistryServer(cluster.server._catalog, is_own=lambda *_: False)
    port = cluster.run(strangers.start())
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False)
        assert code(answer) == (403, "DENIED")
    finally:
        cluster.run(strangers.stop())


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
MAPPED = "0000000000000000FFFF0000"


def line(local: str, remote: str, uid: int, inode: int) -> str:
    return f"   0: {local} {remote} 01 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0\n"


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is printed in this machine's order")
@pytest.mark.parametrize(
    ("tables", "uid"),
    [
        ([HEADER + line("0100007F:D431", "0100007F:138D", 1000, 77)], 1000),
        ([HEADER, HEADER + line(f"{MAPPED}0100007F:D431", f"{MAPPED}0100007F:138D", 5, 7)], 5),
        ([HEADER + line("0100007F:D431", "0100007F:138D", 0, 0)], None),  # closed: nobody's
        ([HEADER + line("0100007F:138D", "0100007F:D431", 0, 7)], None),  # our own end
        ([HEADER], None),
    ],
)  # fmt: skip
def test_whose_the_other_end_is(tables: list[str], uid: int | None) -> None:
    assert uid_of_peer(("127.0.0.1", 0xD431), ("127.0.0.1", 5005), tables) == uid


def test_an_upload_outlives_a_restart_and_not_a_day(tmp_path: Path) -> None:
    data = b"0123456789"
    before = Cluster(tmp_path / "images")
    where = httpx.post(f"{before.url}/v2/a/blobs/uploads/", trust_env=False).headers["location"]
    httpx.patch(before.url + where, content=data[:5], trust_env=False)
    forgotten = tmp_path / "images" / "staging" / ("0" * 32)
    forgotten.write_bytes(b"x")
    os.utime(forgotten, (0, 0))
    (tmp_path / "images" / "blobs" / "sha256" / ".x.tmp").write_bytes(b"half")
    before.close()
    after = Cluster(tmp_path / "images")
    try:
        assert not forgotten.exists()
        done = httpx.put(
            after.url + where, params={"digest": digest(data)}, content=data[5:], trust_env=False
        )
        assert done.status_code == 201
        assert [path.name for path in (tmp_path / "images" / "blobs" / "sha256").iterdir()] == [
            digest(data).partition(":")[2]
        ]
    finally:
        after.close()
