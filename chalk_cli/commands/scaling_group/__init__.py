"""`chalk scaling-group`: one module a verb."""

from __future__ import annotations

import click

from chalk_cli.lazy import LazyGroup

__all__ = ["scaling_group"]


@click.group(
    "scaling-group",
    cls=LazyGroup,
    lazy={
        verb: f"chalk_cli.commands.scaling_group.{verb}:{verb}_command"
        for verb in ("create", "list", "get", "top", "delete", "manifests")
    },
)
def scaling_group() -> None:
    """Create, list, watch, inspect and delete scaling groups (short: `chalk sg`)."""
