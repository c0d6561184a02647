"""`chalk scaling-group delete`."""

from __future__ import annotations

import dataclasses

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import (
    OUTPUT_FORMATS,
    id_option,
    name_argument,
    name_or_id,
    output_options,
    write_options,
)
from chalk_cli.params import Duration
from chalk_cli.progress import show_progress

__all__ = ["delete_command"]


@click.command("delete")
@name_argument
@id_option
@click.option(
    "--timeout",
    type=Duration(),
    default=120.0,
    help="How long to wait until nothing is left.  [default: 2m]",
)
@output_options(*OUTPUT_FORMATS, draws_tables=False)
@write_options
@pass_cli
def delete_command(
    cli: CliContext,
    /,
    *,
    name_positional: str | None,
    name: str | None,
    id: str | None,  # noqa: A002 - so that its environment variable ends in _ID
    timeout: float,
    output: str,
) -> None:
    """Delete a scaling group, wait until nothing is left of it, and say what was kept. Never prompts."""
    name, group_id = name_or_id(name_positional, name, id)
    client = cli.client()
    target = cli.announce(client)
    cli.interrupted = (
        "the cluster finishes a delete that has begun; run the same command again to see it through"
    )
    with show_progress(cli) as on_progress:
        result = client.delete_scaling_group(name, id=group_id, timeout=timeout, on_progress=on_progress)

    from chalk_cli.output import write_json, write_lines, write_yaml
    from chalk_cli.views import delete_lines

    data = {**result.to_dict(), "target": dataclasses.asdict(target)}
    if output == "json":
        write_json(data)
    elif output == "yaml":
        write_yaml([data])
    elif output == "name":
        write_lines([result.name])
    elif output == "url":
        cli.talk("\n".join(delete_lines(result)))  # what is deleted has no URL
    elif not cli.quiet:
        write_lines(delete_lines(result))
