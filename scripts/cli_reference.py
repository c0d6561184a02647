"""Write docs/reference/cli.md from the commands themselves; with --check, only say whether it is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chalk_cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# Command line reference

Generated from the commands by `make docs`; do not edit. What the exit codes mean, and how to use this in
scripts, is in [automation](../guides/automation.md); the environment variables are in
[environment](environment.md).
"""


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for the command and, depth first, for each command below it."""
    name = "chalk" if parent is None else command.name
    context = click.Context(command, info_name=name, parent=parent, auto_envvar_prefix=_prefix(name, parent))
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from commands(found, context)


def _prefix(name: str | None, parent: click.Context | None) -> str:
    if parent is None:
        return "CHALK"
    return f"{parent.auto_envvar_prefix}_{(name or '').upper().replace('-', '_')}"


def render(root: click.Command) -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(_section(context) for context in commands(root))])


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}\n", f"```\n{usage}\n```\n", f"{_paragraphs(command.help or '')}\n"]
    if isinstance(command, click.Group):
        parts.append(_table(("command", "does"), list(_children(command, context))))
    rows = [_option_row(param, context) for param in command.params if isinstance(param, click.Option)]
    if rows:
        parts.append(_table(("option", "meaning", "environment variable"), rows))
    return "\n".join(parts)


def _children(group: click.Group, context: click.Context) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            yield f"`{context.command_path} {name}`", command.get_short_help_str(limit=200)


def _option_row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    record = option.get_help_record(context)
    spelled, text = record if record is not None else ("", "")
    text = text.split("  [env var:")[0]
    return f"`{spelled}`", text, ", ".join(f"`{name}`" for name in _variables(option, context))


def _variables(option: click.Option, context: click.Context) -> list[str]:
    if option.envvar:
        return [option.envvar] if isinstance(option.envvar, str) else list(option.envvar)
    if option.allow_from_autoenv and option.name and option.name != "help":
        return [f"{context.auto_envvar_prefix}_{option.name.upper()}"]
    return []


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return (
        "\n".join([line(headers), line(tuple("---" for _ in headers)), *(line(row) for row in rows)]) + "\n"
    )


def main() -> None:
    """Write the page, or check it."""
    page = render(cli)
    if "--check" not in sys.argv[1:]:
        REFERENCE.write_text(page, encoding="utf-8")
    elif not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != page:
        sys.exit(f"{REFERENCE} is stale: run `make docs`")


if __name__ == "__main__":
    main()
