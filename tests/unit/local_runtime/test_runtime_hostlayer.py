"""The layer for an interpreter of this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalkcompute.local.runtime.hostbase import Interpreter
from chalkcompute.local.runtime.hostlayer import make_host_layer


@dataclass(frozen=True)
class Interrupted(Interpreter):
    """Something else happens while its layer is being made."""

    meanwhile: Callable[[], object] = lambda: None

    def programs(self) -> dict[str, Path]:
        self.meanwhile()
        return Interpreter.programs(self)


def interrupted(meanwhile: Callable[[], object]) -> Interrupted:
    return Interrupted(Path(sys.executable).resolve(), Path(sys.base_prefix), "3.12.1", meanwhile)


def test_two_pulls_at_once_make_one_layer(tmp_path: Path) -> None:
    """Both replicas of a group may find that there is none yet."""
    layers = tmp_path / "layers"
    plain = Interpreter(Path(sys.executable).resolve(), Path(sys.base_prefix), "3.12.1")
    made = make_host_layer(layers, interrupted(lambda: make_host_layer(layers, plain)))
    assert made == make_host_layer(layers, plain)
    assert list(layers.iterdir()) == [made]


def test_a_folder_that_cannot_be_is_still_an_error(tmp_path: Path) -> None:
    gone = tmp_path / "layers"

    def spoil() -> None:
        gone.rename(tmp_path / "elsewhere")
        gone.write_text("a file")

    with pytest.raises(OSError, match="layers"):
        make_host_layer(gone, interrupted(spoil))
