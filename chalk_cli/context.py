"""What a command may touch: the client factory, the environment, the streams. Tests replace it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

from chalk_cli.text import printable, with_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chalkcompute import Content, Image, ScalingGroupSpec, Secret, UsageReport
    from chalkcompute.types import (
        DeleteResult,
        DeployResult,
        ListScalingGroupsResponse,
        Manifest,
        OnProgress,
        ScalingGroupInfo,
        Target,
    )

__all__ = ["CliContext", "Client", "connect", "pass_cli"]


class Client(Protocol):
    """The verbs of `chalkcompute.ChalkClient` that the commands use."""

    def target(self) -> Target:
        """Where writes go."""

    def list_scaling_groups(
        self, *, include_deleted: bool = False, tags: Mapping[str, str] | None = None
    ) -> ListScalingGroupsResponse:
        """All groups of the namespace."""

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> ScalingGroupInfo:  # noqa: A002
        """One group."""

    def scaling_group_usage(self, name: str | None = None) -> UsageReport:
        """What one group, or each, uses and serves now."""

    def read_secrets(self, secrets: Sequence[Secret], *, names_only: bool = False) -> Content:
        """The values of secrets as they are now."""

    def create_scaling_group(
        self,
        spec: ScalingGroupSpec,
        *,
        image: Image | None = None,
        content: Content | None = None,
        update: bool = True,
        dry_run: bool = False,
        wait_timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> DeployResult:
        """Apply, without waiting."""

    def wait_scaling_group(
        self,
        name: str,
        *,
        timeout: float = 300,
        on_progress: OnProgress | None = None,
        deployed: ScalingGroupInfo | None = None,
    ) -> ScalingGroupInfo:
        """Wait until the group is available, or a verdict says that it will not be."""

    def delete_scaling_group(
        self,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002
        timeout: float = 120,
        on_progress: OnProgress | None = None,
    ) -> DeleteResult:
        """Delete, and wait until nothing is left."""

    def render_manifests(
        self, spec: ScalingGroupSpec, *, image: Image | None = None, content: Content | None = None
    ) -> tuple[Manifest, ...]:
        """The objects that a create would apply."""


def connect(**settings: Any) -> Client:
    """The real client; importing it here keeps `--help` free of it."""
    from chalkcompute import ChalkClient

    return ChalkClient(**settings)


class CliContext:
    """One invocation: what was asked for globally, and the way to the world.

    Args:
        make_client: Called with the cluster options as keywords.
        environ: Environment variables.
        clock: Seconds on a clock that only goes forward.
        pause: Waits that many seconds.

    Attributes:
        options: Cluster options given as flags or `CHALK_*` (`namespace`, `context`, …).
        quiet: Errors only on stderr.
        verbose: Causes behind an error, and what the SDK logs.
        json: The output format is JSON, so stderr carries nothing but one error object.
        interrupted: What to say when Ctrl-C ends a wait.
    """

    def __init__(
        self,
        make_client: Callable[..., Client] = connect,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.make_client = make_client
        self.pause = pause
        self.environ = environ
        self._clock = clock
        self._started = clock()
        self.options: dict[str, str] = {}
        self.quiet = False
        self.verbose = False
        self.json = False
        self.interrupted: str | None = None
        self._warned: set[str] = set()

    @property
    def elapsed(self) -> float:
        """Seconds since the command began."""
        return self._clock() - self._started

    @property
    def talks(self) -> bool:
        """Whether stderr may carry anything but errors."""
        return not self.quiet and (self.verbose or not self.json)

    def talk(self, message: str) -> None:
        """Say something to a person, on stderr."""
        if self.talks:
            click.echo(message, err=True)

    def warn(self, message: str) -> None:
        """Say what is worth knowing, on stderr, once: it may come with the deploy and with the wait."""
        if message not in self._warned:
            self._warned.add(message)
            self.talk(f"warning: {printable(with_flags(message))}")

    def client(self, **more: str | None) -> Client:
        """A client for the cluster that the options name."""
        import logging

        if self.verbose:
            logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
            logging.getLogger("chalkcompute").setLevel(logging.DEBUG)
        elif not logging.getLogger().handlers:
            # Whoever logs where nobody listens prints to stderr, which is ours: the Kubernetes client does.
            logging.getLogger().addHandler(logging.NullHandler())
        return self.make_client(**self.options, **{k: v for k, v in more.items() if v is not None})

    def announce(self, client: Client) -> Target:
        """Say which cluster and namespace a write goes to, before it does."""
        target = client.target()
        self.talk(f"→ context `{target.context}` ({target.server}), namespace `{target.namespace}`")
        return target


pass_cli = click.make_pass_decorator(CliContext, ensure=True)
