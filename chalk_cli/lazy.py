"""A click group that imports a command only when it is named.

`chalk scaling-group create --help` does not pay for `chalk local`, nor either for a Kubernetes client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group whose commands are `module:attribute` references.

    Args:
        lazy: Command name to `module:attribute`, in the order that help shows them.
        aliases: Short name to command name; help does not list them.
        **attrs: What `click.Group` takes.
    """

    def __init__(
        self, *, lazy: Mapping[str, str], aliases: Mapping[str, str] | None = None, **attrs: Any
    ) -> None:
        super().__init__(**attrs)
        self._lazy = dict(lazy)
        self._aliases = dict(aliases or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in declared order."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name or alias, imported now."""
        reference = self._lazy.get(self._aliases.get(cmd_name, cmd_name))
        if reference is None:
            return None
        module, _, attribute = reference.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but under the canonical name, and with a suggestion for a typing mistake."""
        typed = args[0]
        name = self._aliases.get(typed, typed)
        if name in self._lazy or typed.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, [name, *args[1:]])
        import difflib

        close = difflib.get_close_matches(name, self._lazy, n=1)
        suggestion = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(self._lazy)}"
        raise click.UsageError(f"no such command `{typed}`; {suggestion}", ctx=ctx)
