"""`chalk scaling-group top`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import name_argument, one_name, output_options, verb_options
from chalk_cli.params import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from chalkcompute import UsageReport
    from chalkcompute.errors import ClusterError

__all__ = ["top_command"]

_SHORTEST_INTERVAL = 1.0  # metrics are no newer than that anywhere
_LONGEST_INTERVAL = 86400.0  # a day; who wants less often has cron


@click.command("top")
@name_argument
@click.option(
    "--interval",
    type=Duration(_SHORTEST_INTERVAL, _LONGEST_INTERVAL),
    default=5.0,
    help="Time between looks: `5`, `1m`; from 1 second to a day.  [default: 5s]",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after that many looks.")
@click.option(
    "--events",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Changes of the replica count to show on a terminal.",
)
@output_options("table", "json", draws_tables=False)
@verb_options
@pass_cli
def top_command(
    cli: CliContext,
    /,
    *,
    name_positional: str | None,
    name: str | None,
    interval: float,
    count: int | None,
    events: int,
    output: str,
) -> None:
    """Watch what groups use and serve: replicas, CPU against target, requests, latency, scale events.

    With NAME one group, and each of its replicas. On a terminal the screen is kept current until Ctrl-C;
    elsewhere there is one line for each group and look, with `-o json` one object for each look.
    """
    group = one_name(name_positional, name)
    client = cli.client()

    from chalk_cli.looking import Screen, draws, repeatedly, until_interrupted

    def read() -> UsageReport:
        return client.scaling_group_usage(group)

    timing: dict[str, Any] = {"interval": interval, "count": count, "clock": lambda: cli.elapsed}
    with until_interrupted():
        if output != "json" and draws(cli):
            with Screen(cli) as screen:
                _draw(screen, repeatedly(read, pause=screen.pause, **timing), interval, events, group)
        else:
            told = _JsonLines(cli) if output == "json" else _Lines(cli)
            for seen in repeatedly(read, pause=cli.pause, **timing):
                told.tell(seen)


def _draw(screen: Any, looks: Any, interval: float, events: int, group: str | None) -> None:
    from chalk_cli.usage_screen import usage_picture
    from chalkcompute.errors import ClusterError

    last: UsageReport | None = None
    for seen in looks:
        trouble = seen.message if isinstance(seen, ClusterError) else None
        last = last if isinstance(seen, ClusterError) else seen
        if last is not None:
            screen.show(_picture(usage_picture, last, interval, events, group, trouble))


def _picture(
    draw: Callable[..., RenderableType],
    report: UsageReport,
    interval: float,
    events: int,
    group: str | None,
    trouble: str | None,
) -> Callable[[int, int], RenderableType]:
    def picture(width: int, height: int) -> RenderableType:
        return draw(
            report,
            width=width,
            height=height,
            interval=interval,
            events=events,
            detailed=group is not None,
            trouble=trouble,
        )

    return picture


class _Lines:
    """A line for each group and look, and one for each change of a replica count since the first."""

    def __init__(self, cli: CliContext) -> None:
        self._cli = cli
        self._said: set[str] = set()
        self._seen: set[tuple[str, object]] | None = None

    def tell(self, seen: UsageReport | ClusterError) -> None:
        from chalk_cli.usage_views import event_line, notes, usage_line
        from chalkcompute.errors import ClusterError

        if isinstance(seen, ClusterError):
            self._cli.talk(f"no answer for the moment, trying again: {seen.message}")
            return
        if not seen.groups:
            self._once("no scaling groups here")
        events = [(group.name, event) for group in seen.groups for event in group.scale_events]
        for name, event in sorted(events, key=lambda pair: pair[1].at):
            if self._seen is not None and (name, event) not in self._seen:
                click.echo(event_line(name, event))
        self._seen = set(events)
        for group in seen.groups:
            click.echo(usage_line(group, seen.at))
            for note in notes(group):
                self._once(note)
        for text in seen.missing:
            self._once(f"not shown: {text}")

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._cli.talk(text)


class _JsonLines:
    """One object for each look; `error` in place of the groups where there was no answer."""

    def __init__(self, cli: CliContext) -> None:
        self._cli = cli

    def tell(self, seen: UsageReport | ClusterError) -> None:
        from chalkcompute.errors import ClusterError

        if isinstance(seen, ClusterError):
            document: dict[str, Any] = {
                "schema": 1,
                "error": {"type": type(seen).__name__, "message": seen.message},
            }
        else:
            document = seen.to_dict()
        click.echo(json.dumps(document, ensure_ascii=False))
