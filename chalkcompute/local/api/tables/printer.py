"""Objects as a `meta.k8s.io/v1` Table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from chalkcompute.local.api.encoding import metadata_only
from chalkcompute.local.api.tables import core, keda, networking, pods, workloads
from chalkcompute.local.api.tables.columns import Columns, age, column, name
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.ports import Manifest

__all__ = ["TablePrinter"]

_PLAIN = Columns((column("Name"), column("Age")), lambda obj, now: (name(obj), age(obj, now)))
_COLUMNS: dict[str, Columns] = {
    **core.COLUMNS,
    **keda.COLUMNS,
    **networking.COLUMNS,
    **pods.COLUMNS,
    **workloads.COLUMNS,
}


class TablePrinter:
    """Prints objects of one kind.

    Args:
        kind: Their kind.
        now: The clock that ages are counted to.
        include: What a row carries beside its cells: `Metadata`, `Object` or `None` (the
            `includeObject` parameter).
    """

    def __init__(self, kind: Kind, now: Callable[[], datetime], *, include: str = "Metadata") -> None:
        self._columns = _COLUMNS.get(kind.kind, _PLAIN)
        self._now = now
        self._include = include
        self._headed = False

    def table(self, items: list[Manifest], revision: str) -> Manifest:
        """A Table of these objects."""
        return {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": revision},
            "columnDefinitions": list(self._columns.definitions),
            "rows": [self._row(obj) for obj in items],
        }

    def event(self, obj: Manifest) -> Manifest:
        """The Table in a watch event; only the first says what its columns are."""
        table = self.table([obj], obj["metadata"].get("resourceVersion", ""))
        if self._headed:
            table["columnDefinitions"] = []
        self._headed = True
        return table

    def bookmark(self, metadata: dict[str, Any]) -> Manifest:
        """The Table in a BOOKMARK event: no rows."""
        return {**self.table([], metadata["resourceVersion"]), "columnDefinitions": [], "metadata": metadata}

    def _row(self, obj: Manifest) -> dict[str, Any]:
        row: dict[str, Any] = {"cells": list(self._columns.cells(obj, self._now()))}
        if self._include == "Object":
            row["object"] = obj
        elif self._include != "None":
            row["object"] = metadata_only(obj)
        return row
