"""The configuration of an image on a base that says little, or too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.build.base import BaseImage
from chalkcompute.build.compose import compose
from chalkcompute.build.layers import Layer
from chalkcompute.image import Image
from chalkcompute.registry import OCI_MANIFEST, Descriptor

_EMPTY = {"created_by": "ENV A=1", "empty_layer": True}
_LAYER = {"created_by": "COPY a /a"}


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        ([_LAYER, _EMPTY, _LAYER], [_LAYER, _EMPTY, _LAYER]),
        (None, []),
        ("no list", []),
        ([_EMPTY], [_EMPTY]),
        ([_LAYER], [_LAYER]),
        ([_LAYER] * 3, []),
    ],
)
def test_the_history_has_an_entry_for_each_layer(history: Any, kept: list[Any]) -> None:
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["a", "b"]}}
    if history is not None:
        config["history"] = history
    below = tuple(Descriptor("application/vnd.oci.image.layer.v1.tar", name, 1) for name in "ab")
    base = BaseImage("linux/amd64", "sha256:0", OCI_MANIFEST, b"", "", config, below)
    made = compose(base, [Layer(Path("x"), "c", 1, "c", "ours")], Image.base("a"), base_name="a")
    found = json.loads(made.config)["history"]
    # buildah: "internal error: history lists 2 non-empty layers, but we have 3 layers on disk".
    assert sum(not entry.get("empty_layer") for entry in found) == 3
    assert found[: len(kept)] == kept
    assert found[-1] == {"created_by": "ours"}


def test_a_variable_that_the_base_has_twice_is_ours_in_the_end() -> None:
    config = {"rootfs": {"diff_ids": []}, "config": {"Env": ["A=1", "B=1", "A=2", "B=2"]}}
    base = BaseImage("linux/amd64", "sha256:0", OCI_MANIFEST, b"", "", config, ())
    made = compose(base, [], Image.base("a").env({"A": "3"}), base_name="a")
    assert json.loads(made.config)["config"]["Env"] == ["A=3", "B=1", "B=2"]  # the last of a name wins
