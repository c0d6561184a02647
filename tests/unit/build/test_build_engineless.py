"""Builds without an engine, against a real registry."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
import socket
import tarfile
from pathlib import Path

import pytest

from chalkcompute.build.housekeeping import tidy
from chalkcompute.build.layers import Entry, write_layer
from chalkcompute.errors import ImageBuildError, ImageNotFoundError, RegistryError, SpecError
from chalkcompute.image import Image
from chalkcompute.registry import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Registry, digest_of
from chalkcompute.sources import collect
from tests.unit.build.conftest import Build, make_wheel, pull, push_base

SITE = "usr/local/lib/python3.12/site-packages"


def _described(folder: Path, base: str) -> Image:
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src/app.py").write_text("print('hi')\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return (
        Image.base(base)
        .pip_install(["tiny"])
        .add_local_dir(folder / "src", "/app", strategy="copy")
        .add_local_file(folder / "run.sh", "/usr/local/bin/", strategy="copy")
        .env({"PATH": "/app:/bin", "NEW": "1"})
        .workdir("/app")
        .entrypoint(["python", "app.py"])
    )


def test_packages_files_and_configuration(build: Build, registry_host: str, tmp_path: Path) -> None:
    base = push_base(registry_host, "one/base")
    said: list[str] = []
    built = build(_described(tmp_path, base), "one/app", on_progress=said.append)
    assert built.is_new
    assert built.reference == f"{registry_host}/one/app@{built.digest}"
    image = pull(registry_host, "one/app", built.digest)
    assert image.media_type == OCI_MANIFEST
    assert [digest_of(gzip.decompress(raw)) for raw in image.layers] == image.config["rootfs"]["diff_ids"]
    assert image.config["config"] == {
        "Env": ["PATH=/app:/bin", "PYTHON_VERSION=3.12.4", "NEW=1"],
        "WorkingDir": "/app",
        "Entrypoint": ["python", "app.py"],
    }
    assert [entry["created_by"] for entry in image.config["history"]] == [
        "base",
        "chalk pip_install tiny",
        "chalk copy /app",
        "chalk copy /usr/local/bin/run.sh",
    ]
    packages = image.members(1)
    assert {name for name in packages if "/lib/" not in name} == {
        "usr/local/bin/tiny-run",
        "usr/local/share",
        "usr/local/share/tiny",
        "usr/local/share/tiny/note.txt",
    }
    assert f"{SITE}/tiny/__init__.py" in packages
    assert image.read(1, "usr/local/bin/tiny-run").startswith("#!/usr/bin/env python3\n")
    record = image.read(1, f"{SITE}/tiny-1.0.dist-info/RECORD").splitlines()
    script = image.read(1, "usr/local/bin/tiny-run").encode()
    assert any(
        row.startswith("../../../bin/tiny-run,sha256=") and row.endswith(f",{len(script)}") for row in record
    )
    assert "uv_cache" not in " ".join(record)
    assert list(image.members(2)) == ["app", "app/app.py"]
    assert [(m.name, m.mode, m.uid, m.uname) for m in image.members(3).values()] == [
        ("usr/local/bin/run.sh", 0o755, 0, "")
    ]
    assert any(text.startswith("pushing layer ") and text.endswith(" kB") for text in said)


def test_unchanged_is_not_built_again(build: Build, registry_host: str, tmp_path: Path) -> None:
    base = push_base(registry_host, "two/base")
    first = build(_described(tmp_path, base), "two/app")
    again = build(_described(tmp_path, base), "two/app", environ={}, cache=tmp_path / "unused")
    assert (again.reference, again.tag, again.is_new) == (first.reference, first.tag, False)
    assert not (tmp_path / "unused").exists()
    (tmp_path / "src/app.py").write_text("print('other')\n")
    image = Image.base(base).add_local_dir(tmp_path / "src", "/app", strategy="copy")
    other = build(image, "two/app")
    assert other.is_new
    assert other.digest != first.digest


def test_the_same_digest_from_two_clean_folders(
    build: Build, registry_host: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    base = push_base(registry_host, "three/base")
    first = build(_described(tmp_path / "a", base), "three/a", cache=tmp_path / "c1")
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "wheels", moved)
    make_wheel(moved)  # another file, another time, the same content
    second = build(
        _described(tmp_path / "b" / "deep", base),
        "three/b",
        cache=tmp_path / "c2",
        environ=environ | {"PIP_FIND_LINKS": str(moved), "UV_CACHE_DIR": str(tmp_path / "uv2")},
    )
    assert first.digest == second.digest
    assert first.tag.rpartition(":")[2] == second.tag.rpartition(":")[2]
    dry = build(_described(tmp_path / "a", base), "three/none", push=False, cache=tmp_path / "c1")
    assert dry.digest == first.digest
    with Registry(registry_host) as registry, pytest.raises(ImageNotFoundError):
        registry.resolve("three/none", dry.tag.rpartition(":")[2])


def test_a_base_elsewhere_is_copied(
    build: Build, registry_host: str, other_host: str, tmp_path: Path
) -> None:
    base = push_base(other_host, "four/base", media_type=DOCKER_MANIFEST)
    built = build(_described(tmp_path, base), "four/app")
    image = pull(registry_host, "four/app", built.digest)
    assert image.media_type == DOCKER_MANIFEST
    assert {layer["mediaType"] for layer in image.manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert list((tmp_path / "cache/blobs").glob("sha256-*[!k]")) == []


def test_two_platforms_are_an_index(build: Build, registry_host: str, tmp_path: Path) -> None:
    base = push_base(registry_host, "five/base", platforms=("amd64", "arm64"))
    built = build(_described(tmp_path, base), "five/app", platforms=["linux/arm64", "linux/amd64"])
    with Registry(registry_host) as registry:
        index = registry.manifest("five/app", built.digest)
    assert index.descriptor.media_type == OCI_INDEX
    assert [m["platform"]["architecture"] for m in index.body["manifests"]] == ["amd64", "arm64"]
    arm = pull(registry_host, "five/app", index.body["manifests"][1]["digest"])
    assert arm.config["architecture"] == "arm64"
    with pytest.raises(ImageNotFoundError, match="linux/riscv64"):
        build(_described(tmp_path, base), "five/app", platforms=["linux/riscv64"])


def test_requirements_files(build: Build, registry_host: str, tmp_path: Path, wheels: Path) -> None:
    base = push_base(registry_host, "six/base")
    make_wheel(wheels, "second")
    (tmp_path / "more.txt").write_text("second==1.0\n")
    (tmp_path / "requirements.txt").write_text("# ours\ntiny  # the one\n-r more.txt\n")
    image = Image.base(base).pip_install_from_requirements(tmp_path / "requirements.txt")
    built = build(image, "six/app")
    members = pull(registry_host, "six/app", built.digest).members(1)
    assert {f"{SITE}/tiny/__init__.py", f"{SITE}/second/__init__.py"} <= set(members)
    (tmp_path / "more.txt").write_text("\n")
    assert build(image, "six/app").is_new  # what is nested counts
    (tmp_path / "more.txt").write_text("-e .\n")
    with pytest.raises(SpecError, match=r"more.txt` line 1 names something of this machine's disk"):
        build(image, "six/app")
    (tmp_path / "more.txt").unlink()
    with pytest.raises(SpecError, match=r"No such file or directory; `.*requirements.txt` line 3 names it"):
        build(image, "six/app")


def test_python_of_a_distribution(build: Build, registry_host: str) -> None:
    base = push_base(
        registry_host, "seven/base", env=(), files={"usr/bin/python3.13": b"", "etc/debian_version": b"13"}
    )
    built = build(Image.base(base).pip_install(["tiny"]), "seven/app")
    members = pull(registry_host, "seven/app", built.digest).members(1)
    assert "usr/local/lib/python3.13/dist-packages/tiny/__init__.py" in members
    bare = push_base(registry_host, "seven/bare", env=())
    with pytest.raises(ImageBuildError, match="has no Python 3"):
        build(Image.base(bare).pip_install(["tiny"]), "seven/app")


def test_packages_that_cannot_be(build: Build, registry_host: str, wheels: Path) -> None:
    base = push_base(registry_host, "eight/base")
    with pytest.raises(ImageBuildError, match="nosuch") as caught:
        build(Image.base(base).pip_install(["nosuch"]), "eight/app")
    assert "Python 3.12 on linux/amd64" in str(caught.value)
    make_wheel(wheels, "mine", tag="cp312-cp312-macosx_11_0_arm64")
    with pytest.raises(ImageBuildError, match="mine") as caught:
        build(Image.base(base).pip_install(["mine"]), "eight/app")
    assert "container engine" in str(caught.value.hint)
    with Registry(registry_host) as registry, pytest.raises(RegistryError):
        registry.resolve("eight/app", "latest")


def test_a_copy_of_the_base_is_used_when_its_registry_is_out_of_reach(
    build: Build, registry_host: str, tmp_path: Path
) -> None:
    with socket.socket() as nobody:  # bound and not listening: refused
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        (tmp_path / "a").write_text("a")
        image = Image.base(f"{away}/mirrored:1").add_local_file(tmp_path / "a", "/srv/a", strategy="copy")
        with pytest.raises(RegistryError) as raised:
            build(image, "mirror/app")
        assert f"push a copy of `mirrored` to `{registry_host}`" in str(raised.value.hint)
        push_base(registry_host, "mirrored", tag="1")
        built = build(image, "mirror/app")
    (warning,) = built.warnings
    assert f"its copy in `{registry_host}` is used for `{away}/mirrored:1`" in warning


def test_folders_of_the_base_keep_their_owner(build: Build, registry_host: str, tmp_path: Path) -> None:
    """What the layer has of them would be root's."""
    base = push_base(
        registry_host, "owner/base", env=("HOME=/var/lib/a",), User="app:app", WorkingDir="/srv/w"
    )
    image = Image.base(base)
    for number, folder in enumerate(("/home/app", "/srv/w", "/var/lib/a", "/home/other")):
        (tmp_path / "file").write_text("")
        image = image.add_local_file(tmp_path / "file", f"{folder}/new/f{number}", strategy="copy")
    built = pull(registry_host, "owner/app", build(image, "owner/app").digest)
    folders = [{name for name, m in built.members(n).items() if m.isdir()} for n in range(1, 5)]
    assert folders == [{"home/app/new"}, {"srv/w/new"}, {"var/lib/a/new"}, {"home/other", "home/other/new"}]


def test_a_base_that_cannot_be(build: Build, registry_host: str, other_host: str) -> None:
    for host in (registry_host, other_host):
        with pytest.raises(ImageNotFoundError, match="nosuch/base"):
            build(Image.base(f"{host}/nosuch/base:1").pip_install(["tiny"]), "nine/app")
    with pytest.raises(SpecError, match="no platform to build for"):
        build(Image.base("a").pip_install(["tiny"]), "nine/app", platforms=["windows/amd64"])
    with pytest.raises(SpecError, match="the repository to push to"):
        build(Image.base("a").pip_install(["tiny"]), "UPPER/app")


def test_a_file_that_changes_while_it_is_built(build: Build, registry_host: str, tmp_path: Path) -> None:
    base = push_base(registry_host, "ten/base")
    (tmp_path / "a").write_text("one")
    image = Image.base(base).add_local_file(tmp_path / "a", "/opt/x/a", strategy="copy")
    copied = [collect(item) for item in image.files]
    (tmp_path / "a").write_text("two")
    with pytest.raises(ImageBuildError, match="has changed while"):
        build(image, "ten/app", copied=copied)
    assert hashlib.sha256(b"one").hexdigest() == copied[0].files[0].sha256


def test_a_layer_of_what_is_not_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "out").mkdir()
    layer = tmp_path / "out/layer"
    with pytest.raises(ImageBuildError, match="has changed while"):
        write_layer([Entry("/a", 0o644, tmp_path / "a", "0" * 64)], layer, "x")
    with pytest.raises(ImageBuildError, match="cannot read"):
        write_layer([Entry("/a", 0o644, tmp_path / "none")], layer, "x")
    assert list(layer.parent.iterdir()) == []


def test_folders_that_every_image_has_are_left_alone(tmp_path: Path) -> None:
    entries = [
        Entry("/usr/local/lib/x/y", 0o600, b"1"),
        Entry("/tmp/z", 0o644, b""),
        Entry("/app", 0o755, None),
    ]
    layer = write_layer(entries, tmp_path / "layer", "x", existing=["/usr/local/lib/x"])
    with tarfile.open(layer.path) as tar:
        assert tar.getnames() == ["app", "tmp/z", "usr/local/lib/x/y"]
        assert tar.getmember("usr/local/lib/x/y").mode == 0o600


def test_no_file_in_the_place_of_a_folder_that_every_image_has(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match="`/usr/local/bin` is a folder of the image"):
        write_layer([Entry("/usr/local/bin", 0o755, b"1")], tmp_path / "layer", "x")


def test_a_large_layer_is_whole(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(9_000_000)
    first = write_layer([Entry("/x/big", 0o644, content)], tmp_path / "one", "x")
    second = write_layer([Entry("/x/big", 0o644, content)], tmp_path / "two", "x")
    raw = first.path.read_bytes()
    assert (first.digest, first.size, digest_of(gzip.decompress(raw))) == (
        digest_of(raw),
        len(raw),
        first.diff_id,
    )
    assert first.digest == second.digest


def test_a_cache_that_cannot_be_written(build: Build, registry_host: str, tmp_path: Path) -> None:
    base = push_base(registry_host, "eleven/base")
    (tmp_path / "cache").write_text("")
    with pytest.raises(ImageBuildError, match="the image cannot be built: ") as caught:
        build(_described(tmp_path, base), "eleven/app")
    assert str(tmp_path / "cache") in str(caught.value.hint)


def test_what_nobody_used_for_a_month_goes(tmp_path: Path) -> None:
    for name in ("layers/a.tar.gz", "layers/a.tar.json", "blobs/b", "chalk-build-1/x", "mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    now = (tmp_path / "mine").stat().st_mtime
    tidy(tmp_path, now + 86_400)
    assert (tmp_path / "chalk-build-1").exists()
    tidy(tmp_path, now + 3 * 86_400)
    assert not (tmp_path / "chalk-build-1").exists()
    assert (tmp_path / "layers/a.tar.gz").exists()
    tidy(tmp_path, now + 31 * 86_400)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]
    tidy(tmp_path / "none")
