"""Builds pushed to the registry of a local cluster, which passes through to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalkcompute.errors import ImageBuildError
from chalkcompute.image import Image
from tests.unit.build.conftest import Build, fake_buildah, make_wheel, pull, push_base
from tests.unit.local_images.conftest import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "images")
    yield made
    made.close()


def test_a_base_elsewhere_comes_through_the_cluster(cluster: Cluster, build: Build, other_host: str) -> None:
    base = push_base(other_host, "through/base")
    said: list[str] = []
    built = build(
        Image.base(base).pip_install(["tiny"]), "default/app", host=cluster.host, on_progress=said.append
    )
    assert len(pull(cluster.host, "default/app", built.digest).layers) == 2
    assert not any("base layer" in text for text in said)  # mounted there
    assert built.warnings == ()
    assert cluster.upstreams


def test_the_host_base_says_so(cluster: Cluster, build: Build, tmp_path: Path) -> None:
    engine = {"PATH": fake_buildah(tmp_path / "tools", "")}
    built = build(Image.debian_slim("3.12").pip_install(["tiny"]), "default/app", host=cluster.host)
    assert built.is_new
    assert any("python:3.12-slim-trixie" in text for text in built.warnings)
    config = pull(cluster.host, "default/app", built.digest).config["config"]
    assert "chalk.ai/host-base" in config["Labels"]
    with pytest.raises(ImageBuildError, match=r"`run_commands\('true'\)` cannot run: .* stands in for it"):
        build(
            Image.debian_slim("3.12").run_commands("true"), "default/app", host=cluster.host, environ=engine
        )


def test_the_host_base_compiles_nothing(
    cluster: Cluster, build: Build, tmp_path: Path, wheels: Path, environ: dict[str, str]
) -> None:
    make_wheel(wheels, "mine", tag="cp312-cp312-macosx_11_0_arm64")
    changed = environ | {"PATH": fake_buildah(tmp_path / "tools", "")}
    said = r"could not build it either: `pip_install\(\['mine'\]\)` cannot run: .* stands in for it"
    with pytest.raises(ImageBuildError, match=said):
        build(
            Image.debian_slim("3.12").pip_install(["mine"]), "default/app", host=cluster.host, environ=changed
        )
