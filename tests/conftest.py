"""What every test gets: a hermetic environment, golden files, and the options of the suite."""

from __future__ import annotations

import os
import secrets
import signal
import sys
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
    parser.addoption(
        "--registry",
        metavar="HOST/PATH",
        help="where tests/e2e pushes images for the cluster to pull; without it, on a real cluster nothing "
        "that has to be built is tested",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a name that its workers inherit; `kill` ends it as Ctrl-C does, with the cleaning up."""
    # Children inherit what is ignored, as under nohup or behind `&` in a script, and some are sent these.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if hasattr(config, "workerinput"):
        return
    os.environ["CHALK_E2E_RUN"] = secrets.token_hex(5)
    if config.getoption("--real-cluster"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave no namespace behind on a cluster that is not ours, also when workers were cut off."""
    real = session.config.getoption("--real-cluster")
    if not real or hasattr(session.config, "workerinput"):
        return
    from tests.e2e.harness import Kubernetes

    try:
        Kubernetes(Path(real)).remove_namespaces_of_this_run()
    except Exception as error:  # whatever it is, the outcome of the tests is what matters
        sys.stderr.write(f"namespaces of this run may be left on the cluster: {error}\n")


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
