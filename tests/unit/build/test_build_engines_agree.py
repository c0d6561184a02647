"""What is built without an engine, an engine takes; and of the same Dockerfile it makes the same."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine_base import LIBRARY, NoBaseError, architecture, push_base, write_base_layer
from chalkcompute.image import Image
from chalkcompute.registry import Registry
from tests.unit.build.conftest import Build, make_wheel

pytestmark = pytest.mark.skipif(
    shutil.which("buildah") is None or os.geteuid() != 0, reason="needs `buildah` and root"
)

_DRIVERS = ("overlay", "vfs")
_ISOLATIONS = ("oci", "chroot")


class Buildah:
    """`buildah` with a store of its own."""

    def __init__(self, store: Path, driver: str, isolation: str) -> None:
        self._store = store
        store.mkdir()
        settings = store / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{store}/graph"\nrunroot = "{store}/run"\n'
        )
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(store),
            "CONTAINERS_STORAGE_CONF": str(settings),
            "BUILDAH_ISOLATION": isolation,
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"buildah {arguments[0]}: {done.stderr[-1000:]}")
        return done.stdout.strip()

    def close(self) -> None:
        """Take off what it has mounted, for instance the store on itself."""
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for path in reversed([path for path in mounted if Path(path).is_relative_to(self._store)]):
            subprocess.run(["umount", "--lazy", path], check=False)


@pytest.fixture(scope="module")
def base(registry_host: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with this machine's Python and pip."""
    layer = tmp_path_factory.mktemp("base") / "base.tar.gz"
    try:
        write_base_layer(layer)
    except NoBaseError as error:
        pytest.skip(f"this machine's Python is no base: {error}")
    return push_base(registry_host, "agree/base", layer)


@pytest.fixture(scope="module")
def buildah(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """The first way in which it runs something in `base` here."""
    folder = tmp_path_factory.mktemp("buildah")
    for driver in _DRIVERS:
        for isolation in _ISOLATIONS:
            found = Buildah(folder / f"{driver}-{isolation}", driver, isolation)
            try:
                with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                    name = found.run("from", "--tls-verify=false", base)
                    found.run("run", name, "--", "python3", "-c", "print(1)")
                    found.run("rm", name)
                    yield found
                    return
            finally:
                found.close()
    pytest.skip("`buildah` cannot run containers here")


@pytest.fixture
def image(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Packages, files and all settings."""
    make_wheel(tmp_path / "wheels", "flaskish")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/pkg").mkdir(parents=True)
    (tmp_path / "src/pkg/app.py").write_text("print('app')\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    return (
        Image.base(base)
        .pip_install(["flaskish"])
        .add_local_dir(tmp_path / "src", "/srv/app", strategy="copy")
        .add_local_file(tmp_path / "run.sh", "/opt/run", mode=0o750, strategy="copy")
        .env({"GREETING": 'a "b" $HOME \\ c', "LANG": "C"})
        .workdir("/srv/app")
        .entrypoint(["python3", "-c", "print(1)"])
        .cmd(["x y"])
    )


def _root_of(buildah: Buildah, reference: str) -> Path:
    return Path(buildah.run("mount", buildah.run("from", "--tls-verify=false", reference)))


_TRACES = ("INSTALLER", "REQUESTED", "direct_url.json")  # of who installed, and how


def _files(root: Path) -> dict[str, tuple[int, str, bytes]]:
    """Mode, target and content by path, without byte code, which pip adds."""
    found = {}
    for path in sorted(root.rglob("*")):
        if "__pycache__" in path.parts or path.name in _TRACES:
            continue
        target = str(path.readlink()) if path.is_symlink() else ""
        content = path.read_bytes() if path.is_file() and not target else b""
        if path.name == "flaskish-run":
            content = b""  # the same command in the words of uv and of pip; that it runs is another test
        elif path.name == "RECORD":
            content = _recorded(content.decode())
        found[path.relative_to(root).as_posix()] = (path.lstat().st_mode, target, content)
    return found


def _recorded(text: str) -> bytes:
    names = {row.partition(",")[0] for row in text.splitlines()}
    kept = [name for name in names if "__pycache__" not in name and not name.endswith(_TRACES)]
    return "\n".join(sorted(kept)).encode()


def _settings(host: str, repository: str, reference: str) -> dict[str, Any]:
    with Registry(host) as registry:
        digest = registry.manifest(repository, reference).body["config"]["digest"]
        whole = json.loads(registry.read_blob(repository, digest, limit=1 << 20))
    found: dict[str, Any] = whole["config"]
    found["Env"].sort()  # `buildah` puts a variable that it changes last
    found.pop("Labels", None)  # its version
    return found


def test_an_engine_runs_what_was_built_without_one(build: Build, buildah: Buildah, image: Image) -> None:
    built = build(image, "agree/run", platforms=[f"linux/{architecture()}"])
    name = buildah.run("from", "--tls-verify=false", built.reference)
    said = buildah.run("run", name, "--", "python3", "-c", "import flaskish; print(flaskish.__file__)")
    assert said == f"/{LIBRARY}/site-packages/flaskish/__init__.py"
    assert buildah.run("run", name, "--", "flaskish-run") == "tiny"
    assert buildah.run("run", name, "--", "python3", "pkg/app.py") == "app"
    assert buildah.run("run", name, "--", "sh", "-c", "echo $GREETING") == 'a "b" $HOME \\ c'


def test_an_engine_makes_the_same_of_the_dockerfile(
    build: Build, buildah: Buildah, image: Image, registry_host: str, tmp_path: Path
) -> None:
    ours = build(image, "agree/ours", platforms=[f"linux/{architecture()}"])
    (tmp_path / "Dockerfile").write_text(image.dockerfile())
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    theirs = f"{registry_host}/agree/theirs:1"
    buildah.run("bud", "--tls-verify=false", "--volume", f"{tmp_path}/pip.conf:/etc/pip.conf:ro", "--volume",
                f"{tmp_path}/wheels:/wheels:ro", "--tag", theirs, str(tmp_path))  # fmt: skip
    buildah.run("push", "--tls-verify=false", theirs, f"docker://{theirs}")

    assert _settings(registry_host, "agree/ours", ours.digest) == _settings(
        registry_host, "agree/theirs", "1"
    )
    made = _files(_root_of(buildah, theirs))
    for place in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/pip.conf", "wheels"):
        assert made.pop(place)[2] == b""  # `buildah` leaves the places of what a step has mounted
    assert _files(_root_of(buildah, ours.reference)) == made
