"""Kinds of values on the command line."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    TextType = click.ParamType[str]
    SecondsType = click.ParamType[float]
    WholeType = click.ParamType[int]
else:  # generic since click 8.2; older ones cannot be subscripted
    TextType = SecondsType = WholeType = click.ParamType

__all__ = ["Duration", "Lines", "Percent", "TableFormat", "WholeNumber", "WholeSeconds"]


class Lines(TextType):
    """Text; several in one environment variable are separated by newlines, since values have spaces."""

    name = "text"
    envvar_list_splitter = "\n"


class TableFormat(TextType):
    """A format name of tabulate, which is imported only when one is given."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name that tabulate does not know."""
        from tabulate import tabulate_formats

        if value not in tabulate_formats:
            self.fail(f"`{value}` is not one of {', '.join(sorted(tabulate_formats))}", param, ctx)
        return str(value)


class Duration(SecondsType):
    """Seconds, or a number with a unit: `90`, `90s`, `5m`, `1h`.

    Args:
        least: Seconds that there must be.
        most: Seconds that there may be.
    """

    name = "seconds"
    units: ClassVar = {"": 1, "s": 1, "m": 60, "h": 3600}

    def __init__(self, least: float = 0.0, most: float = math.inf) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds as a float."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)([smh]?)", str(value), re.ASCII)
        if match is None:
            self.fail(f"`{value}` is not a duration; write seconds, or `90s`, `5m`, `1h`", param, ctx)
        seconds = float(match[1]) * self.units[match[2]]
        if not self._least <= seconds <= self._most:
            self.fail(f"must be {self._least:g} to {self._most:g} seconds, not `{value}`", param, ctx)
        return seconds


class WholeNumber(WholeType):
    """A whole number; the spec says which there may be."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error."""
        text = str(value).strip()
        if not re.fullmatch(r"[-+]?\d{1,20}", text, re.ASCII):
            self.fail(f"`{value}` is not a whole number", param, ctx)
        return int(text)


class Percent(WholeNumber):
    """Percent as a whole number, with or without the sign: `70`, `70%`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a fraction is taken for the mistake that it is."""
        text = str(value).strip()
        if re.fullmatch(r"0?\.\d{1,4}", text, re.ASCII):
            meant = round(float(text) * 100)
            self.fail(f"`{value}` is not a whole number; write percent: `{meant}`", param, ctx)
        return super().convert(text.removesuffix("%"), param, ctx)


class WholeSeconds(WholeType):
    """As a `Duration`, for what Kubernetes counts in whole seconds; the spec says how many there may be."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds as an int, below zero too: the spec refuses those with the range that it takes."""
        text = str(value)
        seconds = Duration().convert(text.removeprefix("-"), param, ctx)
        if not seconds.is_integer():
            self.fail(f"`{value}` is not a whole number of seconds", param, ctx)
        return -int(seconds) if text.startswith("-") else int(seconds)
