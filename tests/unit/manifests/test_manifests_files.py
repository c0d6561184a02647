"""Local files in ConfigMaps: what is packed where, what holds for any files, and what does not fit."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import SpecError
from chalkcompute.manifests import render
from chalkcompute.manifests.files import MAP_BYTES, TOTAL_BYTES, config_maps, fits_config_maps, pack
from chalkcompute.manifests.mounted import pod_volumes, volume_mounts
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import FileContent, FileSet
from chalkcompute.spec.mounts import FileMount, VolumeMount
from tests.properties import examples
from tests.unit.manifests.manifests_builders import a_placement, a_spec

APP = FileSet("/app/app.py", False, (FileContent("/app/app.py", 0o755, b"print(1)\n"),))
STATIC = FileSet(
    "/srv/static",
    True,
    (
        FileContent("/srv/static/index.html", 0o644, b"<p>\xff"),
        FileContent("/srv/static/css/a.css", 0o600, b"p{}"),
    ),
)


def test_golden(golden: Callable[[str, str], None]) -> None:
    mounts, packed = pack("inference", [APP, STATIC])
    spec, placement = a_spec(files=mounts), a_placement()
    objects = (*config_maps(spec, placement, packed), *render(spec, placement))
    golden("manifests/files.yaml", yaml.safe_dump_all(objects, sort_keys=False))


def test_one_file_lies_beside_those_of_the_image() -> None:
    mounts, _ = pack("web", [APP])
    spec = a_spec(files=mounts)
    assert volume_mounts(spec) == [
        {"name": "files-0", "mountPath": "/app/app.py", "readOnly": True, "subPath": "app.py"}
    ]
    (volume,) = pod_volumes(spec)
    (source,) = volume["projected"]["sources"]
    assert source["configMap"]["items"] == [{"key": "f0", "path": "app.py", "mode": 0o755}]


def test_a_directory_without_files_is_an_empty_one() -> None:
    mounts, packed = pack("web", [FileSet("/srv", True, ())])
    assert packed == ()
    assert pod_volumes(a_spec(files=mounts)) == [{"name": "files-0", "emptyDir": {}}]


def test_names_follow_the_content_alone() -> None:
    (one,), _ = pack("web", [APP])
    (moved,), _ = pack("web", [FileSet("/b", False, (FileContent("/b", 0o600, b"print(1)\n"),))])
    (changed,), _ = pack("web", [FileSet("/b", False, (FileContent("/b", 0o600, b"print(2)\n"),))])
    assert one.config_maps == moved.config_maps != changed.config_maps


@given(st.lists(st.integers(0, MAP_BYTES), max_size=20).filter(lambda sizes: sum(sizes) <= TOTAL_BYTES))
@examples(25)
def test_every_map_is_small_enough_and_every_file_in_one(sizes: list[int]) -> None:
    files = tuple(FileContent(f"/d/{n}", 0o644, bytes([n]) * size) for n, size in enumerate(sizes))
    (mount,), packed = pack("web", [FileSet("/d", True, files)])
    assert all(sum(len(data) for _, data in each.data) <= MAP_BYTES for each in packed)
    assert mount.config_maps == tuple(each.name for each in packed)
    held = {entry.path: dict(packed[entry.config_map].data)[entry.key] for entry in mount.entries}
    assert held == {str(n): bytes([n]) * size for n, size in enumerate(sizes)}
    again = ScalingGroupSpec.from_dict(a_spec(files=(mount,)).to_dict())
    assert again == a_spec(files=(mount,))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("/d/a", MAP_BYTES + 1)], r"`/d/a` \(900 KiB\): a file in a ConfigMap"),
        ([(f"/d/{n}", MAP_BYTES) for n in range(10)], r"have 8.8 MiB, ConfigMaps hold 8.0 MiB; the largest"),
        ([(f"/d/{n}", 1) for n in range(2000)], "2000 local files are too many"),
        ([("/d/..a", 1)], "begins with `..`"),
    ],
)
def test_what_does_not_fit(files: list[tuple[str, int]], said: str) -> None:
    sets = [FileSet("/d", True, tuple(FileContent(path, 0o644, b"x" * size) for path, size in files))]
    assert not fits_config_maps(sets)
    with pytest.raises(SpecError, match=said) as caught:
        pack("web", sets)
    assert caught.value.field == "image"
    assert 'strategy="copy"' in (caught.value.hint or "")


@pytest.mark.parametrize("sets", [[], [APP], [APP, STATIC]])
def test_what_fits(sets: list[FileSet]) -> None:
    assert fits_config_maps(sets)


def test_the_bytes_are_what_they_were() -> None:
    _, packed = pack("inference", [STATIC])
    (made,) = config_maps(a_spec(), a_placement(), packed)
    assert {base64.b64decode(text) for text in made["binaryData"].values()} == {b"<p>\xff", b"p{}"}
    assert "data" not in made


@pytest.mark.parametrize(
    ("volumes", "sets", "said"),
    [
        ([VolumeMount("a", "/srv/static")], [STATIC], "`/srv/static` is given to"),
        ([VolumeMount("a", "/srv/static/x")], [STATIC], "inside the local content of `/srv/static`"),
        ([], [STATIC, FileSet("/srv/static/x", False, (FileContent("/srv/static/x", 0, b""),))], "inside"),
        ([VolumeMount("a", "/app", read_only=True)], [APP], "inside volume `a`"),
    ],
)
def test_what_excludes_each_other(volumes: list[VolumeMount], sets: list[FileSet], said: str) -> None:
    mounts, _ = pack("web", sets)
    with pytest.raises(SpecError, match=said):
        a_spec(files=mounts, volumes=tuple(volumes))


def test_a_file_inside_a_volume_comes_after_it() -> None:
    mounts, _ = pack("web", [APP])
    spec = a_spec(files=mounts, volumes=(VolumeMount("a", "/app"),))
    assert [mount["mountPath"] for mount in volume_mounts(spec)] == ["/app", "/app/app.py"]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "app"},
        {"config_maps": ()},
        {"config_maps": "x"},
        {"entries": ()},
        {"entries": [{"path": "a"}]},
        {"entries": [5]},
    ],
)
def test_a_record_that_cannot_be(changes: dict[str, object]) -> None:
    (mount,), _ = pack("web", [APP])
    with pytest.raises(SpecError):
        FileMount.from_dict({**mount.to_dict(), **changes})
