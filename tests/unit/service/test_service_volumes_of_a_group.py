"""Volumes that a description names: there or not, shared or not, and never deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalkcompute.client import ChalkClient
from chalkcompute.errors import ForbiddenError, SpecError
from chalkcompute.scaling_group import ScalingGroup
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import ClaimRequest, Content
from chalkcompute.spec.mounts import VolumeMount
from chalkcompute.types import Action
from chalkcompute.volume import Volume
from tests.unit.service.conftest import ApiCluster, FailingCluster

Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]


@pytest.fixture
def wanted(spec: ScalingGroupSpec) -> ScalingGroupSpec:
    return replace(spec, volumes=(VolumeMount("data", "/data"),))


def put_claim(cluster: ApiCluster, *modes: str, volume_mode: str = "Filesystem") -> None:
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "default"},
            "spec": {
                "accessModes": list(modes),
                "volumeMode": volume_mode,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )


def test_one_that_is_there_is_mounted_and_kept(
    client: ChalkClient, cluster: ApiCluster, wanted: ScalingGroupSpec
) -> None:
    put_claim(cluster, "ReadWriteMany")
    result = client.create_scaling_group(wanted)
    assert result.warnings == ()
    deployment = cluster.seen("Deployment", "web")
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data"}
    assert pod["containers"][0]["volumeMounts"] == [{"name": "volume-0", "mountPath": "/data"}]
    deleted = client.delete_scaling_group("web")
    assert "PersistentVolumeClaim/data: a volume, with what is in it" in deleted.kept
    assert cluster.seen("PersistentVolumeClaim", "data") is not None


def test_one_that_is_not_there(client: ChalkClient, cluster: ApiCluster, wanted: ScalingGroupSpec) -> None:
    with pytest.raises(SpecError, match="there is no volume `data`") as caught:
        client.create_scaling_group(wanted)
    assert caught.value.field == "volumes"
    assert not {verb for verb, _ in cluster.calls} & set(FailingCluster.WRITES)


def test_one_without_files(client: ChalkClient, cluster: ApiCluster, wanted: ScalingGroupSpec) -> None:
    put_claim(cluster, "ReadWriteMany", volume_mode="Block")
    with pytest.raises(SpecError, match="is a block device without files"):
        client.create_scaling_group(wanted)
    assert not {verb for verb, _ in cluster.calls} & set(FailingCluster.WRITES)


def test_one_that_is_to_be_made(client: ChalkClient, cluster: ApiCluster, wanted: ScalingGroupSpec) -> None:
    content = Content(claims=(ClaimRequest("data", "10Gi", storage_class="fast"),))
    assert client.render_manifests(wanted, content=content)[0]["kind"] == "PersistentVolumeClaim"
    assert client.create_scaling_group(wanted, content=content, dry_run=True).action is Action.CREATED
    assert cluster.seen("PersistentVolumeClaim", "data") is None
    client.create_scaling_group(wanted, content=content)
    made = cluster.seen("PersistentVolumeClaim", "data")
    assert made is not None
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"]["accessModes"] == ["ReadWriteMany"]
    assert made["spec"]["resources"]["requests"] == {"storage": "10Gi"}
    assert client.create_scaling_group(wanted, content=content).action is Action.UNCHANGED
    client.delete_scaling_group("web")
    assert cluster.seen("PersistentVolumeClaim", "data") is not None


@pytest.mark.parametrize(
    ("modes", "replicas", "said"),
    [
        (("ReadWriteOnce",), 3, "Multi-Attach"),
        (("ReadWriteOnce",), 1, "a rollout starts the new replica before"),
        (("ReadWriteOncePod",), 1, "will not come to an end"),
        (("ReadWriteOnce", "ReadWriteMany"), 3, None),
    ],
)
def test_what_replicas_can_share(
    client: ChalkClient,
    cluster: ApiCluster,
    wanted: ScalingGroupSpec,
    modes: tuple[str, ...],
    replicas: int,
    said: str | None,
) -> None:
    put_claim(cluster, *modes)
    warnings = client.create_scaling_group(
        replace(wanted, min_replicas=replicas, max_replicas=replicas)
    ).warnings
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_one_that_one_pod_only_can_have(
    client: ChalkClient, cluster: ApiCluster, wanted: ScalingGroupSpec
) -> None:
    put_claim(cluster, "ReadWriteOncePod")
    with pytest.raises(SpecError, match="one replica can have it, and there may be 2"):
        client.create_scaling_group(replace(wanted, max_replicas=2))


def test_one_that_may_not_be_seen(reconnect: Reconnect, wanted: ScalingGroupSpec) -> None:
    denied = ForbiddenError("no", status=403)
    client, _ = reconnect(fail={("get", "PersistentVolumeClaim"): denied})
    assert "assuming that it is there" in client.create_scaling_group(wanted).warnings[0]


@pytest.mark.parametrize(
    ("volumes", "mounts"),
    [
        ([("data", "/data")], [("data", "/data", False)]),
        ([["data", "/data/"]], [("data", "/data", False)]),
        ([Volume("data")], [("data", "/volumes/data", False)]),
        ([(Volume("data"), "/x")], [("data", "/x", False)]),
        ([VolumeMount("data", "/x", read_only=True)], [("data", "/x", True)]),
        ([("b", "/b"), ("a", "/a")], [("a", "/a", False), ("b", "/b", False)]),
    ],
)
def test_forms(volumes: Any, mounts: list[tuple[str, str, bool]]) -> None:
    group = ScalingGroup(image="i", volumes=volumes)
    assert group._spec is not None
    assert [(m.name, m.path, m.read_only) for m in group._spec.volumes] == mounts


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([("data", "data")], "is not absolute"),
        ([("data", "/")], "nothing can be mounted at `/`"),
        ([("data", "/a/../b")], "`..`"),
        ([("data", "/dev")], "`/dev` is the kernel's"),
        ([("data", "/sys/fs")], "`/sys` is the kernel's"),
        ([("data", "/a:b")], "nothing can be mounted"),
        ([("Data", "/a")], "cannot be the name of a volume"),
        ([("a", "/x"), ("b", "/x/")], "`/x` is given to volume `a` and to volume `b`"),
        ([VolumeMount("a", "/x", read_only=True), ("b", "/x/y")], "inside volume `a`"),
        (["data"], "must be a name and a path"),
        ("data", "must be a list"),
        ([(Volume("a", create=True, size="1Gi"), "/a"), (Volume("a"), "/b")], "described in two ways"),
    ],
)
def test_what_cannot_be(volumes: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        ScalingGroup(image="i", volumes=volumes)
    assert caught.value.field == "volumes"


@pytest.mark.parametrize(
    "changes",
    [
        {"create": True},
        {"create": True, "size": "10"},
        {"create": True, "size": 5},
        {"size": "1Gi"},
        {"storage_class": "fast"},
        {"access_modes": ("RWX",)},
        {"access_modes": ()},
        {"create": True, "size": "1Gi", "storage_class": "A"},
    ],
)
def test_a_volume_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        Volume("data", **changes)
    assert caught.value.field == "volumes"


def test_a_handle_makes_what_it_describes() -> None:
    group = ScalingGroup(image="i", volumes=[(Volume("data", create=True, size="1Gi"), "/d")])
    assert group._claims == (ClaimRequest("data", "1Gi"),)
