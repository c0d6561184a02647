"""`list --watch`: a table that stays current on a terminal, a row for each change elsewhere."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from chalk_cli.columns import GAP, fitting_columns
from chalk_cli.looking import Screen, draws, repeatedly, until_interrupted
from chalk_cli.text import printable
from chalk_cli.views import list_table
from chalkcompute.errors import ClusterError, NotFoundError
from chalkcompute.types import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from chalk_cli.context import CliContext, Client
    from chalkcompute.types import ScalingGroupInfo

__all__ = ["DISPENSABLE", "watch_groups"]

# Looking costs two requests, however many groups there are; a watch would be one connection for records and
# one for Deployments, both of which proxies cut.
_INTERVAL = 2.0
DISPENSABLE = ("CREATED", "UPDATED", "ID", "ENVIRONMENT", "NAMESPACE", "TAGS", "IMAGE", "WEB URL", "MESSAGE")
"""Columns that go first where a terminal is too narrow for all."""


def watch_groups(
    cli: CliContext, client: Client, *, include_deleted: bool, tags: Mapping[str, str] | None, output: str
) -> None:
    """List the groups, and go on telling what changes, until Ctrl-C.

    Args:
        cli: The invocation.
        client: Of its namespace.
        include_deleted: Also those in history.
        tags: Only groups that carry all of these tags.
        output: One of the output formats.
    """

    def read() -> tuple[ScalingGroupInfo, ...]:
        return client.list_scaling_groups(include_deleted=include_deleted, tags=tags).scaling_groups

    timing: dict[str, Any] = {"interval": _INTERVAL, "count": None, "clock": lambda: cli.elapsed}
    with until_interrupted():
        if output in ("table", "wide") and draws(cli):
            with Screen(cli) as screen:
                last: tuple[ScalingGroupInfo, ...] = ()
                for seen in repeatedly(read, pause=screen.pause, **timing):
                    trouble = seen.message if isinstance(seen, ClusterError) else None
                    last = last if isinstance(seen, ClusterError) else seen
                    screen.show(_Picture(last, output == "wide", trouble))
        else:
            rows = _Rows(cli, client, output)
            for seen in repeatedly(read, pause=cli.pause, **timing):
                rows.tell(seen)


class _Picture:
    """The table as of one look, for any size of terminal."""

    def __init__(self, groups: Sequence[ScalingGroupInfo], wide: bool, trouble: str | None) -> None:
        self._groups = groups
        self._wide = wide
        self._trouble = trouble

    def __call__(self, width: int, height: int) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        headers, rows = list_table(self._groups, wide=self._wide)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        kept = fitting_columns(headers, rows, width, DISPENSABLE)
        for index in kept:
            table.add_column(headers[index], no_wrap=True, overflow="ellipsis")
        room = max(height - 4, 3)
        for row in rows[:room]:
            table.add_row(*(Text(row[index]) for index in kept))
        parts: list[RenderableType] = [table if rows else Text("no scaling groups here")]
        if len(rows) > room:
            parts.append(Text(f"and {len(rows) - room} more", style="dim"))
        if self._trouble is not None:
            parts.append(Text(f"as of before; trying again: {printable(self._trouble)}", style="bold red"))
        return Group(*parts)


class _Rows:
    """What has changed since the last look, one row or document for each group."""

    def __init__(self, cli: CliContext, client: Client, output: str) -> None:
        self._cli = cli
        self._client = client
        self._output = output
        self._began = False
        self._shown: dict[str, Any] = {}
        self._groups: dict[str, ScalingGroupInfo] = {}
        self._widths: list[int] | None = None

    def tell(self, seen: Sequence[ScalingGroupInfo] | ClusterError) -> None:
        if isinstance(seen, ClusterError):
            self._cli.talk(f"no answer for the moment, trying again: {seen.message}")
            return
        if not seen and not self._began:
            self._cli.talk("no scaling groups here so far")
        self._began = True
        now = {group.id: group for group in seen}
        for id_, group in self._groups.items():
            if id_ not in now and (found := self._gone(group)) is not None:
                now[id_] = found
        changed = [group for group in now.values() if self._shown.get(group.id) != self._view(group)]
        self._write(changed)
        listed = {group.id for group in seen}
        self._groups = {
            id_: group for id_, group in now.items() if id_ in listed or group is self._groups[id_]
        }
        self._shown = {id_: self._view(group) for id_, group in self._groups.items()}

    def _gone(self, group: ScalingGroupInfo) -> ScalingGroupInfo | None:
        """A group that is no longer listed, as history has it; None if it only has other tags by now.

        The group itself where the cluster does not answer: it is asked again at the next look.
        """
        try:
            found = self._client.get_scaling_group(id=group.id)
        except NotFoundError:
            return dataclasses.replace(group, status=Status.DELETED, status_message=None, verdict=None)
        except ClusterError:
            return group
        if found.status is Status.DELETED:
            return found
        self._cli.talk(f"`{group.name}` no longer has these tags")
        return None

    def _view(self, group: ScalingGroupInfo) -> Any:
        """What is shown of it, which is compared to tell whether it has changed."""
        if self._output in ("name", "url"):
            return (group.name, group.web_url, group.status is Status.DELETED)
        if self._output in ("json", "yaml"):
            return group.to_dict()
        _, (row,) = list_table([group], wide=self._output == "wide")
        return row

    def _write(self, changed: Sequence[ScalingGroupInfo]) -> None:
        if self._output == "json":
            for group in changed:
                click.echo(json.dumps(group.to_dict(), ensure_ascii=False))
        elif self._output == "yaml":
            from chalk_cli.output import write_yaml

            for group in changed:
                click.echo("---")
                write_yaml([group.to_dict()])
        elif self._output in ("name", "url"):
            for group in changed:
                if group.status is Status.DELETED:
                    self._cli.talk(f"`{group.name}` was deleted")
                elif text := group.name if self._output == "name" else group.web_url:
                    click.echo(text)
        else:
            self._write_rows(changed)

    def _write_rows(self, changed: Sequence[ScalingGroupInfo]) -> None:
        """Rows under headers that are written once; later rows keep to the columns as far as they fit."""
        headers, rows = list_table(changed, wide=self._output == "wide")
        lines = [*rows]
        if self._widths is None and rows:
            lines = [headers, *rows]
            self._widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        for line in lines:
            cells = [cell.ljust(size) for cell, size in zip(line, self._widths or (), strict=True)]
            click.echo((" " * GAP).join(cells).rstrip())
