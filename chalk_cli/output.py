"""Writing results to stdout: tables, JSON, YAML, names, URLs. Knows no command."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["write_json", "write_lines", "write_pairs", "write_rows", "write_yaml"]

# Text that PyYAML (YAML 1.1) prints bare, and the Go parser behind kubectl reads as a number or a boolean:
# `1e3`, `0o17`, `y`.
_AMBIGUOUS = re.compile(r"[-+.]?[0-9].*|[yYnN]", re.DOTALL)


def write_json(value: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_yaml(documents: Sequence[object]) -> None:
    """YAML that kubectl reads as meant; several documents are separated by `---`."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if _AMBIGUOUS.fullmatch(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    text = yaml.dump_all(
        documents,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=110,
        explicit_start=len(documents) > 1,
    )
    click.echo(text, nl=False)


def write_lines(lines: Iterable[str]) -> None:
    """One line each."""
    for line in lines:
        click.echo(line)


def write_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], table_format: str | None) -> None:
    """A table with headers."""
    from tabulate import tabulate

    click.echo(tabulate(rows, headers=headers, tablefmt=table_format or "simple", disable_numparse=True))


def write_pairs(pairs: Sequence[tuple[str, str]], table_format: str | None) -> None:
    """A table of label and value."""
    from tabulate import tabulate

    labelled = [(f"{label}:", value) for label, value in pairs]
    click.echo(tabulate(labelled, tablefmt=table_format or "plain", disable_numparse=True))
