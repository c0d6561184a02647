"""`Image`: what it says, and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.errors import SpecError
from chalkcompute.image import CopyFiles, Image, LocalDirectory, LocalFile, PipInstall


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("print('hi')\n")
    (tmp_path / "my app.py").write_text("")
    (tmp_path / "requirements.txt").write_text("flask\n")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "Dockerfile").write_text("FROM debian:13\nRUN true\n")
    return tmp_path


def test_the_quick_start(here: Path) -> None:
    image = (
        Image.debian_slim("3.12")
        .pip_install(["flask"])
        .add_local_file("./app.py", "/app/app.py")
        .entrypoint(["python", "/app/app.py"])
    )
    assert image.base_image == "python:3.12-slim-trixie"
    assert image.steps == (PipInstall(("flask",)),)
    assert image.files == (LocalFile(here / "app.py", "/app/app.py"),)
    assert image.command == ("python", "/app/app.py")
    assert image.needs_build
    assert image.dockerfile() == (
        "FROM python:3.12-slim-trixie\n"
        "RUN pip install --no-cache-dir flask\n"
        "COPY app.py /app/app.py\n"
        'ENTRYPOINT ["python", "/app/app.py"]\n'
    )


def test_equal_descriptions_are_equal(here: Path) -> None:
    def made() -> Image:
        return Image.base("a").env({"B": "2"}).env({"A": "1"}).add_local_dir("pkg", "/x", exclude=["*.log"])

    assert made() == made()
    assert hash(made()) == hash(made())
    assert made() == Image.base("a").add_local_dir("./pkg/", "/x/", exclude=["*.log"]).env(
        {"A": "1", "B": "2"}
    )
    assert made() != made().workdir("/x")
    assert pickle.loads(pickle.dumps(made())) == copy.deepcopy(made()) == made()
    assert made().environment == {"A": "1", "B": "2"}


def test_each_method_leaves_the_image_as_it_was(here: Path) -> None:
    image = Image.base("a")
    image.pip_install(["x"]).env({"A": "1"}).cmd([]).add_local_file("app.py", "/app.py")
    assert image == Image.base("a")
    assert not image.needs_build
    with pytest.raises(AttributeError):
        image.base_image = "b"  # type: ignore[misc]


def test_the_dockerfile_of_everything(here: Path) -> None:
    image = (
        Image.base("debian:13")
        .apt_install(["curl", "git=1:2.39"])
        .run_commands("echo one", "set -e\necho two")
        .pip_install(["numpy>=2,<3"])
        .pip_install_from_requirements("requirements.txt")
        .add_local_file("my app.py", "/app/", mode=0o755)
        .add_local_dir("pkg", "/app/pkg", strategy="copy")
        .env({"A": 'x "$B" \\'})
        .workdir("/app")
        .cmd(["a"])
    )
    assert image.dockerfile().splitlines() == [
        "FROM debian:13",
        "RUN apt-get update && apt-get install -y --no-install-recommends curl git=1:2.39 "
        "&& rm -rf /var/lib/apt/lists/*",
        "RUN echo one",
        'RUN ["/bin/sh", "-c", "set -e\\necho two"]',
        "RUN pip install --no-cache-dir 'numpy>=2,<3'",
        "COPY requirements.txt /tmp/requirements.txt",
        "RUN pip install --no-cache-dir -r /tmp/requirements.txt",
        "COPY pkg/ /app/pkg/",
        'COPY --chmod=0755 ["my app.py", "/app/my app.py"]',
        'ENV A="x \\"\\$B\\" \\\\"',
        "WORKDIR /app",
        'CMD ["a"]',
    ]
    assert CopyFiles(LocalDirectory(here / "pkg", "/app/pkg", strategy="copy")) in image.steps


@pytest.mark.parametrize("command", ["echo one \\", '["a", "b"]', "cat <<EOF", "echo a\rb"])
def test_a_command_reaches_the_shell_as_it_is(command: str) -> None:
    # A plain `RUN` would take the next instruction along, start no shell, or wait for a here-document.
    lines = Image.base("a").run_commands(command, "echo two").dockerfile().splitlines()
    assert lines == ["FROM a", "RUN " + json.dumps(["/bin/sh", "-c", command]), "RUN echo two"]


def test_what_a_dockerfile_cannot_say() -> None:
    image = Image.base("a").env({"KEY": "one\nTWO=2"}).workdir("/a/$B")
    assert image.dockerfile().splitlines()[1:] == [
        "# ENV KEY has a line break in it, which no Dockerfile can say",
        "WORKDIR /a/\\$B",
    ]


def test_from_a_dockerfile(here: Path) -> None:
    image = Image.from_dockerfile("Dockerfile").cmd(["x"])
    assert (image.base_image, image.needs_build) == ("", True)
    assert image.dockerfile() == 'FROM debian:13\nRUN true\nCMD ["x"]\n'
    (here / "Dockerfile").unlink()
    with pytest.raises(SpecError, match="cannot read the Dockerfile"):
        image.dockerfile()


def test_local_modules(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))
    image = Image.base("a").add_local_python_source("pkg", "app")
    assert image.files == (
        LocalDirectory(here / "pkg", "/app/pkg"),
        LocalFile(here / "app.py", "/app/app.py"),
    )
    assert image.environment == {"PYTHONPATH": "/app"}
    assert Image.base("a").env({"PYTHONPATH": "/b"}).add_local_python_source("pkg").environment == {
        "PYTHONPATH": "/b"
    }
    (here / "namespace").mkdir()
    for name, message in (
        ("pkg.part", "not the name of a top-level module"),
        ("nothing_like_it", "no module"),
        ("namespace", "a namespace package"),
        ("sys", "not a file of Python source"),
    ):
        with pytest.raises(SpecError, match=message):
            Image.base("a").add_local_python_source(name)


def test_no_value_of_a_variable_is_shown(here: Path) -> None:
    image = Image.base("a").env({"TOKEN": "canary"})
    assert "canary" not in repr(image)
    assert "TOKEN" in repr(image)
    with pytest.raises(SpecError) as caught:
        Image.base("a").env({"TOKEN": "canary\0"})
    assert "canary" not in str(caught.value)


class Secret:
    """Stands for the real one, which this layer does not know."""

    def __repr__(self) -> str:
        return "canary"


_B = Image.base("a")
_BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Image("python:3.12"), "not made by calling"),
    (lambda: Image.base(""), "is empty"),
    (lambda: Image.base("UPPER/case"), "image"),
    (lambda: Image.debian_slim(3.10), "must be text"),  # type: ignore[arg-type]
    (lambda: Image.debian_slim("2.7"), "no version of Python 3"),
    (lambda: Image.from_dockerfile("none"), "does not exist"),
    (lambda: Image.from_dockerfile("pkg"), "is not a file"),
    (lambda: _B.pip_install("flask"), "takes a list of texts, not str `flask`"),
    (lambda: _B.pip_install([]), "is empty"),
    (lambda: _B.pip_install([" "]), "item 1 of `pip_install` is empty"),
    (lambda: _B.pip_install(["-r"]), "is an option"),
    (lambda: _B.pip_install(["./pkg"]), "a path of this machine"),
    (lambda: _B.pip_install(["a @ file:///x"]), "a path of this machine"),
    (lambda: _B.pip_install(["a @ ./a-1-py3-none-any.whl"]), "a path of this machine"),
    (lambda: _B.pip_install(["wheels/a-1-py3-none-any.whl"]), "a path of this machine"),
    (lambda: _B.pip_install(["a\nb"]), "line break"),
    (lambda: _B.pip_install(["a\0"]), "NUL"),
    (lambda: _B.pip_install([Secret()]), "must be text"),  # type: ignore[list-item]
    (lambda: _B.pip_install_from_requirements("none.txt"), "does not exist"),
    (lambda: _B.apt_install("curl"), "takes a list"),
    (lambda: _B.apt_install(["-y"]), "cannot be a Debian package"),
    (_B.run_commands, "is empty"),
    (lambda: _B.run_commands(["a"]), "one by one"),  # type: ignore[arg-type]
    (lambda: _B.add_local_file("none", "/a"), "does not exist"),
    (lambda: _B.add_local_file("pkg", "/a"), "is a directory"),
    (lambda: _B.add_local_file("app.py", "a"), "not absolute"),
    (lambda: _B.add_local_file("app.py", "/"), "nothing can be mounted at `/`"),
    (lambda: _B.add_local_file("app.py", "/a/../b"), r"has `\.\.` in it"),
    (lambda: _B.add_local_file("app.py", "/a\0"), "NUL"),
    (lambda: _B.add_local_file("app.py", "/a", mode=0o1777), "is made of permission bits"),
    (lambda: _B.add_local_file("app.py", "/a", mode=755), "is made of permission bits"),
    (lambda: _B.add_local_file("app.py", "/proc/a"), "`/proc` is the kernel's"),
    (lambda: _B.add_local_file("app.py", "/a", strategy="bake"), "`strategy` is"),  # type: ignore[arg-type]
    (lambda: _B.add_local_dir("app.py", "/a"), "is not a directory"),
    (lambda: _B.add_local_dir("pkg", "/a", exclude="*.log"), "takes a list of texts"),
    (lambda: _B.add_local_dir("pkg", "/"), "nothing can be mounted"),
    (lambda: _B.add_local_file("app.py", "/a").add_local_dir("pkg", "/a/"), "would both be at `/a`"),
    (lambda: _B.add_local_file("app.py", "/a").add_local_file("app.py", "/a/b"), "below the file `/a`"),
    (lambda: _B.env({"1A": "x"}), "cannot be the name"),
    (lambda: _B.env({"A": 1}), "must be text, not int"),  # type: ignore[dict-item]
    (lambda: _B.env({"A": Secret()}), "must be text, not Secret"),  # type: ignore[dict-item]
    (lambda: _B.env([]), "takes a mapping"),  # type: ignore[arg-type]
    (lambda: _B.workdir("app"), "not absolute"),
    (lambda: _B.entrypoint("python app.py"), "takes a list"),
    (lambda: _B.entrypoint([]), "is empty"),
    (lambda: _B.cmd("a"), "takes a list"),
]


@pytest.mark.parametrize(("call", "message"), _BAD, ids=[message for _, message in _BAD])
def test_what_cannot_be(here: Path, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        call()
    assert caught.value.field == "image"
    assert "canary" not in str(caught.value)


def test_below_a_directory_is_allowed(here: Path) -> None:
    image = _B.add_local_dir("pkg", "/app").add_local_file("app.py", "/app/app.py")
    assert len(image.files) == 2
