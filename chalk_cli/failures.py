"""Errors as people and programs read them: text or one JSON object on stderr, and an exit code."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import click

from chalk_cli.signals import Terminated
from chalk_cli.text import flag_of, printable, verdict_evidence, with_flags
from chalkcompute.errors import ChalkError, DeployFailedError, SpecError, WaitTimeoutError

if TYPE_CHECKING:
    from chalk_cli.context import CliContext

__all__ = ["report"]

SIGNAL_EXIT = 128  # plus the signal's number: what the shell reports of a program that a signal ended
INTERRUPTED_EXIT = SIGNAL_EXIT + 2  # SIGINT
BUG_EXIT = 1


def report(error: Exception, context: CliContext) -> int:
    """Write the error to stderr.

    Args:
        error: What a command raised.
        context: Tells the output format.

    Returns:
        The exit code.
    """
    if isinstance(error, click.Abort):
        error = _InterruptedError(error, context.interrupted)
    elif not isinstance(error, (ChalkError, click.ClickException)):
        if context.environ.get("CHALK_TRACEBACK"):
            click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        error = _UnexpectedError(error)
    if context.json:
        click.echo(json.dumps({"schema": 1, "error": _as_json(error)}, ensure_ascii=False), err=True)
    elif isinstance(error, click.UsageError):
        error.show()
    else:
        _show(error, context)
    return _exit_code(error)


class _UnexpectedError(ChalkError):
    """An exception that nobody meant to reach the command line."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a bug in chalk; set CHALK_TRACEBACK=1 and run it again to see where it comes from",
        )
        self.__cause__ = error


class _InterruptedError(ChalkError):
    """Ctrl-C, or a signal that asked the process to end."""

    def __init__(self, error: click.Abort, hint: str | None) -> None:
        cause = error.__cause__
        super().__init__("terminated" if isinstance(cause, Terminated) else "interrupted", hint=hint)
        self.exit_code = SIGNAL_EXIT + cause.signum if isinstance(cause, Terminated) else INTERRUPTED_EXIT
        self.__cause__ = cause


def _exit_code(error: Exception) -> int:
    return int(getattr(error, "exit_code", BUG_EXIT))


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    message = str(getattr(error, "message", error))
    if isinstance(error, SpecError):
        flag, message = flag_of(error.field), with_flags(message, error.field)
        if f"`{flag}`" not in message:
            return f"{flag}: {message}"
    return with_flags(message) if isinstance(error, ChalkError) else message


def _hint(error: Exception) -> str | None:
    if isinstance(error, click.UsageError):
        return f"see `{error.ctx.command_path} --help`" if error.ctx else "see `chalk --help`"
    hint = getattr(error, "hint", None)
    if hint is None and isinstance(error, (DeployFailedError, WaitTimeoutError)) and error.verdict:
        hint = error.verdict.next
    return with_flags(hint) if hint is not None and isinstance(error, ChalkError) else hint


def _as_json(error: Exception) -> dict[str, Any]:
    message, kind = _message(error), type(error).__name__
    ours = {"_UnexpectedError": "InternalError", "_InterruptedError": message.capitalize()}
    out: dict[str, Any] = {
        "type": ours.get(kind, kind),
        "message": message,
        "hint": _hint(error),
        "exit_code": _exit_code(error),
    }
    for name in ("field", "status", "reason", "kind", "name", "namespace"):
        value = getattr(error, name, None)
        if isinstance(error, ChalkError) and isinstance(value, (str, int)):
            out[name] = value
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.name:
        out["field"] = error.param.name
    if isinstance(error, (DeployFailedError, WaitTimeoutError)):
        out["verdict"] = error.verdict.to_dict() if error.verdict else None
        out["scaling_group"] = error.info.to_dict()
    return out


def _show(error: Exception, context: CliContext) -> None:
    if isinstance(error, (DeployFailedError, WaitTimeoutError)):
        for warning in error.info.warnings:
            context.warn(warning)
    click.echo(f"Error: {printable(_message(error))}", err=True)
    if isinstance(error, (DeployFailedError, WaitTimeoutError)) and error.verdict:
        if error.verdict.message not in _message(error):
            click.echo(f"cause: {printable(error.verdict.message)}", err=True)
        for line in verdict_evidence(error.verdict):
            click.echo(f"  {line}", err=True)
    if context.verbose:
        cause = error.__cause__
        while cause is not None:
            click.echo(f"caused by: {type(cause).__name__}: {printable(str(cause))}", err=True)
            cause = cause.__cause__
    hint = _hint(error)
    if hint:
        click.echo(f"\nhint: {printable(hint)}", err=True)
