"""What the verbs work with: settings, connection, cluster and clock, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalkcompute.errors import ChalkError
from chalkcompute.types import Target

if TYPE_CHECKING:
    from chalkcompute.cluster.kubeconfig import Connection
    from chalkcompute.cluster.protocol import Cluster
    from chalkcompute.manifests.placement import Gateway
    from chalkcompute.service.read import WayIn
    from chalkcompute.service.scope import Scope, World
    from chalkcompute.service.volume_data import VolumeAccess
    from chalkcompute.settings import Settings

__all__ = ["Session"]


class Session:
    """One namespace of one cluster, as the arguments of a `ChalkClient` and the settings name it.

    The only place that makes a real connection. Imports are delayed: a command that never asks a cluster
    does not pay for the Kubernetes client.

    Args:
        arguments: As of `load_settings`.

    Attributes:
        ways_in: What is known of Gateways.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._settings: Settings | None = None
        self._connection: Connection | None = None
        self._cluster: Cluster | None = None
        self._world: World | None = None
        self._ahead: Callable[[], timedelta] = timedelta
        self.ways_in: dict[Gateway, WayIn] = {}

    @classmethod
    def over(cls, cluster: Cluster, settings: Settings, world: World | None) -> Session:
        """One over a cluster that is already open."""
        session = cls({})
        session._cluster, session._settings, session._world = cluster, settings, world
        return session

    def target(self) -> Target:
        """Server, context and namespace; sends no request."""
        if self._cluster is not None and self._connection is None:
            return Target(self._cluster.server, "", self.namespace())
        connection = self.connection()
        return Target(connection.server, connection.context, self.namespace())

    def settings(self) -> Settings:
        """The settings, read once."""
        if self._settings is None:
            from chalkcompute.settings import load_settings

            self._settings = load_settings(**self._arguments)
        return self._settings

    def environment(self) -> dict[str, str]:
        """The environment that deploys, its `.env` file included; read anew each time, and not kept."""
        from chalkcompute.settings import deployers_environment

        return deployers_environment(env_file=self._arguments.get("env_file"))

    def connection(self) -> Connection:
        """Which API server, and as whom."""
        if self._connection is None:
            from chalkcompute.connection import choose_connection

            self._connection = choose_connection(self.settings())
        return self._connection

    def cluster(self) -> Cluster:
        """The open cluster; no request is sent yet."""
        if self._cluster is None:
            from chalkcompute.cluster.rest import RestCluster
            from chalkcompute.cluster.transport import OfficialTransport

            transport = OfficialTransport(self.connection())
            # By the server's clock: times in objects are by that.
            self._ahead = lambda: transport.ahead
            self._cluster = RestCluster(transport)
        return self._cluster

    def namespace(self) -> str:
        """Where the groups are."""
        settings = self.settings()
        if settings.namespace is not None:
            return settings.namespace
        if self._cluster is not None and self._connection is None:
            return "default"  # over a cluster that someone else opened there is no context to ask
        return self.connection().namespace or "default"

    def scope(self) -> Scope:
        """Where to work, as far as it was said."""
        from chalkcompute.service.scope import Scope

        settings = self.settings()
        try:
            namespace = self.namespace()
        except ChalkError:
            if None in (settings.environment, settings.gateway, settings.gateway_domain):
                raise
            namespace = "default"  # `render_manifests` needs no cluster then
        return Scope(
            namespace=namespace,
            environment=settings.environment,
            gateway=settings.gateway,
            gateway_section=settings.gateway_section,
            gateway_domain=settings.gateway_domain,
            gateway_port=settings.gateway_port,
            profile=settings.profile,
            registry=settings.registry,
            platforms=settings.platforms,
        )

    def volumes(self) -> VolumeAccess:
        """How what is in the volumes of the namespace is reached; sends no request."""
        from chalkcompute.cluster.exec import OfficialExecs
        from chalkcompute.service.volume_data import VolumeAccess
        from chalkcompute.service.volume_pod import IMAGE

        settings = self.settings()
        return VolumeAccess(
            cluster=self.cluster(),
            namespace=self.namespace(),
            execs=lambda: OfficialExecs(self.connection()),
            local_kubeconfig=settings.local_kubeconfig,
            image=settings.volume_image or IMAGE,
            world=self.world(),
        )

    def world(self) -> World:
        """Clock, sleep and chance."""
        if self._world is None:
            from chalkcompute.service.scope import World

            self._world = World(now=lambda: datetime.now(UTC) + self._ahead())
        return self._world
