"""`chalk scaling-group get`."""

from __future__ import annotations

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import (
    OUTPUT_FORMATS,
    id_option,
    name_argument,
    name_or_id,
    output_options,
    verb_options,
)

__all__ = ["get_command"]


@click.command("get")
@name_argument
@id_option
@output_options(*OUTPUT_FORMATS)
@verb_options
@pass_cli
def get_command(
    cli: CliContext,
    /,
    *,
    name_positional: str | None,
    name: str | None,
    id: str | None,  # noqa: A002 - so that its environment variable ends in _ID
    output: str,
    table_format: str | None,
) -> None:
    """Show one scaling group: spec, replicas, tags, Web URL, and why it is not available if it is not."""
    name, group_id = name_or_id(name_positional, name, id)
    group = cli.client().get_scaling_group(name, id=group_id)

    from chalk_cli.commands.scaling_group.present import write_group

    write_group(group, output, table_format)
