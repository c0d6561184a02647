from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.ports import ImagePullError
from chalkcompute.local.runtime.hostbase import HostBase
from chalkcompute.local.runtime.images import PythonRequest, parse_reference, python_request
from tests.properties import examples


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("library/python:3.12", "docker.io/library/python:3.12"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3"),
        ("localhost/none:1", "localhost/none:1"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("ghcr.io/org/app:v1@sha256:" + "a" * 64, "ghcr.io/org/app:v1@sha256:" + "a" * 64),
        ("nginx@sha256:" + "b" * 64, "docker.io/library/nginx@sha256:" + "b" * 64),
        ("org/app__x-y.z:T_1", "docker.io/org/app__x-y.z:T_1"),
    ],
)
def test_references_in_full(image: str, full: str) -> None:
    assert str(parse_reference(image)) == full


@pytest.mark.parametrize(
    "image", ["", "Not A Name", "a b", "python:", "a:b:c", "-a", "x/../y", "app@sha256:12", "http://x/y"]
)
def test_names_that_are_none(image: str) -> None:
    with pytest.raises(ImagePullError, match="invalid reference format") as caught:
        parse_reference(image)
    assert caught.value.reason == "InvalidImageName"


def test_the_kubelets_words_for_a_name_in_capitals() -> None:
    with pytest.raises(ImagePullError) as caught:
        parse_reference("Not A Name")
    assert str(caught.value) == (
        'Failed to apply default image tag "Not A Name": couldn\'t parse image name "Not A Name": '
        "invalid reference format: repository name (library/Not A Name) must be lowercase"
    )


@examples(100)
@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(image: str) -> None:
    try:
        full = str(parse_reference(image))
    except ImagePullError:
        return
    assert str(parse_reference(full)) == full


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("python", PythonRequest(None, None, None)),
        ("python:slim", PythonRequest(None, None, None)),
        ("python:3", PythonRequest(3, None, None)),
        ("python:3.12", PythonRequest(3, 12, None)),
        ("python:3.12.1-slim-bookworm", PythonRequest(3, 12, 1)),
        ("docker.io/library/python:3.13-alpine3.20", PythonRequest(3, 13, None)),
        ("python:3.15.0a1", PythonRequest(3, 15, 0)),
        ("python:nope", None),
        ("python:3.12-nope", None),
        ("mirror.example.com/library/python:3.12", None),
        ("someone/python:3.12", None),
        ("nginx", None),
    ],
)
def test_which_python_an_image_holds(image: str, wanted: PythonRequest | None) -> None:
    assert python_request(parse_reference(image)) == wanted


def fake_python(path: Path, version: str, *, prefix: Path | None = None) -> Path:
    """An executable that answers as a Python of some version would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = prefix or path.parent.parent
    path.write_text(f'#!/bin/sh\necho \'["{version}", "{path}", "{base}", "cpython"]\'\n')
    path.chmod(0o755)
    return path


def resolve(base: HostBase, image: str) -> tuple[str, str]:
    interpreter, warning = asyncio.run(base.resolve(parse_reference(image), image))
    return interpreter.version, warning


@pytest.fixture
def host(tmp_path: Path) -> HostBase:
    own = fake_python(tmp_path / "own/bin/python", "3.13.2")
    fake_python(tmp_path / "home/.pyenv/versions/3.9.1/bin/python3.9", "3.9.1")
    fake_python(tmp_path / "home/.pyenv/versions/3.9.7/bin/python3.9", "3.9.7")
    fake_python(tmp_path / "home/.local/share/uv/python/cpython-3.8.4-x/bin/python3.8", "3.8.4")
    fake_python(tmp_path / "path/python3.8", "3.8.9")
    fake_python(tmp_path / "shims/python3.7", "3.7.0")
    search = f"{tmp_path / 'shims'}:{tmp_path / 'absent'}::{tmp_path / 'path'}"
    return HostBase(search_path=search, home=tmp_path / "home", own=own)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("python:3.13", "3.13.2"),
        ("python:3", "3.13.2"),
        ("python", "3.13.2"),
        ("python:3.9", "3.9.7"),
        ("python:3.9.1", "3.9.1"),
        ("python:3.8-slim", "3.8.9"),
        ("python:3.8.4", "3.8.4"),
    ],
)
def test_the_best_interpreter_is_chosen(host: HostBase, image: str, version: str) -> None:
    found, warning = resolve(host, image)
    assert found == version
    assert image in warning
    assert version in warning


def test_a_version_that_is_absent_is_replaced_loudly(host: HostBase) -> None:
    version, warning = resolve(host, "python:3.7")  # only a version manager's shim claims it
    assert version == "3.13.2"
    assert "asks for Python 3.7, which this machine does not have: Python 3.13.2" in warning


@pytest.mark.parametrize("image", ["python:2.7", "python:nope", "nginx:1", "localhost/none:1"])
def test_what_cannot_be_stood_in_for(host: HostBase, image: str) -> None:
    with pytest.raises(ImagePullError, match="failed to pull and unpack image") as caught:
        resolve(host, image)
    assert caught.value.reason == "ErrImagePull"


def test_the_virtual_environment_is_left_behind() -> None:
    base = HostBase(search_path="", home=Path("/nonexistent"), own=Path(sys.executable))
    interpreter, _ = asyncio.run(base.resolve(parse_reference("python"), "python"))
    assert interpreter.prefix == Path(sys.base_prefix).resolve()
    assert interpreter.image_id().startswith("sha256:")


def test_interpreters_beside_our_own_are_found(tmp_path: Path) -> None:
    """A version manager elsewhere than in the home folder: its versions stand side by side."""
    versions = tmp_path / "manager/versions"
    own = fake_python(versions / "3.11.9/bin/python3.11", "3.11.9")
    fake_python(versions / "3.12.4/bin/python3.12", "3.12.4")
    host = HostBase(search_path="", home=tmp_path / "home", own=own)
    assert resolve(host, "python:3.12")[0] == "3.12.4"
