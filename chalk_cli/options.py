"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from chalk_cli.context import CliContext
from chalk_cli.params import TableFormat

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "OUTPUT_FORMATS",
    "id_option",
    "name_argument",
    "name_or_id",
    "one_name",
    "output_options",
    "root_options",
    "talk_options",
    "talk_write_options",
    "verb_options",
    "write_options",
]

F = TypeVar("F", bound="Callable[..., Any]")

OUTPUT_FORMATS = ("table", "wide", "json", "yaml", "name", "url")

_CLUSTER_OPTIONS = (
    (("--context",), "CHALK_CONTEXT", "NAME", "Context of the kubeconfig."),
    (("--kubeconfig",), "CHALK_KUBECONFIG", "FILE", "Kubeconfig file."),
    (
        ("-n", "--namespace"),
        "CHALK_NAMESPACE",
        "NS",
        "Kubernetes namespace; one namespace is one environment.",
    ),
    (("--environment",), "CHALK_ENVIRONMENT", "ID", "Environment id, the first part of every host name."),
    (("--env-file",), "CHALK_ENV_FILE", "FILE", "File of CHALK_* settings instead of ./.env."),
)


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Keep a cluster option; one given after the verb comes later and so wins over one before it."""
    if value is not None and param.name is not None:
        ctx.ensure_object(CliContext).options[param.name] = value


def _set_flag(ctx: click.Context, param: click.Parameter, value: bool | None) -> None:
    if value and param.name is not None:
        setattr(ctx.ensure_object(CliContext), param.name, True)


_QUIET = "Errors only."
_QUIET_WRITE = "Errors only; data only with `-o`."
_QUIET_ROOT = "Errors only; commands that change something print data only with `-o`."


def _talk_options(command: F, *, from_environment: bool = False, quiet: str = _QUIET) -> F:
    flags = (("-v", "--verbose", "Say more about what happens."), ("-q", "--quiet", quiet))
    for short, long, text in flags:
        command = click.option(
            short,
            long,
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_set_flag,
            help=text,
            envvar=f"CHALK_{long[2:].upper()}" if from_environment else None,
            show_envvar=from_environment,
            allow_from_autoenv=False,
        )(command)
    return command


def _cluster_options(command: F, *, from_environment: bool) -> F:
    for names, variable, metavar, text in reversed(_CLUSTER_OPTIONS):
        command = click.option(
            *names,
            metavar=metavar,
            expose_value=False,
            callback=_remember,
            help=text,
            envvar=variable if from_environment else None,
            show_envvar=from_environment,
            allow_from_autoenv=False,
        )(command)
    return command


def root_options(command: F) -> F:
    """The global options on `chalk` itself; only here do they read the environment, so that a flag wins."""
    talk = _talk_options(command, from_environment=True, quiet=_QUIET_ROOT)
    return _cluster_options(talk, from_environment=True)


def verb_options(command: F) -> F:
    """The global options after the verb, where people type them."""
    return _cluster_options(_talk_options(command), from_environment=False)


def write_options(command: F) -> F:
    """As `verb_options`, after a verb that changes something: its table is talk, which `-q` leaves out."""
    return _cluster_options(_talk_options(command, quiet=_QUIET_WRITE), from_environment=False)


def talk_options(command: F) -> F:
    """`-q` and `-v` after a verb that needs no cluster to be chosen."""
    return _talk_options(command)


def talk_write_options(command: F) -> F:
    """As `talk_options`, after a verb that changes something."""
    return _talk_options(command, quiet=_QUIET_WRITE)


def output_options(*formats: str, draws_tables: bool = True) -> Callable[[F], F]:
    """`-o/--output` with these formats, the first being the default, and `--table-format`."""

    def decorate(command: F) -> F:
        if draws_tables:
            command = click.option(
                "--table-format",
                type=TableFormat(),
                envvar="CHALK_TABLE_FORMAT",
                help="How tables are drawn: a format name of tabulate, such as plain, simple or github.",
            )(command)
        return click.option(
            "-o",
            "--output",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            envvar="CHALK_OUTPUT" if formats == OUTPUT_FORMATS else None,
            help="Output format.",
        )(command)

    return decorate


def name_argument(command: F) -> F:
    """`[NAME]` and `--name`, which mean the same."""
    command = click.option("--name", metavar="NAME", help="Name of the scaling group.")(command)
    return click.argument("name_positional", metavar="[NAME]", required=False)(command)


def _is_typed(option: str) -> bool:
    """Whether an option was given on the command line, which wins over what the environment says."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def one_name(positional: str | None, option: str | None) -> str | None:
    """The name from either place; what was typed, if the other is of the environment.

    Raises:
        click.UsageError: If the two differ.
    """
    if positional is not None and not _is_typed("name"):
        return positional
    if positional is not None and option is not None and positional != option:
        raise click.UsageError(f"two names were given, `{positional}` and `--name={option}`; give one")
    return option if option is not None else positional


def id_option(command: F) -> F:
    """`--id`, instead of a name."""
    return click.option("--id", metavar="UUID", help="Id of the scaling group.")(command)


def name_or_id(
    positional: str | None, option: str | None, group_id: str | None
) -> tuple[str | None, str | None]:
    """The name, or the id; what was typed, if the other is of the environment.

    Raises:
        click.UsageError: If neither or both were given.
    """
    name = one_name(positional, option)
    named = positional is not None or _is_typed("name")
    if named and not _is_typed("id"):
        group_id = None
    elif _is_typed("id") and not named:
        name = None
    if name is None and group_id is None:
        raise click.UsageError("say which one: `--name=X`, one positional argument, or `--id`")
    if name is not None and group_id is not None:
        raise click.UsageError("both a name and `--id` were given; give one")
    return name, group_id
