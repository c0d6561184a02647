"""Claims as folders, and parts of volumes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.kubelet.environment import ContainerConfigError
from chalkcompute.local.kubelet.volumes import VolumeFolders
from chalkcompute.local.ports import Manifest, Mount
from tests.properties import examples
from tests.unit.local_kubelet.conftest import Cluster, RunCluster

CLAIM = {"name": "disk", "persistentVolumeClaim": {"claimName": "data"}}


def bind(made: Cluster, name: str = "data") -> Path:
    """A bound claim, as the controller leaves it."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = made.create("PersistentVolumeClaim", name, spec={**spec, "volumeName": "pvc-1"})
    claim["status"] = {"phase": "Bound"}
    made.api.update(claim, manager="test", subresource="status")
    folder = made.folder / "volumes" / "default" / name
    folder.mkdir(parents=True)
    return folder


def test_a_claim_is_mounted_once_it_is_bound(cluster: RunCluster) -> None:
    mounts = [
        {"name": "disk", "mountPath": "/data"},
        {"name": "disk", "mountPath": "/seen", "readOnly": True},
        {"name": "disk", "mountPath": "/part", "subPath": "a/b"},
    ]

    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"volumes": [CLAIM]}, volumeMounts=mounts)
        (message,) = await made.until(lambda: made.events("FailedMount"))
        assert message == (
            "Unable to attach or mount volumes: unmounted volumes=[disk], unattached volumes=[], failed to "
            "process volumes=[disk]: error processing PVC default/data: failed to fetch PVC from API server: "
            'persistentvolumeclaims "data" not found'
        )
        folder = bind(made)
        found = (await made.running()).spec.mounts
        assert found[:3] == (
            Mount(folder, "/data", read_only=False),
            Mount(folder, "/seen", read_only=True),
            Mount(folder / "a" / "b", "/part", read_only=False),
        )
        made.api.delete("Pod", "web", "default", grace_seconds=0)
        await made.until(
            lambda: not (made.folder / "pods").exists() or not any((made.folder / "pods").iterdir())
        )
        assert folder.is_dir(), "it outlives the Pod"

    cluster(scenario)


def folders(tmp_path: Path) -> VolumeFolders:
    return VolumeFolders(tmp_path / "pods", claims=tmp_path / "volumes")


def pod_with(*volumes: dict[str, Any]) -> Manifest:
    return {"metadata": {"namespace": "default", "uid": "u"}, "spec": {"volumes": list(volumes)}}


def mounted(tmp_path: Path, sub_path: str, volume: dict[str, Any] = CLAIM) -> Mount:
    """The mount of a part of a volume."""
    container = {
        "name": "app",
        "volumeMounts": [{"name": volume["name"], "mountPath": "/m", "subPath": sub_path}],
    }
    (mount,) = folders(tmp_path).mounts(pod_with(volume), container, lambda text: text)
    return mount


def test_a_claim_may_be_mounted_to_be_read_only(tmp_path: Path) -> None:
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    assert mounted(tmp_path, "", volume).read_only


@pytest.mark.parametrize("kind", ["configMap", "secret", "projected"])
def test_one_file_of_a_volume_from_objects(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "pods" / "u" / "volumes" / "disk" / "deep"
    folder.mkdir(parents=True)
    (folder / "app.toml").write_text("x")
    mount = mounted(tmp_path, "deep/app.toml", {"name": "disk", kind: {}})
    assert mount == Mount(folder / "app.toml", "/m", read_only=True)


def test_files_from_objects_are_for_every_user_of_the_replica(cluster: RunCluster) -> None:
    volume = {"name": "s", "secret": {"secretName": "s1", "items": [{"key": "KEY", "path": "below/key"}]}}

    async def scenario(made: Cluster) -> None:
        made.create("Secret", "s1", data={"KEY": "eA=="})
        made.run_pod(pod={"volumes": [volume]}, volumeMounts=[{"name": "s", "mountPath": "/s"}])
        source = (await made.running()).spec.mounts[0].source
        found = [stat.S_IMODE(path.stat().st_mode) for path in (source, source / "below")]
        assert found == [0o755, 0o755]
        assert stat.S_IMODE((source / "below" / "key").stat().st_mode) == 0o644

    before = os.umask(0o077)  # as the daemon has it
    try:
        cluster(scenario)
    finally:
        os.umask(before)


def test_a_link_inside_the_volume_is_followed_and_one_out_of_it_is_not(tmp_path: Path) -> None:
    volume = tmp_path / "volumes" / "default" / "data"
    (volume / "v2").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (volume / "current").symlink_to("v2")
    (volume / "out").symlink_to(tmp_path / "secret")
    (volume / "gone").symlink_to(tmp_path / "nothing")
    (volume / "file").write_text("x")
    assert mounted(tmp_path, "current").source == volume / "v2"
    assert mounted(tmp_path, "current/new").source == volume / "v2" / "new"
    for escape in ("out", "out/deeper", "gone", "current/../../x"):
        with pytest.raises(ContainerConfigError):
            mounted(tmp_path, escape)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ContainerConfigError, match="failed to create subPath directory for volumeMount"):
        mounted(tmp_path, "file/below")


@examples(60)
@given(
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "up", "out", "loop"]), min_size=1, max_size=5).map(
        "/".join
    )
)
def test_no_part_of_a_volume_is_outside(tmp_path_factory: pytest.TempPathFactory, sub_path: str) -> None:
    tmp_path = tmp_path_factory.mktemp("subpath")
    volume = tmp_path / "volumes" / "default" / "data"
    (volume / "a").mkdir(parents=True)
    (volume / "a" / "up").symlink_to("..")
    (volume / "up").symlink_to("..")
    (volume / "out").symlink_to("/")
    (volume / "loop").symlink_to("loop")
    try:
        source = mounted(tmp_path, sub_path).source
    except (ContainerConfigError, OSError):
        return
    assert Path(os.path.realpath(source)).is_relative_to(volume)


def test_a_claim_whose_folder_is_gone_is_said_to_be_so(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        bind(made).rmdir()
        made.run_pod(pod={"volumes": [CLAIM]})
        (message,) = await made.until(lambda: made.events("FailedMount"))
        assert message.startswith('MountVolume.NewMounter initialization failed for volume "pvc-1" : path "')
        assert message.endswith('" does not exist')

    cluster(scenario)


def test_a_claim_that_is_not_bound_or_going_is_not_mounted(cluster: RunCluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

    async def scenario(made: Cluster) -> None:
        made.create("PersistentVolumeClaim", "data", spec=spec)
        made.run_pod(pod={"volumes": [CLAIM]})
        await made.until(
            lambda: [m for m in made.events("FailedMount") if 'non-bound phase ("Pending")' in m]
        )
        claim = made.api.get("PersistentVolumeClaim", "data", "default")
        claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
        made.api.update(claim, manager="test")
        made.api.delete("PersistentVolumeClaim", "data", "default")
        await made.until(lambda: [m for m in made.events("FailedMount") if "PVC is being deleted" in m])

    cluster(scenario)
