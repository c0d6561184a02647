"""`chalk local`: the cluster on this machine."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from chalk_cli.context import CliContext, pass_cli
from chalk_cli.options import talk_options, talk_write_options
from chalk_cli.params import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chalkcompute.local.lifecycle import LocalStatus

__all__ = ["local"]

F = TypeVar("F", bound="Callable[..., Any]")

FOLLOW_INTERVAL = 0.2  # seconds between looks at a log that is followed

RUNTIMES = ("sandbox", "engine")

SANDBOXES = ("auto", "ns-root", "ns-user", "notify", "plain")


def _home_option(command: F) -> F:
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        envvar="CHALK_LOCAL_HOME",
        callback=lambda ctx, param, value: None if value is None else value.expanduser(),
        help="State folder.  [default: ~/.chalk/local]",
    )(command)


def _output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="Output format.",
    )(command)


@click.group()
def local() -> None:
    """Start, stop and look at a cluster on this machine.

    It speaks the Kubernetes API, runs each replica in a sandbox and fronts the groups with a TLS gateway.
    For development, tests and demonstrations: it is no security boundary.
    """


@local.command("up")
@_home_option
@click.option("--api-port", type=click.IntRange(1, 65535), help="Port of the API server on 127.0.0.1.")
@click.option("--https-port", type=click.IntRange(1, 65535), help="Port of the gateway's HTTPS listener.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="Port of the gateway's HTTP listener.")
@click.option("--registry-port", type=click.IntRange(1, 65535), help="Port of the registry of images.")
@click.option(
    "--sandbox",
    type=click.Choice(SANDBOXES),
    default="auto",
    show_default=True,
    help="How replicas are kept apart; auto takes the best that this machine allows.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="sandbox",
    show_default=True,
    help="What runs replicas: sandboxed processes, or containers of docker or podman.",
)
@click.option("--timeout", type=Duration(), default=60.0, help="How long to wait for it.  [default: 1m]")
@_output_option
@talk_write_options
@pass_cli
@click.pass_context
def up_command(
    ctx: click.Context,
    cli: CliContext,
    /,
    *,
    home: Path | None,
    api_port: int | None,
    https_port: int | None,
    http_port: int | None,
    registry_port: int | None,
    sandbox: str,
    runtime: str,
    timeout: float,
    output: str,
) -> None:
    """Start the cluster, or say that it runs already; ready when this returns."""
    from chalkcompute.local import lifecycle

    if runtime == "engine" and sandbox != "auto":
        raise click.UsageError("`--sandbox` is for `--runtime sandbox`: an engine has its own ways")
    cli.interrupted = (
        "see what is left running with `chalk local status`, and stop it with `chalk local down`"
    )
    found = lifecycle.up(
        home,
        api_port=api_port,
        https_port=https_port,
        http_port=http_port,
        registry_port=registry_port,
        runtime=runtime,
        tier=sandbox,
        timeout=timeout,
    )
    _write_up(cli, found, output)
    for notice in found.notices:
        cli.talk(f"note: {notice}")
    cli.talk(
        _how_to_choose(home if ctx.get_parameter_source("home") is ParameterSource.COMMANDLINE else None)
    )


@local.command("down")
@_home_option
@talk_options
@pass_cli
def down_command(cli: CliContext, /, *, home: Path | None) -> None:
    """Stop the cluster and its replicas; what is stored stays, and `up` brings the groups back."""
    from chalkcompute.local import lifecycle

    stopped = lifecycle.down(home)
    cli.talk("local cluster stopped" if stopped else "local cluster was not running")


@local.command("status")
@_home_option
@_output_option
@talk_options
def status_command(*, home: Path | None, output: str) -> None:
    """Say whether it runs, where, in which sandbox, and what that sandbox cannot do."""
    from chalkcompute.local import lifecycle

    _write_status(lifecycle.status(home), output)


@local.command("logs")
@_home_option
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until Ctrl-C.")
@talk_options
@pass_cli
def logs_command(cli: CliContext, /, *, home: Path | None, follow: bool) -> None:
    """Print the log of the cluster's daemon."""
    from chalkcompute.errors import NotFoundError
    from chalkcompute.local import lifecycle

    path = lifecycle.daemon_log_path(home)
    if not path.is_file():
        raise NotFoundError(
            f"the local cluster has no log yet (`{path}`)", hint="start it with `chalk local up`"
        )
    cli.interrupted = f"the log is `{path}`"
    for text in _read(path, follow=follow):
        click.echo(text, nl=False)


@local.command("reset")
@_home_option
@talk_options
@pass_cli
def reset_command(cli: CliContext, /, *, home: Path | None) -> None:
    """Stop the cluster and remove everything it stored: groups, certificates, images, logs."""
    from chalkcompute.local import lifecycle

    removed = lifecycle.reset(home)
    cli.talk("local cluster removed" if removed else "there was no local cluster to remove")


@local.command("kubeconfig")
@_home_option
@talk_options
@pass_cli
def kubeconfig_command(cli: CliContext, /, *, home: Path | None) -> None:
    """Print the path of its kubeconfig: `KUBECONFIG=$(chalk local kubeconfig) kubectl get pods`."""
    from chalkcompute.local import lifecycle

    path = lifecycle.kubeconfig_path(home)
    click.echo(path)
    if not path.exists():
        cli.talk("the file is not there yet; `chalk local up` writes it")


def _how_to_choose(home: Path | None) -> str:
    """What makes `chalk` and `kubectl` use the cluster; `home` is the folder if a flag chose it."""
    if home is None:
        return (
            "`chalk` uses it when no other cluster is configured; to choose it:\n"
            '  export KUBECONFIG="$(chalk local kubeconfig)"'
        )
    # Only CHALK_LOCAL_HOME or the default folder is looked at by itself.
    return f'to choose it:\n  export KUBECONFIG="$(chalk local kubeconfig --home {shlex.quote(str(home))})"'


def _read(path: Path, *, follow: bool) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as log:
        while True:
            text = log.read(65536)
            if text:
                yield text
            elif not follow:
                return
            else:
                time.sleep(FOLLOW_INTERVAL)


def _write_up(cli: CliContext, found: LocalStatus, output: str) -> None:
    if output != "table" or not cli.quiet:
        _write_status(found, output)


def _write_status(found: LocalStatus, output: str) -> None:
    from chalk_cli.output import write_json, write_pairs, write_yaml

    document = {"schema": 1, **found.to_dict()}
    if output == "json":
        write_json(document)
    elif output == "yaml":
        write_yaml([document])
    else:
        write_pairs(_status_pairs(found), None)


def _status_pairs(found: LocalStatus) -> list[tuple[str, str]]:
    if not found.running:
        return [
            ("Local cluster", "not running (start it with `chalk local up`)"),
            ("State", str(found.state_dir)),
        ]
    pairs = [
        ("Local cluster", f"running (pid {found.pid})"),
        ("API server", str(found.server)),
        ("Gateway", f"https://<environment>-<name>.{found.domain}:{found.https_port}"),
        *_plain_http(found),
        *([] if found.registry is None else [("Registry", found.registry)]),
        ("Kubeconfig", str(found.kubeconfig)),
        ("State", str(found.state_dir)),
        ("Sandbox", str(found.tier)),
        *_limits(found),
        ("GPUs", f"{found.gpus} ({found.gpu_type})" if found.gpus else "none"),
    ]
    return pairs + [("Limitation", limitation) for limitation in found.limitations]


_HELD = {
    "watched": {"cpu": "watched, by pausing processes", "memory": "watched, by ending processes"},
    "engine": dict.fromkeys(("cpu", "memory"), "by the engine"),
    "not enforced": dict.fromkeys(("cpu", "memory"), "not enforced"),
}


def _limits(found: LocalStatus) -> list[tuple[str, str]]:
    """`CPU and memory by cgroup v1`, or each for itself where they differ."""
    if not found.limits:  # a daemon of an earlier version
        return []
    said = {resource: _HELD.get(how, {}).get(resource, f"by {how}") for resource, how in found.limits.items()}
    cpu, memory = said["cpu"], said["memory"]
    return [("Limits", f"CPU and memory {cpu}" if cpu == memory else f"CPU {cpu}; memory {memory}")]


def _plain_http(found: LocalStatus) -> list[tuple[str, str]]:
    if found.http_port is None:
        return []
    return [("Plain HTTP", f"http://<environment>-<name>.{found.domain}:{found.http_port}")]
