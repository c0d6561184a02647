"""Which columns of a table have room on a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["GAP", "fitting_columns"]

GAP = 2
"""Blanks between two columns."""


def fitting_columns(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    dispensable: Sequence[str],
    *,
    shortened: Mapping[str, int] | None = None,
) -> list[int]:
    """Which columns have room, by index.

    Args:
        headers: Headers of all columns.
        rows: Their cells.
        width: Columns of the terminal.
        dispensable: Headers of those that can be done without, the first to go first.
        shortened: How much of a column has to stay, where its cells may be cut.
    """
    most = shortened or {}
    widths = [max(map(cell_len, cells)) for cells in zip(headers, *rows, strict=True)]
    widths = [min(found, most.get(header, found)) for header, found in zip(headers, widths, strict=True)]

    def fit(indices: Sequence[int]) -> bool:
        return sum(widths[index] + GAP for index in indices) - GAP <= width

    kept = list(range(len(headers)))
    gone: list[int] = []
    for header in dispensable:
        if fit(kept):
            break
        gone += [index for index in kept if headers[index] == header]
        kept = [index for index in kept if index not in gone]
    for index in reversed(gone):  # beside one that took much room went some that need little
        if fit([*kept, index]):
            kept.append(index)
    return sorted(kept)
