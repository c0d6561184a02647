"""`--image=file.py:name`: what a Python file describes is what is deployed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chalkcompute import Image
from tests.cli.conftest import Invoke
from tests.cli.memory_client import MemoryClient

SERVICE = """
from pathlib import Path

from chalkcompute import Image
from parts import PACKAGES

image = Image.debian_slim("3.12").pip_install(PACKAGES)
plain = "python:3.12"

if __name__ == "__main__":
    raise SystemExit("not to be run")
"""


@pytest.fixture(autouse=True)
def service(tmp_path: Path) -> Path:
    folder = tmp_path / "svc"
    folder.mkdir()
    (folder / "parts.py").write_text("PACKAGES = ['flask']\n")
    (folder / "service.py").write_text(SERVICE)
    sys.modules.pop("parts", None)
    return folder / "service.py"


def test_the_image_of_a_file_is_deployed(invoke: Invoke, client: MemoryClient) -> None:
    before = list(sys.path)
    invoke("sg", "create", "--image=svc/service.py:image", "--name=web")
    assert client.images == [Image.debian_slim("3.12").pip_install(["flask"])]
    assert client.specs[0].image == "python:3.12-slim-trixie"
    assert sys.path == before


def test_what_the_file_prints_is_no_result(invoke: Invoke, client: MemoryClient, service: Path) -> None:
    service.write_text("print('from the file')\n" + SERVICE)
    result = invoke("sg", "create", "--image=svc/service.py:image", "--name=web", "-o", "name")
    assert (result.stdout, "from the file" in result.stderr) == ("web\n", True)


def test_manifests_take_it_too(invoke: Invoke, client: MemoryClient, service: Path) -> None:
    invoke("sg", "manifests", f"--image={service}:image", "--name=web")
    assert client.images == [Image.debian_slim("3.12").pip_install(["flask"])]


@pytest.mark.parametrize("change", ["os.chdir('/')", "sys.path.pop(0)"])
def test_the_file_may_go_elsewhere(
    invoke: Invoke, client: MemoryClient, service: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.chdir(service.parent.parent)  # to come back to
    before = list(sys.path)
    service.write_text(f"{SERVICE}\nimport os, sys\n{change}\n")
    invoke("sg", "create", "--image=svc/service.py:image", "--name=web")
    assert client.images == [Image.debian_slim("3.12").pip_install(["flask"])]
    assert sys.path == before


@pytest.mark.parametrize("reference", ["python:3.12", "registry/app.py:v1", "localhost:5000/a:b"])
def test_references_stay_references(invoke: Invoke, client: MemoryClient, reference: str) -> None:
    invoke("sg", "create", f"--image={reference}", "--name=web")
    assert (client.images, client.specs[0].image) == ([None], reference)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("svc/service.py:other", ["`svc/service.py` has no `other`", "there is `image`"]),
        ("svc/service.py:plain", ["`plain` of `svc/service.py` is no `Image` but str"]),
        ("./none.py:image", ["there is no file `none.py`"]),
        ("none.py:image", ["there is no file `none.py`"]),
        ("svc/service.py", ["which `Image` of `svc/service.py`? Write `--image=svc/service.py:NAME`"]),
        ("svc/broken.py:image", ["cannot be run: line 2: ZeroDivisionError"]),
        ("svc/syntax.py:image", ["cannot be run: line 1"]),
        ("svc/bad.py:image", ["Error: --image: `svc/bad.py` line 2: `pip_install` takes a list of texts"]),
        ("svc/exit.py:image", ["cannot be run: line 2: SystemExit: 0"]),
    ],
)
def test_what_is_wrong_is_said(
    invoke: Invoke, client: MemoryClient, service: Path, text: str, words: list[str]
) -> None:
    (service.parent / "broken.py").write_text("x = 0\ny = 1 / x\n")
    (service.parent / "syntax.py").write_text("def\n")
    (service.parent / "exit.py").write_text("import sys\nsys.exit(0)\n")
    (service.parent / "bad.py").write_text(
        "from chalkcompute import Image\nimage = Image.debian_slim().pip_install('flask')\n"
    )
    result = invoke("sg", "create", f"--image={text}", "--name=web", code=2)
    for word in words:
        assert word in result.stderr
    assert client.specs == []
