"""Which way leads to a volume, the Pod that opens it, and volumes that go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalkcompute.cluster.exec import Exit
from chalkcompute.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    NotOwnedError,
    SpecError,
    UnreachableError,
)
from chalkcompute.service.scope import World
from chalkcompute.service.volume_data import (
    VolumeAccess,
    delete_claim,
    download,
    listdir,
    open_volume,
    put_dir,
    put_file,
    read_file,
)
from chalkcompute.types import Manifest
from tests.unit.service.conftest import ApiCluster, Clock

CHALK = {"app.kubernetes.io/managed-by": "chalk"}


class Local(ApiCluster):
    """This machine's own local cluster."""

    server = "https://127.0.0.1:6443"


class NoPods:
    """Nothing may be run."""

    def run(self, *_: Any, **__: Any) -> Exit:
        raise AssertionError("no Pod is needed")


class Runs:
    """Notes what is run, and ends as it is told."""

    def __init__(self, *ends: Exit | BaseException) -> None:
        self.ends = list(ends)
        self.ran: list[tuple[str, str]] = []

    def run(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str,
        stdin: Iterable[bytes] | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> Exit:
        assert container == "volume"
        self.ran.append((pod, command[0]))
        end = self.ends.pop(0) if self.ends else Exit(0, "")
        if isinstance(end, BaseException):
            raise end
        return end


def claim(cluster: ApiCluster, *, bound: bool = True, folder: Path | None = None, **changes: Any) -> Manifest:
    meta: dict[str, Any] = {"name": "data", "namespace": "default", "labels": CHALK}
    if folder is not None:
        meta["annotations"] = {"chalk.ai/local-path": str(folder)}
    meta |= changes.pop("metadata", {})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **changes}
    made = cluster.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    if bound:
        cluster.set_status("PersistentVolumeClaim", "data", {"phase": "Bound"})
    return made


def user(cluster: ApiCluster, name: str = "web-1", phase: str = "Running", **labels: str) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"nodeName": "node7", "containers": [{"name": "app", "image": "x"}], "volumes": volumes}
    meta = {"name": name, "namespace": "default", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    cluster.set_status("Pod", name, {"phase": phase})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a local cluster with the folder of one claim."""
    folder = tmp_path / "local"
    (folder / "volumes" / "default" / "data").mkdir(parents=True)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": Local.server}}],
        "users": [],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def local(cluster: ApiCluster, clock: Clock, world: World, state: Path) -> VolumeAccess:
    return VolumeAccess(
        cluster=Local(cluster.api, clock),
        namespace="default",
        execs=NoPods,
        local_kubeconfig=state / "kubeconfig",
        world=world,
    )


def remote(cluster: ApiCluster, world: World, execs: Runs, tmp_path: Path) -> VolumeAccess:
    return VolumeAccess(
        cluster=cluster,
        namespace="default",
        execs=lambda: execs,
        local_kubeconfig=tmp_path / "kubeconfig",
        world=world,
    )


def start_pods(cluster: ApiCluster, clock: Clock, phase: str = "Running") -> None:
    """The first look after a while finds the Pods running."""
    sleep = clock.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        for pod in cluster.api.list("Pod", "default"):
            if pod["metadata"]["name"].startswith("chalk-volume-"):
                cluster.set_status("Pod", pod["metadata"]["name"], {"phase": phase})

    clock.sleep = slept  # type: ignore[method-assign]


# The local cluster -----------------------------------------------------------------------------


def test_a_volume_of_the_local_cluster_is_its_folder(
    cluster: ApiCluster, local: VolumeAccess, state: Path, tmp_path: Path
) -> None:
    folder = state / "volumes" / "default" / "data"
    claim(cluster, folder=folder)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "a").write_text("a")
    assert put_dir(local, "data", source, "code") == ["code/a", "code/sub/run.sh"]
    put_file(local, "data", "bytes", b"12345")
    put_file(local, "data", "copy", source / "a", mode=0o600)
    assert (folder / "code" / "sub" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "copy").stat().st_mode & 0o777 == 0o600
    assert [entry.path for entry in listdir(local, "data", recursive=False)] == ["bytes", "code", "copy"]
    assert [entry.path for entry in listdir(local, "data", "code")] == [
        "code/a",
        "code/sub",
        "code/sub/run.sh",
    ]
    assert read_file(local, "data", "bytes") == b"12345"
    download(local, "data", "bytes", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"12345"


def test_a_claim_that_was_just_made_is_waited_for(
    cluster: ApiCluster, local: VolumeAccess, state: Path, clock: Clock
) -> None:
    claim(cluster, bound=False, folder=state / "volumes" / "default" / "data")
    sleep = clock.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        cluster.set_status("PersistentVolumeClaim", "data", {"phase": "Bound"})

    access = dataclasses.replace(local, world=World(monotonic=lambda: clock.seconds, sleep=slept))
    assert listdir(access, "data") == []


def test_a_claim_that_is_never_bound(cluster: ApiCluster, local: VolumeAccess, state: Path) -> None:
    claim(cluster, bound=False, folder=state / "volumes" / "default" / "data")
    with pytest.raises(ClusterError, match="the volume `data` is not bound yet"):
        listdir(local, "data")


@pytest.mark.parametrize("said", ["/etc", "volumes/default/other", None])
def test_the_annotation_is_believed_only_where_it_can_be_true(
    cluster: ApiCluster, local: VolumeAccess, state: Path, said: str | None
) -> None:
    claim(cluster, folder=state / said if said else None)
    with pytest.raises(ClusterError, match="is not in the local cluster's folder"):
        listdir(local, "data")


def test_a_failed_download_leaves_what_was_there(
    cluster: ApiCluster, local: VolumeAccess, state: Path, tmp_path: Path
) -> None:
    claim(cluster, folder=state / "volumes" / "default" / "data")
    (tmp_path / "kept").write_text("old")
    with pytest.raises(NotFoundError, match="there is no `no` in volume `data`"):
        download(local, "data", "no", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "old"
    assert not (tmp_path / ".kept.part").exists()
    put_file(local, "data", "f", b"x")
    with pytest.raises(SpecError, match="cannot be written"):
        download(local, "data", "f", tmp_path / "no" / "folder")


@pytest.mark.parametrize("access", ["put_file", "listdir", "read_file", "delete_claim"])
def test_no_such_volume(local: VolumeAccess, access: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "put_file": lambda: put_file(local, "data", "a", b""),
        "listdir": lambda: listdir(local, "data"),
        "read_file": lambda: read_file(local, "data", "a"),
        "delete_claim": lambda: delete_claim(local, "data"),
    }
    with pytest.raises(NotFoundError, match="there is no volume `data` in namespace `default`"):
        calls[access]()


def test_sources_that_cannot_be(local: VolumeAccess, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        put_file(local, "data", "a", tmp_path / "no")
    with pytest.raises(SpecError, match="is not a file"):
        put_file(local, "data", "a", tmp_path / "folder")
    with pytest.raises(SpecError, match="is a symbolic link, which cannot be put into a volume"):
        put_dir(local, "data", tmp_path / "folder")
    with pytest.raises(SpecError, match="is not a folder"):
        put_dir(local, "data", tmp_path / "no")
    for mode, hint in ((0o4755, "for example `0o755`"), (755, "write `0o755`"), ("755", "write `0o755`")):
        with pytest.raises(SpecError, match="is made of permission bits") as caught:
            put_file(local, "data", "a", b"", mode=mode)  # type: ignore[arg-type]
        assert caught.value.hint == hint


def _slow(cluster: ApiCluster, local: VolumeAccess, happens: Callable[[], object]) -> VolumeAccess:
    """One in which something happens while the claim is looked up."""

    class Slow(Local):
        def get(
            self, kind: str, name: str, namespace: str | None = None, *, subresource: str | None = None
        ) -> Manifest:
            happens()
            return super().get(kind, name, namespace)

    return dataclasses.replace(local, cluster=Slow(cluster.api, cluster.clock))


@pytest.mark.parametrize("later", ["longer", "l"])
def test_a_file_that_changes_while_it_is_read(
    cluster: ApiCluster, local: VolumeAccess, state: Path, tmp_path: Path, later: str
) -> None:
    """It does so after its length was told, when the claim is looked up."""
    claim(cluster, folder=state / "volumes" / "default" / "data")
    source = tmp_path / "log"
    source.write_text("line")

    access = _slow(cluster, local, lambda: source.write_text(later))
    with pytest.raises(ConflictError, match="changed while it was read"):
        put_file(access, "data", "log", source)
    assert listdir(local, "data") == []


def test_a_file_that_goes_before_it_is_read(
    cluster: ApiCluster, local: VolumeAccess, state: Path, tmp_path: Path
) -> None:
    claim(cluster, folder=state / "volumes" / "default" / "data")
    source = tmp_path / "log"
    source.write_text("line")

    access = _slow(cluster, local, source.unlink)
    with pytest.raises(SpecError, match="log` cannot be read: No such file or directory"):
        put_file(access, "data", "log", source)


# The Pod ---------------------------------------------------------------------------------------


def test_a_pod_opens_a_volume_and_goes(
    cluster: ApiCluster, world: World, clock: Clock, tmp_path: Path
) -> None:
    claim(cluster)
    start_pods(cluster, clock)
    runs = Runs()
    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=clock.sleep), runs, tmp_path)
    with open_volume(access, "data", write=False) as content:
        (pod,) = cluster.api.list("Pod", "default")
        content.put_all("", [])
        assert runs.ran == [(pod["metadata"]["name"], "sh")]
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 3600
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = spec["containers"][0]
    assert container["image"] == "busybox:1.37"
    assert container["volumeMounts"] == [{"name": "volume", "mountPath": "/volume", "readOnly": True}]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["metadata"]["labels"] == {**CHALK, "chalk.ai/volume": "data"}
    assert "affinity" not in spec
    assert cluster.api.list("Pod", "default") == []


@pytest.mark.parametrize("error", [UnreachableError("cut"), KeyboardInterrupt()])
def test_the_pod_goes_after_a_failure(
    cluster: ApiCluster, clock: Clock, tmp_path: Path, error: BaseException
) -> None:
    claim(cluster)
    start_pods(cluster, clock)
    access = remote(
        cluster, World(monotonic=lambda: clock.seconds, sleep=clock.sleep), Runs(error, error), tmp_path
    )
    with pytest.raises(type(error)):
        put_file(access, "data", "a", b"")
    assert cluster.api.list("Pod", "default") == []


def test_where_a_volume_is_attached_the_pod_goes_too(
    cluster: ApiCluster, clock: Clock, tmp_path: Path
) -> None:
    claim(cluster)
    user(cluster)
    start_pods(cluster, clock)
    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=clock.sleep), Runs(), tmp_path)
    with open_volume(access, "data", write=True):
        pod = next(p for p in cluster.api.list("Pod", "default") if p["metadata"]["name"] != "web-1")
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (field,) = terms["nodeSelectorTerms"][0]["matchFields"]
    assert field == {"key": "metadata.name", "operator": "In", "values": ["node7"]}
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_what_one_pod_only_can_have_is_not_waited_for(
    cluster: ApiCluster, clock: Clock, world: World, tmp_path: Path
) -> None:
    claim(cluster, accessModes=["ReadWriteOncePod"])
    user(cluster)
    access = remote(cluster, world, Runs(), tmp_path)
    with pytest.raises(ConflictError, match="pod `web-1` has the volume `data`, which is ReadWriteOncePod"):
        listdir(access, "data")
    assert [pod["metadata"]["name"] for pod in cluster.api.list("Pod", "default")] == ["web-1"]
    assert clock.seconds == 0


def test_a_container_that_a_mesh_adds_does_not_count(
    cluster: ApiCluster, clock: Clock, tmp_path: Path
) -> None:
    claim(cluster)
    sleep = clock.sleep
    states = [
        {"waiting": {"reason": "ContainerCreating"}},
        {"running": {"startedAt": "2026-11-24T00:00:00Z"}},
    ]

    def slept(seconds: float) -> None:
        sleep(seconds)
        (pod,) = cluster.api.list("Pod", "default")
        common = {"image": "x", "imageID": "", "ready": False, "restartCount": 0}
        found = [
            {"name": "istio-proxy", "state": {"running": {"startedAt": "2026-11-24T00:00:00Z"}}, **common},
            {"name": "volume", "state": states.pop(0), **common},
        ]
        cluster.set_status("Pod", pod["metadata"]["name"], {"phase": "Running", "containerStatuses": found})

    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=slept), Runs(), tmp_path)
    with open_volume(access, "data", write=True):
        assert states == [], "only then is there something to run programs in"


@pytest.mark.parametrize(
    "refusal",
    [
        ForbiddenError('pods "x" is forbidden: violates PodSecurity "restricted:latest"', status=403),
        InvalidObjectError('admission webhook "validate.kyverno.svc-fail" denied the request', status=400),
        InvalidObjectError("ValidatingAdmissionPolicy 'no-root' denied request: no root here", status=422),
    ],
    ids=["pod-security", "webhook", "policy"],
)
def test_a_strict_namespace_gets_a_pod_that_is_not_root(
    cluster: ApiCluster, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    claim(cluster)
    start_pods(cluster, clock)
    create = cluster.create

    def strict(obj: Manifest, *, dry_run: bool = False) -> Manifest:
        if not obj["spec"]["securityContext"].get("runAsNonRoot"):
            raise refusal
        return create(obj, dry_run=dry_run)

    monkeypatch.setattr(cluster, "create", strict)
    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=clock.sleep), Runs(), tmp_path)
    with open_volume(access, "data", write=True):
        (pod,) = cluster.api.list("Pod", "default")
    assert pod["spec"]["securityContext"]["runAsUser"] == 65532
    assert pod["spec"]["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    def forbidden(obj: Manifest, *, dry_run: bool = False) -> Manifest:
        raise ForbiddenError("no pods for you", status=403)

    monkeypatch.setattr(cluster, "create", forbidden)
    with pytest.raises(ForbiddenError, match="no pods for you"):
        listdir(access, "data")


def test_a_pod_that_does_not_start_says_why(
    cluster: ApiCluster, world: World, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(cluster)
    access = remote(cluster, world, Runs(), tmp_path)
    with pytest.raises(ClusterError, match="that was to open volume `data` does not run: it is Pending"):
        listdir(access, "data")
    assert clock.seconds >= 180

    def no_events(*_: Any, **__: Any) -> list[Manifest]:
        raise ForbiddenError("events is forbidden", status=403)

    with monkeypatch.context() as patched:
        every = cluster.list
        patched.setattr(
            cluster, "list", lambda kind, *a, **k: (no_events if kind == "Event" else every)(kind, *a, **k)
        )
        with pytest.raises(ClusterError, match="does not run: it is Pending"):
            listdir(access, "data")
    sleep = clock.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        (pod,) = cluster.api.list("Pod", "default")
        waiting = {"reason": "ErrImagePull", "message": "image busybox:1.37 cannot be had"}
        container = {"name": "volume", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Pending", "containerStatuses": [{**container, "state": {"waiting": waiting}}]}
        cluster.set_status("Pod", pod["metadata"]["name"], status)

    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=slept), Runs(), tmp_path)
    with pytest.raises(ClusterError, match=r"does not run: image busybox:1\.37 cannot be had") as raised:
        listdir(access, "data")
    assert "another image" in str(raised.value.hint)
    warning = {
        "apiVersion": "v1",
        "kind": "Event",
        "type": "Warning",
        "reason": "FailedAttachVolume",
        "message": "Multi-Attach error for volume",
        "lastTimestamp": "2026-11-24T00:00:00Z",
    }

    def warned(seconds: float) -> None:
        sleep(seconds)
        (pod,) = cluster.api.list("Pod", "default")
        meta = pod["metadata"]
        about = {"kind": "Pod", "namespace": "default", "name": meta["name"], "uid": meta["uid"]}
        event = {"metadata": {"name": f"{meta['name']}.{clock.seconds}", "namespace": "default"}}
        cluster.put({**warning, **event, "involvedObject": about})
        cluster.set_status("Pod", meta["name"], {"phase": "Failed"})

    access = remote(cluster, World(monotonic=lambda: clock.seconds, sleep=warned), Runs(), tmp_path)
    with pytest.raises(ClusterError, match="does not run: Multi-Attach error for volume"):
        listdir(access, "data")


# Volumes that go -------------------------------------------------------------------------------


def test_a_volume_that_chalk_made_can_be_deleted(cluster: ApiCluster, local: VolumeAccess) -> None:
    claim(cluster)
    user(cluster, "chalk-volume-1", "Failed", **CHALK, **{"chalk.ai/volume": "data"})
    delete_claim(local, "data")
    assert cluster.seen("PersistentVolumeClaim", "data") is None
    assert cluster.seen("Pod", "chalk-volume-1") is None, "left by a killed process, it would hold the claim"


def test_a_volume_of_others_is_not_deleted(cluster: ApiCluster, local: VolumeAccess) -> None:
    claim(cluster, metadata={"labels": {}})
    with pytest.raises(NotOwnedError, match="was not made by chalk"):
        delete_claim(local, "data")
    assert cluster.seen("PersistentVolumeClaim", "data") is not None


def test_a_volume_in_use_is_not_deleted(cluster: ApiCluster, local: VolumeAccess) -> None:
    claim(cluster)
    user(cluster)
    user(cluster, "done", "Succeeded")
    with pytest.raises(ConflictError, match="the volume `data` is in use by pod `web-1`"):
        delete_claim(local, "data")
    assert cluster.seen("PersistentVolumeClaim", "data") is not None


def test_a_volume_that_is_going_is_not_opened(cluster: ApiCluster, local: VolumeAccess) -> None:
    claim(cluster, metadata={"finalizers": ["kubernetes.io/pvc-protection"]})
    cluster.delete("PersistentVolumeClaim", "data", "default")
    with pytest.raises(ConflictError, match="the volume `data` is being deleted"):
        listdir(local, "data")


def test_a_volume_without_files(cluster: ApiCluster, local: VolumeAccess) -> None:
    claim(cluster, volumeMode="Block")
    with pytest.raises(SpecError, match="`data` is a block device without files"):
        put_file(local, "data", "a", b"")
