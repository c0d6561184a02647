"""The flags that describe a scaling group, and the spec they make: shared by `create` and `manifests`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from chalk_cli.image_file import load_image
from chalk_cli.options import name_argument, one_name
from chalk_cli.params import Lines, Percent, WholeNumber, WholeSeconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chalkcompute import Image, ScalingGroupSpec, Secret

__all__ = ["DescribingCommand", "build_secrets", "build_spec", "spec_options"]

F = TypeVar("F", bound="Callable[..., Any]")

REPLICAS_MAX = 2**31 - 1  # as the spec has it; here under the name of the flag that was given


class DescribingCommand(click.Command):
    """A command that takes the replica's command line after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut off what follows the first `--`, so that it is never taken for a name."""
        if "--" in args:
            cut = args.index("--")
            tail = args[cut + 1 :]
            if not tail:
                raise click.UsageError("`--` needs a command after it", ctx=ctx)
            args = args[:cut]
            ctx.meta["chalk.command"] = tuple(tail)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say that a command may follow."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND [ARG]...]"]


_SPEC_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--image",
        required=True,
        metavar="REF|FILE.py:NAME",
        help="Image reference, such as `python:3.12`, or an `Image` of a Python file.",
    ),
    click.option(
        "--port",
        type=WholeNumber(),
        default=8080,
        show_default=True,
        help="Port that the replicas listen on.",
    ),
    click.option(
        "--replicas", type=WholeNumber(), metavar="N", help="Fixed number of replicas: minimum and maximum."
    ),
    click.option(
        "--min-replicas", type=WholeNumber(), metavar="N", help="Lower bound of the autoscaler.  [default: 1]"
    ),
    click.option(
        "--max-replicas", type=WholeNumber(), metavar="N", help="Upper bound of the autoscaler.  [default: 1]"
    ),
    click.option(
        "--target-cpu",
        type=Percent(),
        metavar="PERCENT",
        help="CPU utilization, in percent of the request, to aim at.",
    ),
    click.option(
        "--cpu", metavar="QUANTITY", help="CPU request and limit: `4`, `500m`.  [default: 100m, limit 1]"
    ),
    click.option(
        "--memory",
        metavar="QUANTITY",
        help="Memory request and limit: `8Gi`.  [default: 256Mi, limit 1Gi]",
    ),
    click.option("--gpu", metavar="[TYPE:]COUNT", help="GPUs: `nvidia-l4:1`, or `1` for any type."),
    click.option(
        "--tags", metavar="K=V,...", help="Tags, comma-separated; a value with a comma in CSV quotes."
    ),
    click.option("--tag", type=Lines(), multiple=True, metavar="K=V", help="One tag.  [repeatable]"),
    click.option(
        "--entrypoint",
        metavar="ARG,...",
        help="Replaces the image's entrypoint: comma-separated with CSV quotes, or a JSON array.",
    ),
    click.option(
        "-e", "--env", type=Lines(), multiple=True, metavar="K=V", help="Environment variable.  [repeatable]"
    ),
    click.option(
        "--env-from-file",
        type=click.Path(exists=True, dir_okay=False),
        multiple=True,
        metavar="FILE",
        help="Environment variables from a dotenv file; `--env` wins.  [repeatable]",
    ),
    click.option(
        "--secret",
        type=Lines(),
        multiple=True,
        metavar="NAME[=FROM]",
        help="Secret variable NAME with the value of this environment's NAME, or FROM.  [repeatable]",
    ),
    click.option(
        "--volume",
        type=Lines(),
        multiple=True,
        metavar="NAME:/PATH[:ro]",
        help="Existing volume to mount into every replica.  [repeatable]",
    ),
    click.option(
        "--readiness-path", metavar="PATH", help="HTTP path that answers 2xx or 3xx when a replica can serve."
    ),
    click.option(
        "--startup-timeout",
        type=WholeSeconds(),
        metavar="SECONDS",
        help="How long a replica may take until it is ready: `600`, `10m`.  [default: no limit]",
    ),
    click.option(
        "--shutdown-delay",
        type=WholeSeconds(),
        metavar="SECONDS",
        help="How long a replica keeps serving on its way out.  [default: 5]",
    ),
    click.option(
        "--idle-timeout",
        type=WholeSeconds(),
        metavar="SECONDS",
        help="Scale to zero after so long without a request; with `--min-replicas=0`.  [default: 300]",
    ),
    click.option(
        "--scaling-interval",
        type=WholeSeconds(),
        metavar="SECONDS",
        help="The autoscaler takes one step in this time.",
    ),
    click.option(
        "--gateway", metavar="NS/NAME[/LISTENER]", envvar="CHALK_GATEWAY", help="Gateway to route through."
    ),
    click.option(
        "--gateway-domain",
        metavar="DOMAIN",
        envvar="CHALK_GATEWAY_DOMAIN",
        help="Domain under which host names are made.",
    ),
)


def spec_options(command: F) -> F:
    """All flags that describe a group."""
    for option in reversed(_SPEC_OPTIONS):
        command = option(command)
    return name_argument(command)


def build_spec(ctx: click.Context, flags: dict[str, Any]) -> tuple[ScalingGroupSpec, Image | None]:
    """The spec that the flags describe, and the `Image` of a Python file where `--image` names one.

    Raises:
        click.UsageError: If flags contradict each other or the name is missing.
        chalkcompute.errors.SpecError: If a value cannot be.
    """
    name = one_name(flags["name_positional"], flags["name"])
    if name is None:
        raise click.UsageError("a name is missing; give `--name=X` or one positional argument", ctx=ctx)
    low, high = _replica_range(flags)

    from chalkcompute import ReadinessProbe, ScalingGroupSpec
    from chalkcompute.spec.parse import parse_volume

    image = load_image(flags["image"])
    path = flags["readiness_path"]
    spec = ScalingGroupSpec(
        name=name,
        image=image.placeholder if image is not None else flags["image"],
        port=flags["port"],
        min_replicas=low,
        max_replicas=high,
        target_cpu_utilization_percentage=flags["target_cpu"],
        scaling_interval_seconds=flags["scaling_interval"],
        shutdown_delay_seconds=flags["shutdown_delay"],
        startup_timeout_seconds=flags["startup_timeout"],
        idle_timeout_seconds=flags["idle_timeout"],
        cpu=flags["cpu"],
        memory=flags["memory"],
        gpu=flags["gpu"],
        env=_env(flags["env"], flags["env_from_file"]),
        tags=_tags(flags["tags"], flags["tag"]),
        entrypoint=_entrypoint(flags["entrypoint"], ctx.meta.get("chalk.command")),
        readiness_probe=ReadinessProbe.http(path) if path is not None else None,
        volumes=tuple(parse_volume(text) for text in flags["volume"]),
    )
    return spec, image


def build_secrets(flags: dict[str, Any]) -> tuple[Secret, ...]:
    """The secrets that the flags name; no value is looked at.

    Raises:
        chalkcompute.errors.SpecError: If a name cannot be.
    """
    from chalkcompute import Secret

    found: list[Secret] = []
    for text in flags["secret"]:
        name, equals, source = text.partition("=")
        found.append(Secret.from_env(source if equals else name, alias=name))
    return tuple(found)


def _replica_range(flags: dict[str, Any]) -> tuple[int, int]:
    fixed, low, high = flags["replicas"], flags["min_replicas"], flags["max_replicas"]
    if fixed is not None:
        if low is not None or high is not None:
            raise click.UsageError(
                "`--replicas` sets a fixed count; use it without `--min-replicas` and `--max-replicas`"
            )
        if fixed < 1:
            raise click.UsageError(
                f"`--replicas` must be 1 or more, not {fixed}; a group that sleeps while nobody asks has "
                "`--min-replicas=0`"
            )
        if fixed > REPLICAS_MAX:
            raise click.UsageError(f"`--replicas` must be at most {REPLICAS_MAX}, not {fixed}")
        return fixed, fixed
    if high is None and low is not None and low > 1:
        raise click.UsageError(f"`--min-replicas={low}` needs `--max-replicas` of {low} or more")
    return (1 if low is None else low), (1 if high is None else high)


def _tags(joined: str | None, single: Sequence[str]) -> dict[str, str]:
    from chalkcompute.spec.parse import parse_tag, parse_tags

    tags = parse_tags(joined) if joined is not None else {}
    return _merge("--tag", tags, [parse_tag(text) for text in single])


def _env(single: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    from pathlib import Path

    from chalkcompute.spec.parse import parse_env

    env: dict[str, str] = {}
    for file in files:
        env.update(_dotenv(Path(file)))
    return {**env, **_merge("--env", {}, [parse_env(text) for text in single])}


def _merge(flag: str, into: dict[str, str], pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    for key, value in pairs:
        if key in into:
            raise click.UsageError(f"`{key}` is given twice; give it once with `{flag}`")
        into[key] = value
    return into


def _dotenv(path: Path) -> dict[str, str]:
    """Variables of a dotenv file, taken literally: no `${…}` is expanded."""
    import io

    from dotenv import dotenv_values

    from chalkcompute.spec.parse import bad_dotenv_line

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"`--env-from-file`: cannot read `{path}`: {error}") from error
    line = bad_dotenv_line(text, strict=True)
    if line is not None:
        # The text may be a secret, so only its place is named.
        raise click.UsageError(f"`--env-from-file`: `{path}` line {line} is not `KEY=VALUE`")
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {key: value for key, value in values.items() if value is not None}


def _entrypoint(joined: str | None, tail: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if joined is not None and tail is not None:
        raise click.UsageError("both `--entrypoint` and a command after `--` were given; give one")
    if joined is None:
        return tail
    from chalkcompute.spec.parse import parse_entrypoint

    return parse_entrypoint(joined)
