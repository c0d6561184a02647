"""`chalk scaling-group manifests`."""

from __future__ import annotations

from typing import Any

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import output_options, verb_options
from chalk_cli.spec_options import DescribingCommand, build_secrets, build_spec, spec_options
from chalkcompute.errors import ConnectionConfigError, UnreachableError

__all__ = ["manifests_command"]

_OFFLINE = "give `--gateway`, `--gateway-domain` and `--environment`: then no cluster is asked"


@click.command("manifests", cls=DescribingCommand)
@spec_options
@output_options("yaml", "json", draws_tables=False)
@verb_options
@pass_cli
@click.pass_context
def manifests_command(ctx: click.Context, cli: CliContext, /, *, output: str, **flags: Any) -> None:
    """Print the objects that the same flags to `create` would apply.

    With --gateway, --gateway-domain and --environment no cluster is asked. The output is for
    `kubectl apply -f -`; objects made that way have no record, so `list` does not show them.
    """
    spec, image = build_spec(ctx, flags)
    client = cli.client(gateway=flags["gateway"], gateway_domain=flags["gateway_domain"])
    content = client.read_secrets(build_secrets(flags), names_only=True)
    try:
        objects = client.render_manifests(spec, image=image, content=content)
    except (ConnectionConfigError, UnreachableError) as error:
        error.hint = _OFFLINE if error.hint is None else f"{error.hint}; or {_OFFLINE}"
        raise

    from chalk_cli.output import write_json, write_yaml

    if output == "json":
        write_json({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    else:
        write_yaml(objects)
