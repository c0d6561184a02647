"""What is in volumes, by both ways to it: a folder of this machine, and programs in a Pod."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.cluster.exec import OfficialExecs
from chalkcompute.errors import ClusterError, NotFoundError, SpecError, UnreachableError
from chalkcompute.service.volume_folder import FolderContent
from chalkcompute.service.volume_paths import UPLOAD_PREFIX, Content, Upload, inner_folder, inner_path
from chalkcompute.service.volume_pod import PodContent
from tests.properties import examples
from tests.unit.service.exec_server import ExecServer, exec_server

LARGE = os.urandom(1 << 20) * 3


@pytest.fixture(scope="module")
def server() -> Iterator[ExecServer]:
    with exec_server() as running:
        yield running


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The volume; what is beside it must stay as it is."""
    folder = tmp_path / "volume"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return folder


@pytest.fixture(params=["folder", "pod"])
def content(request: pytest.FixtureRequest, volume: Path, server: ExecServer, tmp_path: Path) -> Content:
    if request.param == "folder":
        return FolderContent("data", volume)
    execs = OfficialExecs(server.connection(tmp_path))
    return PodContent(execs, "data", "chalk-volume-1", "default", mount=str(volume))


def upload(path: str, data: bytes = b"text", mode: int = 0o644) -> Upload:
    return Upload(path, len(data), mode, lambda: [data])


def read(content: Content, path: str) -> bytes:
    pieces: list[bytes] = []
    content.read(path, pieces.append)
    return b"".join(pieces)


def listed(content: Content, folder: str = "", *, recursive: bool = True) -> list[tuple[str, str, int]]:
    return sorted((e.path, e.kind, e.size) for e in content.entries(folder, recursive=recursive))


@pytest.mark.parametrize("data", [b"", b"text", LARGE], ids=["empty", "short", "large"])
def test_a_file_comes_back_as_it_was_put(content: Content, volume: Path, data: bytes) -> None:
    content.put(upload("models/v 1/'x'$HOME.bin", data, 0o640))
    assert read(content, "models/v 1/'x'$HOME.bin") == data
    assert (volume / "models" / "v 1" / "'x'$HOME.bin").stat().st_mode & 0o777 == 0o640
    assert listed(content) == [
        ("models", "directory", 0),
        ("models/v 1", "directory", 0),
        ("models/v 1/'x'$HOME.bin", "file", len(data)),
    ]


def test_a_file_takes_the_place_of_another(content: Content, volume: Path) -> None:
    (volume / "a").write_text("old")
    before = (volume / "a").open()
    content.put(upload("a", b"new"))
    assert read(content, "a") == b"new"
    assert before.read() == "old", "who has it open goes on reading what it was"
    before.close()


def test_many_files_at_once(content: Content, volume: Path) -> None:
    (volume / "d").mkdir()
    (volume / "d" / "kept").write_text("kept")
    long = "n" * 150
    names = ["d/a", "d/e/ä ö.txt", f"d/{long}/{long}/{long}", "d/-rf"]
    content.put_all("d", [upload(name, name.encode() * 1000, 0o600 + n) for n, name in enumerate(names)])
    assert [read(content, name) for name in names] == [name.encode() * 1000 for name in names]
    assert [(volume / name).stat().st_mode & 0o777 for name in names] == [0o600, 0o601, 0o602, 0o603]
    assert read(content, "d/kept") == b"kept"
    assert not any(path.name.startswith(UPLOAD_PREFIX) for path in volume.rglob("*"))


def test_listings(content: Content, volume: Path) -> None:
    (volume / "d" / "e").mkdir(parents=True)
    (volume / "d" / "e" / "f").write_text("12345")
    (volume / "d" / "line\nbreak").write_text("")
    (volume / "d" / "marked\x01").write_text("")
    (volume / "d" / "link").symlink_to("e")
    os.mkfifo(volume / "pipe")
    (volume / f"{UPLOAD_PREFIX}1").write_text("unfinished")
    assert listed(content, recursive=False) == [("d", "directory", 0), ("pipe", "other", 0)]
    assert listed(content, "d") == [
        ("d/e", "directory", 0),
        ("d/e/f", "file", 5),
        ("d/line\nbreak", "file", 0),
        ("d/link", "link", 0),
        ("d/marked\x01", "file", 0),
    ]
    assert listed(content, "d/e/f") == [("d/e/f", "file", 5)]
    assert listed(content, "d/link") == [("d/link/f", "file", 5)]
    (entry,) = content.entries("d/e/f", recursive=True)
    assert entry.modified.timestamp() == int((volume / "d" / "e" / "f").stat().st_mtime)


def test_an_empty_volume(content: Content) -> None:
    assert listed(content) == []


def test_what_is_not_there(content: Content, volume: Path) -> None:
    (volume / "file").write_text("")
    for path in ("no", "no/deeper", "file/below"):
        with pytest.raises(NotFoundError, match=r"there is no `.*` in volume `data`"):
            read(content, path)
        with pytest.raises(NotFoundError):
            content.entries(path, recursive=True)


def test_what_is_no_file(content: Content, volume: Path) -> None:
    (volume / "d").mkdir()
    os.mkfifo(volume / "pipe")
    for path in ("d", "pipe"):
        with pytest.raises(SpecError, match="is not a file"):
            read(content, path)
    with pytest.raises(SpecError, match="`d` in volume `data` is not a file"):
        content.put(upload("d"))
    with pytest.raises(SpecError, match="`d` in volume `data` is not a file"):
        content.put_all("", [upload("first"), upload("d")])
    assert sorted(path.name for path in volume.iterdir()) == ["d", "pipe"], "nothing of it was put"


def test_links_are_followed_inside_and_not_out(content: Content, volume: Path, tmp_path: Path) -> None:
    (volume / "v2").mkdir()
    (volume / "current").symlink_to("v2")
    (volume / "v2" / "up").symlink_to("../v2")
    (volume / "dangling").symlink_to("nowhere")
    content.put(upload("current/up/new/file"))
    assert read(content, "v2/new/file") == b"text"
    (volume / "absolute").symlink_to(tmp_path / "outside")
    (volume / "relative").symlink_to("../outside")
    (volume / "direct").symlink_to("../outside/secret")
    for path in ("absolute/secret", "relative/secret", "direct"):
        with pytest.raises(SpecError, match="leads out of it"):
            read(content, path)
    for path in ("absolute/new", "relative/deep/new"):
        with pytest.raises(SpecError, match="leads out of it"):
            content.put(upload(path))
        with pytest.raises(SpecError, match="leads out of it"):
            content.put_all("", [upload(path)])
    with pytest.raises(SpecError, match="leads out of it"):
        content.entries("relative", recursive=True)
    content.put(upload("direct", b"mine"))  # in the place of the link, not through it
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
    assert read(content, "direct") == b"mine"
    with pytest.raises(SpecError, match="is not a file"):
        content.put(upload("current"))
    content.put(upload("dangling"))
    assert read(content, "dangling") == b"text"


def test_a_source_that_fails_half_way_leaves_what_was_there(content: Content, volume: Path) -> None:
    def pieces() -> Iterable[bytes]:
        yield LARGE
        raise KeyboardInterrupt

    (volume / "a").write_text("old")
    broken = Upload("a", 2 * len(LARGE), 0o644, pieces)
    for put in (content.put, lambda one: content.put_all("", [one])):
        with pytest.raises(KeyboardInterrupt):
            put(broken)
        assert (volume / "a").read_text() == "old"
        assert [path.name for path in volume.iterdir()] == ["a"]


@pytest.mark.parametrize("at", ["put", "put_all"])
def test_a_connection_that_breaks_leaves_what_was_there(
    server: ExecServer, volume: Path, tmp_path: Path, at: str
) -> None:
    content = PodContent(
        OfficialExecs(server.connection(tmp_path)), "data", "chalk-volume-1", "default", mount=str(volume)
    )
    (volume / "a").write_text("old")
    server.cut_after = 1 << 20
    put: Callable[[Upload], None] = content.put if at == "put" else lambda one: content.put_all("", [one])
    try:
        with pytest.raises(UnreachableError, match="for exec broke"):
            put(upload("a", LARGE))
    finally:
        server.cut_after = None
    assert (volume / "a").read_text() == "old"
    assert [path.name for path in volume.iterdir()] == ["a"]


def test_what_the_system_refuses_is_said(content: Content, volume: Path) -> None:
    (volume / "file").write_text("")
    with pytest.raises(ClusterError, match="`file/below` in volume `data`"):
        content.put(upload("file/below"))


_PARTS = st.sampled_from(
    ["a", "b", "..", ".", "", "-x", " ", "ä", "a\nb", "\x00", "n" * 256, f"{UPLOAD_PREFIX}1"]
)


@examples(300)
@given(st.one_of(st.text(max_size=20), st.lists(_PARTS, max_size=5).map("/".join)))
def test_a_path_that_is_taken_stays_inside(path: str) -> None:
    try:
        found = inner_folder(path)
    except SpecError:
        return
    assert not path.startswith("/")
    parts = found.split("/") if found else []
    assert all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)
    assert not any(ord(char) < 32 or ord(char) == 127 for char in found)
    assert os.path.normpath(f"/volume/{path}") == os.path.normpath(f"/volume/{found}")
    assert inner_folder(found) == found
    if found and not path.endswith("/"):
        assert inner_path(path) == found
    else:
        with pytest.raises(SpecError, match="names no file"):
            inner_path(path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/data/x", "is absolute"),
        ("a/../b", r"has `\.\.` in it"),
        ("", "names no file"),
        ("a/", "names no file"),
        ("a\nb", "has control characters"),
        ("a/" * 2000 + "b", "is too long"),
        ("\ud800", "is not valid text"),
        (f"{UPLOAD_PREFIX}1", "which unfinished files have"),
    ],
)
def test_paths_that_cannot_be(path: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        inner_path(path)
