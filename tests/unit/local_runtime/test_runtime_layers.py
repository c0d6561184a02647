"""Layers of images: every form, hostile ones, and what a sequence of them adds up to."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.runtime.layers import LayerStore, chain_ids
from chalkcompute.local.runtime.unpack import LayerError
from tests.properties import examples
from tests.unit.local_runtime.images import OCI_LAYER as OCI
from tests.unit.local_runtime.images import Member, archive, as_layer

DOCKER = "application/vnd.docker.image.rootfs.diff.tar"


def unpacked(folder: Path, *tars: bytes) -> tuple[Path, ...]:
    store = LayerStore(folder / "layers", owners=False)
    return store.folders([as_layer(folder / "blobs", tar) for tar in tars])


def listing(root: Path) -> dict[str, str]:
    """What a folder holds: path to content, `/` for a folder, `->x` for a link."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (
            f"->{path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
        )
    return found


def overlaid(folders: Sequence[Path]) -> dict[str, str]:
    """What an overlay of folders shows, the uppermost first."""
    found: dict[str, str] = {}
    for folder in folders:
        for name, content in listing(folder).items():
            parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
            if name not in found and all(found.get(parent, "/") == "/" for parent in parents):
                found[name] = content
    return found


@pytest.mark.parametrize(
    ("media_type", "pack"),
    [
        (OCI, lambda tar: tar),
        (f"{OCI}+gzip", gzip.compress),
        (f"{OCI}+zstd", zstandard.compress),
        (DOCKER, lambda tar: tar),
        (f"{DOCKER}.gzip", gzip.compress),
        (f"{DOCKER}.zstd", zstandard.compress),
        # Two frames, as `pigz` and chunked images have; and a type that is not the truth.
        (f"{OCI}+gzip", lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:])),
        (f"{OCI}+zstd", lambda tar: zstandard.compress(tar[:700]) + zstandard.compress(tar[700:])),
        (f"{OCI}+gzip", zstandard.compress),
    ],
)
def test_every_form_of_a_layer(tmp_path: Path, media_type: str, pack: Any) -> None:
    tar = archive(("app", None), ("./app/run.py", b"print()"), ("/app/link", "->run.py"))
    layer = as_layer(tmp_path, tar, media_type, blob=pack(tar))
    (folder,) = LayerStore(tmp_path / "layers", owners=False).folders([layer])
    assert listing(folder) == {"app": "/", "app/run.py": "print()", "app/link": "->run.py"}


def test_files_go_where_links_of_the_base_lead(tmp_path: Path) -> None:
    # As every current Debian has them; who replaced the links would hide all programs.
    base = archive(("usr/bin/sh", b"sh"), ("bin", "->usr/bin"), ("run", None), ("var/run", "->/run"))
    top = archive(("bin/tool", b"tool"), ("bin/same", "=bin/tool"), ("var/run/app/pid", b"1"))
    shown = overlaid(unpacked(tmp_path, base, top))
    assert shown == {
        "bin": "->usr/bin",
        "usr": "/",
        "usr/bin": "/",
        "usr/bin/sh": "sh",
        "usr/bin/tool": "tool",
        "usr/bin/same": "tool",
        "run": "/",
        "run/app": "/",
        "run/app/pid": "1",
        "var": "/",
        "var/run": "->/run",
    }


@pytest.mark.parametrize("own", [[("bin", None)], [(".wh.bin", b"")], [(".wh..wh..opq", b"")]])
def test_links_of_the_base_that_a_layer_replaces(tmp_path: Path, own: list[Member]) -> None:
    base = archive(("usr/bin/sh", b"sh"), ("bin", "->usr/bin"))
    shown = overlaid(unpacked(tmp_path, base, archive(*own, ("bin/tool", b"tool"))))
    assert (shown["bin"], shown["bin/tool"]) == ("/", "tool")


def test_a_layer_is_unpacked_once_per_chain(tmp_path: Path) -> None:
    base, top = archive(("a", b"1")), archive(("b", b"2"))
    first = unpacked(tmp_path, base, top)
    stamps = [folder.stat().st_ino for folder in first]
    assert [folder.stat().st_ino for folder in unpacked(tmp_path, base, top)] == stamps
    assert unpacked(tmp_path, top)[0] != first[0]
    assert chain_ids(["sha256:a", "sha256:b"])[1] == (
        "sha256:" + hashlib.sha256(b"sha256:a sha256:b").hexdigest()
    )


def test_an_unpacking_that_broke_off_is_started_again(tmp_path: Path) -> None:
    left = tmp_path / "layers" / "plain" / ".new-x"
    (left / "tree").mkdir(parents=True)
    assert listing(unpacked(tmp_path, archive(("a", b"1")))[0]) == {"a": "1"}
    assert not left.exists()


def test_modes_times_and_what_is_left_out(tmp_path: Path) -> None:
    program, pipe, device = tarfile.TarInfo(), tarfile.TarInfo(), tarfile.TarInfo()
    program.mode, program.mtime, program.uid = 0o4511, 1_600_000_000, 4321
    pipe.type, device.type = tarfile.FIFOTYPE, tarfile.CHRTYPE
    shut, sticky = tarfile.TarInfo(), tarfile.TarInfo()
    shut.type = sticky.type = tarfile.DIRTYPE
    shut.mode, sticky.mode = 0o500, 0o1777
    base = archive(("tmp", sticky), ("shut", shut), ("shut/su", program), ("pipe", pipe), ("null", device))
    top = archive(("tmp/x/y", b""))
    upper, lower = unpacked(tmp_path, base, top)
    found = (lower / "shut/su").stat()
    assert stat.S_IMODE(found.st_mode) == 0o711
    assert (found.st_mtime, found.st_uid) == (1_600_000_000, os.getuid())
    assert stat.S_IMODE((lower / "shut").stat().st_mode) == 0o700
    assert sorted(listing(lower)) == ["shut", "shut/su", "tmp"]
    # A folder that only a file in it names keeps the mode that it has below.
    assert stat.S_IMODE((upper / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((upper / "tmp/x").stat().st_mode) & 0o700 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_owners_are_kept_where_the_sandbox_has_more_than_one_user(tmp_path: Path) -> None:
    info = tarfile.TarInfo()
    info.uid, info.gid = 4321, 99
    layer = as_layer(tmp_path, archive(("home/x", info)))
    (folder,) = LayerStore(tmp_path / "layers", owners=True).folders([layer])
    assert ((folder / "home/x").stat().st_uid, (folder / "home/x").stat().st_gid) == (4321, 99)


def test_whiteouts(tmp_path: Path) -> None:
    base = archive(("etc/a", b"1"), ("etc/b", b"2"), ("opt/x/y", b"3"), ("opt/z", b"4"), ("var/l", "->/etc"))
    top = archive(
        ("etc/.wh.a", b""),
        ("etc/.wh.never", b""),
        ("opt/new", b"5"),
        ("opt/.wh..wh..opq", b""),
        ("opt/.wh..wh.plnk", b""),
        ("var/l/.wh.b", b""),
        ("etc/b.txt", b"6"),
    )
    (folder,) = unpacked(tmp_path, base, top)
    assert listing(folder) == {
        "etc": "/",
        "etc/b": "2",
        "etc/b.txt": "6",
        "opt": "/",
        "opt/new": "5",
        "var": "/",
        "var/l": "->/etc",
    }
    again = unpacked(tmp_path, base, top, archive(("etc/a", b"back")))
    assert overlaid(again)["etc/a"] == "back"
    # What was taken away above is still there for images without that layer.
    assert listing(unpacked(tmp_path, base)[0])["etc/a"] == "1"


def test_hard_links(tmp_path: Path) -> None:
    tar = archive(("bin/a", b"1"), ("bin/b", "=bin/a"), ("c", "=./bin/b"), ("c", "=c"), ("bin", "=bin/a"))
    (folder,) = unpacked(tmp_path, tar)
    assert listing(folder) == {"bin": "1", "c": "1"}
    assert (folder / "c").stat().st_nlink == 2


HOSTILE = [
    [("../../outside", b"bad")],
    [("/../outside", b"bad")],
    [("a/../../../outside", b"bad")],
    [("way", "->../.."), ("way/outside", b"bad")],
    [("way", "->{victim}"), ("way/outside", b"bad")],
    [("way", "->{victim}"), ("way/d/outside", b"bad")],
    [("file", "->{victim}/kept"), ("file", b"bad")],
    [("a", "->b"), ("b", "->{victim}"), ("a/outside", b"bad")],
    [("way", "->{victim}"), ("way", None), ("way/outside", b"bad")],
    [("way", "->{victim}"), ("way/.wh.kept", b"")],
    [("way", "->{victim}"), ("way/.wh..wh..opq", b"")],
    [(".wh...", b"")],
    [("way/.wh..", b"")],
    [("link", "={victim}/kept"), ("link", b"bad")],
    [("way", "->{victim}"), ("link", "=way/kept")],
    [("soft", "->{victim}/kept"), ("link", "=soft"), ("link", b"bad")],
    [("a", "->a"), ("a/b", b"bad")],
    [("x/" * 600 + "y", b"bad")],
    [("n" * 300, b"bad")],
    [("..", "->{victim}"), ("outside", b"bad")],
    [(".", b"bad")],
]


@pytest.mark.parametrize("members", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_leaves_the_folder(tmp_path: Path, members: list[Member]) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("precious")
    place = [
        (name, content.replace("{victim}", str(victim)) if isinstance(content, str) else content)
        for name, content in members
    ]
    base = archive(("kept", b"lower"))
    around = sorted(tmp_path.iterdir())
    try:
        folders = unpacked(tmp_path / "state", base, archive(*place))
    except LayerError:
        folders = ()
    assert listing(victim) == {"kept": "precious"}
    assert (victim / "kept").stat().st_nlink == 1
    assert sorted(tmp_path.iterdir()) == sorted([*around, tmp_path / "state"])
    assert sorted(entry.name for entry in (tmp_path / "state").iterdir()) == ["blobs", "layers"]
    assert not list((tmp_path / "state/layers").rglob(".new-*"))
    for folder in folders:
        assert folder.is_relative_to(tmp_path / "state/layers/plain")


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "empty file"),
        (b"no archive at all" * 100, "the archive is broken"),
        (gzip.compress(archive(("a", b"1" * 9000)))[:60], "the archive is broken"),
        (gzip.compress(b"x" * 2000), "the archive is broken"),
        (b"\x1f\x8b" + b"x" * 100, "the archive is broken"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 100, "the archive is broken"),
        (zstandard.compress(archive(("a", os.urandom(9000))))[:5000], "the archive is broken"),
        (archive(("a", b"1" * 9000))[:5000], "the archive is broken"),
        (archive(("a", b"other")), "wrong diff id calculated on extraction"),
    ],
    # Never by the bytes: those of gzip have the time in them, and workers must collect the same tests.
    ids=["empty", "text", "cut gzip", "no tar", "gzip magic", "zstd magic", "cut zstd", "cut tar", "another"],
)
def test_broken_layers(tmp_path: Path, blob: bytes, message: str) -> None:
    layer = as_layer(tmp_path, archive(("a", b"1")), blob=blob)
    with pytest.raises(LayerError, match=message):
        LayerStore(tmp_path / "layers", owners=False).folders([layer])
    assert list((tmp_path / "layers/plain").iterdir()) == []


def test_what_is_no_layer(tmp_path: Path) -> None:
    layer = as_layer(tmp_path, archive(("a", b"1")), f"{OCI}+encrypted")
    with pytest.raises(LayerError, match=r"`application/vnd\.oci.*encrypted` is none of an image layer"):
        LayerStore(tmp_path / "layers", owners=False).folders([layer])


def test_all_in_one_folder(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", owners=False)
    layers = [as_layer(tmp_path, archive(("a/b", b"1"))), as_layer(tmp_path, archive(("a/c", b"2")))]

    def prepare(new: Path) -> None:
        (new / "d").write_text("3")

    folder = store.merged(layers, prepare, "test")
    assert listing(folder) == {"a": "/", "a/b": "1", "a/c": "2", "d": "3"}
    assert store.merged(layers, lambda _: pytest.fail("made twice"), "test") == folder


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CHANGES = st.one_of(
    st.tuples(PATHS, st.one_of(st.none(), st.binary(max_size=3).map(lambda data: data.hex().encode()))),
    PATHS.map(lambda path: (str(Path(path).parent / f".wh.{Path(path).name}"), b"")),
    PATHS.map(lambda path: (f"{path}/.wh..wh..opq", b"")),
)


def add(files: dict[str, str], path: str, content: str) -> None:
    """What an archive's next member does to the files of its layer."""
    for parent in reversed([str(parent) for parent in Path(path).parents if str(parent) != "."]):
        if files.get(parent) != "/":
            files[parent] = "/"
    if content != "/" or files.get(path) != "/":
        drop(files, path)
        files[path] = content


def drop(files: dict[str, str], path: str) -> None:
    for name in [name for name in files if name == path or name.startswith(f"{path}/")]:
        del files[name]


def model(layers: list[list[Member]]) -> dict[str, str]:
    files: dict[str, str] = {}
    for members in layers:
        own: dict[str, str] = {}
        for name, content in members:
            path = Path(name)
            if path.name == ".wh..wh..opq":
                if all(files.get(str(each)) == "/" for each in [path.parent, *path.parent.parents][:-1]):
                    for child in [name for name in files if name.startswith(f"{path.parent}/")]:
                        del files[child]
            elif path.name.startswith(".wh."):
                drop(files, str(path.parent / path.name.removeprefix(".wh.")))
            else:
                add(own, name, "/" if content is None else content.decode())
        for name, content in own.items():
            add(files, name, content)
    return files


@examples(200)
@given(st.lists(st.lists(CHANGES, max_size=6), min_size=1, max_size=4))
def test_any_sequence_of_layers_adds_up(layers: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert overlaid(unpacked(Path(folder), *(archive(*each) for each in layers))) == model(layers)
