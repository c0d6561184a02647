"""What a build says of bytes, and of another build that it waits for."""

from __future__ import annotations

import threading
from pathlib import Path

from chalkcompute.build.progress import Meter
from chalkcompute.build.transfer import locked


def test_one_text_a_second_and_one_at_the_end() -> None:
    said: list[str] = []
    times = iter([0.0, 0.5, 0.9, 1.1, 1.2, 1.3])
    meter = Meter("pushing layer", 6_000_000, said.append, clock=lambda: next(times))
    for _ in range(6):
        meter(1_000_000)
    assert said == ["pushing layer 1.0/6.0 MB", "pushing layer 4.0/6.0 MB", "pushing layer 6.0/6.0 MB"]


def test_what_is_small_is_not_nothing() -> None:
    said: list[str] = []
    Meter("pushing layer", 1, said.append)(1)
    Meter("pushing layer", 99_999, said.append)(99_999)
    assert said == ["pushing layer 1/1 kB", "pushing layer 100/100 kB"]


def test_who_waits_for_another_build_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    waits, path = threading.Event(), tmp_path / "layers/a.tar.gz"

    def second() -> None:
        def say(text: str) -> None:
            said.append(text)
            waits.set()

        with locked(path, say):
            said.append("mine")

    with locked(path, said.append):
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(20)
    other.join(20)
    assert said == ["waiting for another build that makes the same layer", "mine"]
