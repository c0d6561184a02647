"""The real command line over a client that keeps its groups in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from chalk_cli.context import CliContext
from chalk_cli.main import cli
from tests.cli.memory_client import MemoryClient

Invoke = Callable[..., Result]


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient()


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    """`-v` turns the SDK's logging up for the whole process, as it should; here that is one test."""
    logger = logging.getLogger("chalkcompute")
    level, handlers = logger.level, logging.root.handlers[:]
    yield
    logger.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.fixture
def invoke(
    client: MemoryClient, tmp_path: object, monkeypatch: pytest.MonkeyPatch, _logging_restored: None
) -> Invoke:
    """Run `chalk ARGS`; `code` is the exit code it must have."""
    monkeypatch.chdir(str(tmp_path))

    def run(*args: str, code: int = 0, env: dict[str, str] | None = None) -> Result:
        environ = {"CI": "1", **(env or {})}
        context = CliContext(client.connect, environ, clock=lambda: 0.0)
        result = CliRunner(env=environ).invoke(cli, list(args), obj=context)
        said = f"$ chalk {' '.join(args)}\n[exit {result.exit_code}]\n{result.stdout}\n---\n{result.stderr}"
        assert result.exit_code == code, said
        assert "Traceback" not in result.output
        return result

    return run
