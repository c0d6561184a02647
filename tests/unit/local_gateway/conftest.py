"""The store that controllers of the gateway are tried over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ResourceApi]:
    store = Store(tmp_path / "store.db")
    yield ResourceApi(store)
    store.close()
