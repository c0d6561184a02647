"""`chalk scaling-group create`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import OUTPUT_FORMATS, output_options, write_options
from chalk_cli.params import Duration
from chalk_cli.progress import show_progress
from chalk_cli.spec_options import DescribingCommand, build_secrets, build_spec, spec_options

__all__ = ["create_command"]


@click.command("create", cls=DescribingCommand)
@spec_options
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until every replica serves, or a verdict."
)
@click.option(
    "--timeout", type=Duration(), default=300.0, help="How long to wait: `90`, `5m`.  [default: 5m]"
)
@click.option("--no-update", is_flag=True, help="Refuse if a group of that name exists.")
@click.option("--dry-run", is_flag=True, help="Let the server check everything, and write nothing.")
@output_options(*OUTPUT_FORMATS)
@write_options
@pass_cli
@click.pass_context
def create_command(
    ctx: click.Context,
    cli: CliContext,
    /,
    *,
    wait: bool,
    timeout: float,
    no_update: bool,
    dry_run: bool,
    output: str,
    table_format: str | None = None,
    **flags: Any,
) -> None:
    """Create a scaling group, or update it to a new revision if the name exists.

    Success means that it serves: every replica of this revision is ready and the route is accepted.
    """
    spec, image = build_spec(ctx, flags)
    client = cli.client(gateway=flags["gateway"], gateway_domain=flags["gateway_domain"])
    content = client.read_secrets(build_secrets(flags))
    target = cli.announce(client)

    from chalk_cli.commands.scaling_group.present import write_group
    from chalk_cli.views import action_line

    if not dry_run:
        cli.interrupted = "the same command finishes what was begun; run it again"
    with show_progress(cli) as on_progress:
        result = client.create_scaling_group(
            spec,
            image=image,
            content=content,
            update=not no_update,
            dry_run=dry_run,
            wait_timeout=timeout if wait and not dry_run else None,
            on_progress=on_progress,
        )
    for warning in (*result.warnings, *result.info.warnings):
        cli.warn(warning)
    line = action_line(result, dry_run=dry_run)
    is_table = output in ("table", "wide")
    if not is_table:
        cli.talk(line)
    elif not cli.quiet:
        click.echo(line)
    if wait and not dry_run:
        cli.interrupted = (
            f"`{spec.name}` goes on by itself; look at it with `chalk scaling-group get {spec.name}`"
        )
        with show_progress(cli) as on_progress:
            info = client.wait_scaling_group(
                spec.name, timeout=timeout, on_progress=on_progress, deployed=result.info
            )
        result = dataclasses.replace(result, info=info)
        for warning in info.warnings:
            cli.warn(warning)
    if is_table and cli.quiet:
        return
    data = {**result.to_dict(), "dry_run": dry_run, "target": dataclasses.asdict(target)}
    write_group(result.info, output, table_format, data=data)
