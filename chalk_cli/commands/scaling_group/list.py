"""`chalk scaling-group list`."""

from __future__ import annotations

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import OUTPUT_FORMATS, output_options, verb_options
from chalk_cli.params import Lines

__all__ = ["list_command"]


@click.command("list")
@click.option("--all", is_flag=True, help="Deleted groups too.")
@click.option(
    "-l",
    "--selector",
    type=Lines(),
    multiple=True,
    metavar="K=V,...",
    help="Only groups with these tags.  [repeatable]",
)
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Keep the table current until Ctrl-C; not on a terminal, a row whenever a group changes.",
)
@output_options(*OUTPUT_FORMATS)
@verb_options
@pass_cli
def list_command(
    cli: CliContext,
    /,
    *,
    all: bool,  # noqa: A002 - so that its environment variable ends in _ALL
    selector: tuple[str, ...],
    watch: bool,
    output: str,
    table_format: str | None,
) -> None:
    """List the scaling groups of the environment.

    With --watch, go on and tell what changes; with `-o json` one object for each change.
    """
    tags: dict[str, str] = {}
    if selector:
        from chalkcompute.errors import SpecError
        from chalkcompute.spec.parse import parse_tags

        try:
            for text in selector:
                tags |= parse_tags(text)
        except SpecError as error:
            raise click.BadParameter(error.message, param_hint="--selector") from error
    if watch:
        from chalk_cli.watching import watch_groups

        watch_groups(cli, cli.client(), include_deleted=all, tags=tags or None, output=output)
        return
    response = cli.client().list_scaling_groups(include_deleted=all, tags=tags or None)
    groups = response.scaling_groups

    from chalk_cli.output import write_json, write_lines, write_rows, write_yaml
    from chalk_cli.views import list_table

    if output == "json":
        write_json(response.to_dict())
    elif output == "yaml":
        write_yaml([response.to_dict()])
    elif output == "name":
        write_lines(group.name for group in groups)
    elif output == "url":
        write_lines(group.web_url for group in groups if group.web_url)
    elif groups:
        headers, rows = list_table(groups, wide=output == "wide")
        write_rows(headers, rows, table_format)
    elif tags:
        cli.talk("no scaling group here has these tags")
    else:
        cli.talk("no scaling groups here; `chalk scaling-group create --help` says how to make one")
