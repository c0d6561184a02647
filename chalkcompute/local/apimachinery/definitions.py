"""The schema data as written by `scripts/make_schemas.py`."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

__all__ = ["definitions"]


@functools.cache
def definitions(name: str) -> dict[str, Any]:
    """`kubernetes` (types and kinds, references by short name) or `custom` (kinds). Do not change them."""
    text = resources.files(__package__).joinpath("schemas", f"{name}.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
