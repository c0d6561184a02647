"""Whether whoever holds a lease is still there: told only of processes that we can see."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chalkcompute.service import scope
from chalkcompute.service.scope import World


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def holder(pid: int) -> str:
    """A holder as we are one, but for the process."""
    return World().holder().replace(f":{os.getpid()}", f":{pid}")


def test_we_ourselves_are_there() -> None:
    assert World().is_gone(World().holder()) is False
    assert World().is_gone(holder(os.getppid())) is False


def test_a_process_of_this_machine_that_has_ended_is_gone() -> None:
    assert World().is_gone(holder(ended())) is True


@pytest.mark.parametrize(
    "other", ["root@elsewhere:{}", "root@elsewhere:{}/0badcafe", "nonsense", "", "a@b:c/d"]
)
def test_of_another_machine_nothing_is_known(other: str) -> None:
    assert World().is_gone(other.format(ended())) is False


def test_a_container_with_our_host_name_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = holder(ended())
    monkeypatch.setattr(scope, "_pid_realm", lambda: "/0badcafe")
    assert World().is_gone(theirs) is False
    monkeypatch.setattr(scope, "_pid_realm", lambda: "")
    assert World().is_gone(theirs) is False
