"""The cache of builds: two of them share it, and what a crash has spoilt in it is made anew."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

from chalkcompute.build.base import Base, BaseImage, Place
from chalkcompute.build.layers import Entry, cached_layer, save_layer, write_layer
from chalkcompute.build.transfer import fetched_layer, transfer_base
from chalkcompute.registry import Descriptor, Registry, digest_of

BLOB = b"a layer of the base"
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(BLOB), len(BLOB))


class Own:
    """The base's own registry."""

    def __init__(self) -> None:
        self.downloads = 0

    def download_blob(self, _repository: str, _digest: str, _size: int, into: Path, **_: Any) -> None:
        self.downloads += 1
        into.write_bytes(BLOB)


class Target:
    """A registry that has nothing; it may take its time."""

    def __init__(self, goes_on: threading.Event) -> None:
        self.began = threading.Event()
        self.pushed = b""
        self._goes_on = goes_on

    def has_blob(self, *_: object) -> bool:
        return False

    def push_blob(self, _repository: str, _digest: str, _size: int, source: Path, **_: Any) -> None:
        self.began.set()
        assert self._goes_on.wait(20)
        self.pushed = source.read_bytes()


def base_in(own: Own) -> Base:
    image = BaseImage("linux/amd64", "sha256:0", "", b"", "", {}, (LAYER,))
    return Base("base", "sha256:0", Place(cast(Registry, own), "base", None, False), (image,), ())


def test_two_builds_push_one_layer_of_the_base(tmp_path: Path) -> None:
    own, goes_on, at_once = Own(), threading.Event(), threading.Event()
    at_once.set()
    slow, quick = Target(goes_on), Target(at_once)

    def pushed(target: Target) -> threading.Thread:
        def work() -> None:
            transfer_base(base_in(own), cast(Registry, target), "app", tmp_path, lambda _: None)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    first = pushed(slow)
    assert slow.began.wait(20)
    second = pushed(quick)
    second.join(0.2)  # it must not take away what the first one still needs
    goes_on.set()
    for thread in (first, second):
        thread.join(20)
    assert (slow.pushed, quick.pushed) == (BLOB, BLOB)
    assert [path.name for path in (tmp_path / "blobs").iterdir() if path.suffix != ".lock"] == []


def test_a_spoilt_layer_of_the_base_is_fetched_anew(tmp_path: Path) -> None:
    own = Own()
    with fetched_layer(base_in(own), LAYER, tmp_path, lambda _: None) as path:
        path.write_bytes(bytes(len(BLOB)))
    for downloads in (2, 2):
        with fetched_layer(base_in(own), LAYER, tmp_path, lambda _: None) as path:
            assert (path.read_bytes(), own.downloads) == (BLOB, downloads)


def test_a_spoilt_layer_of_packages_is_no_layer(tmp_path: Path) -> None:
    layer = write_layer([Entry("/a", 0o644, b"1")], tmp_path / "a.tar.gz", "x")
    save_layer(layer)
    assert cached_layer(layer.path) == layer
    layer.path.write_bytes(bytes(layer.size))
    assert cached_layer(layer.path) is None
