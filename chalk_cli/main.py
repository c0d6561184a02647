"""The root command, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from chalk_cli.context import CliContext
from chalk_cli.lazy import LazyGroup
from chalk_cli.options import root_options
from chalk_cli.signals import notice_termination

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["cli", "main"]

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SIGPIPE_EXIT = 141  # 128 + SIGPIPE: what the shell reports of any program whose reader went away


class OutputError(click.ClickException):
    """stdout takes no more: the disk is full."""


class _OutputClosedError(Exception):
    """The reader of stdout went away (`chalk … | head`); not an OSError, which click would take itself."""


def _discard_stdout() -> None:
    """The interpreter flushes stdout once more on its way out; give it somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _closed_pipe_noticed() -> Iterator[None]:
    try:
        yield
        if sys.stdout is not None:  # `chalk … >&-`
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise _OutputClosedError from error
    except OSError as error:
        if error.errno not in _OUT_OF_SPACE or error.filename is not None:
            raise
        raise OutputError(f"cannot write to stdout: {os.strerror(error.errno)}") from error


class RootGroup(LazyGroup):
    """Turns whatever a command raises into a message on stderr and an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the global options; `--help` and `--version` already print here."""
        with _closed_pipe_noticed():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and flush, so that a closed pipe is noticed here."""
        with _closed_pipe_noticed():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's own, but every exception ends in `chalk_cli.failures`."""
        arguments = list(sys.argv[1:] if args is None else args)
        cli_context = extra.setdefault("obj", None) or CliContext()
        extra["obj"] = cli_context
        cli_context.json = wants_json(arguments, cli_context.environ)
        try:
            code = super().main(arguments, prog_name or "chalk", complete_var, standalone_mode=False, **extra)
        except _OutputClosedError:
            _discard_stdout()
            sys.exit(SIGPIPE_EXIT)
        except Exception as error:
            from chalk_cli.failures import report

            code = report(error, cli_context)
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OUT_OF_SPACE:
                _discard_stdout()
            sys.exit(code)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def wants_json(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the output format is JSON, found without parsing, since parsing itself may be what fails."""
    found = next(filter(None, map(environ.get, _output_variables(arguments))), "")
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            if word == "--output":
                found = next(words, "")
            elif word.startswith("--output="):
                found = word.removeprefix("--output=")
        elif word.startswith("-"):
            flags, is_output, rest = word[1:].partition("o")
            if is_output and set(flags) <= set("qv"):
                found = rest.removeprefix("=") or next(words, "")
    return found == "json"


def _output_variables(arguments: Sequence[str]) -> list[str]:
    """The environment variables that `-o` of the command has, in the order that click looks at them."""
    command, path = _command_of(arguments)
    output = next((param for param in command.params if param.name == "output"), None) if command else None
    if output is None:
        return ["CHALK_OUTPUT"]
    shared = [output.envvar] if isinstance(output.envvar, str) else []
    return [*shared, "_".join(["CHALK", *path, "OUTPUT"]).upper().replace("-", "_")]


def _command_of(arguments: Sequence[str]) -> tuple[click.Command | None, list[str]]:
    """The command that is going to be run, and the names that lead to it; None if there is none such."""
    options = [param for param in cli.params if isinstance(param, click.Option) and not param.is_flag]
    takes_value = {spelled for option in options for spelled in option.opts}
    group: click.Group = cli
    path: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            if word in takes_value or (word[-1:] == "n" and set(word[1:-1]) <= set("qv")):
                next(words, None)
            continue
        command = group.get_command(click.Context(group), word)
        if command is None:
            break
        path.append(command.name or word)
        if not isinstance(command, click.Group):
            return command, path
        group = command
    return None, path


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"chalk {version('chalk-scaling-groups')}")
        ctx.exit()


@click.group(
    cls=RootGroup,
    lazy={
        "scaling-group": "chalk_cli.commands.scaling_group:scaling_group",
        "local": "chalk_cli.commands.local:local",
    },
    aliases={"sg": "scaling-group"},
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "CHALK",
        "max_content_width": 100,
    },
)
@root_options
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    allow_from_autoenv=False,
    help="Show the version and exit.",
)
def cli() -> None:
    """Replicated HTTPS services on Kubernetes: this image, N times, behind one URL.

    A cluster is a kubeconfig context. Without one, `chalk local up` starts a cluster on this machine.
    """


def main() -> None:
    """The `chalk` program."""
    notice_termination()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show `–` gets `\u2013`, not a crash.
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        # Python's warnings are for developers: at each request to a cluster with `insecure-skip-tls-verify`,
        # one would stand between a person, or a program that reads stderr, and what we say.
        warnings.simplefilter("ignore")
    cli()
