"""Local files from the description to the cluster: made first, reused, removed with the group."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalkcompute.client import ChalkClient
from chalkcompute.errors import SpecError
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content, FileContent, FileSet
from chalkcompute.types import Action
from tests.unit.service.conftest import ApiCluster, FailingCluster


def files(text: str = "1") -> Content:
    path = "/app/app.py"
    return Content(files=(FileSet(path, False, (FileContent(path, 0o755, text.encode()),)),))


def maps_of(cluster: ApiCluster) -> list[str]:
    found = cluster.api.list("ConfigMap", "default")
    return [obj["metadata"]["name"] for obj in found if obj["metadata"]["name"].startswith("web-files-")]


def test_they_come_before_the_pods(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    result = client.create_scaling_group(spec, content=files())
    applied = [kind for verb, kind in cluster.calls if verb == "apply"]
    assert applied.index("ConfigMap") < applied.index("Deployment")
    (name,) = maps_of(cluster)
    made = cluster.seen("ConfigMap", name)
    assert made is not None
    assert made["immutable"] is True
    assert made["metadata"]["ownerReferences"][0]["name"] == "chalk-sg-web"
    assert result.info.spec["files"][0]["config_maps"] == [name]


def test_equal_files_change_nothing(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(spec, content=files())
    cluster.calls.clear()
    assert client.create_scaling_group(spec, content=files()).action is Action.UNCHANGED
    assert not {verb for verb, _ in cluster.calls} & set(FailingCluster.WRITES)


def test_a_change_is_a_new_revision_and_the_old_one_stays(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=files())
    assert client.create_scaling_group(spec, content=files("2")).changes == ("files",)
    assert len(maps_of(cluster)) == 2
    for number in range(25):
        client.create_scaling_group(spec, content=files(f"n{number}"))
    assert len(maps_of(cluster)) == 20


def test_one_that_was_removed_comes_back(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=files())
    (name,) = maps_of(cluster)
    cluster.api.delete("ConfigMap", name, "default")
    result = client.create_scaling_group(spec, content=files())
    assert (result.action, maps_of(cluster)) == (Action.UNCHANGED, [name])
    assert f"ConfigMap/{name}" in result.warnings[0]


def test_a_handle_deploys_the_recorded_files(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=files())
    recorded = ScalingGroupSpec.from_dict(dict(client.get_scaling_group("web").spec))
    assert client.create_scaling_group(recorded).action is Action.UNCHANGED
    assert client.create_scaling_group(replace(recorded, port=9)).action is Action.UPDATED
    cluster.api.delete("ConfigMap", maps_of(cluster)[0], "default")
    with pytest.raises(SpecError, match=r"the local files for `/app/app\.py` are gone") as caught:
        client.create_scaling_group(recorded)
    assert caught.value.field == "image"


def test_they_go_with_the_group(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    client.create_scaling_group(spec, content=files())
    client.delete_scaling_group("web")
    assert maps_of(cluster) == []


def test_they_are_printed(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    objects = client.render_manifests(spec, content=files())
    assert objects[0]["kind"] == "ConfigMap"
    assert objects[0]["binaryData"] == {"f0": "MQ=="}
