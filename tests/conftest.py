"""What every test gets: a hermetic environment, golden files, and the options of the suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
E2E = Path(__file__).parent / "e2e"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what is produced"
    )
    parser.addoption(
        "--real-cluster",
        metavar="KUBECONFIG",
        help="run tests/e2e against this cluster instead of the embedded one",
    )


@pytest.fixture(autouse=True)
def _hermetic(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cluster, the settings or the home folder of whoever runs it.

    The end-to-end suite has a home of its own for the whole session (`tests/e2e/conftest.py`).
    """
    if E2E in request.node.path.parents:
        return
    for variable in os.environ:
        if variable.startswith(("CHALK_", "KUBE")):
            monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")


Golden = Callable[[str, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden("cli/list.txt", text)`: the text is what the reviewed file says."""

    def compare(path: str, text: str) -> None:
        file = GOLDEN / path
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"no golden file {file}; run pytest with --update-golden and review it"
        assert text == file.read_text(encoding="utf-8")

    return compare
