"""`ChalkClient`: the verbs over one cluster, as plain functions over values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chalkcompute.errors import ChalkError, SpecError
from chalkcompute.types import (
    DeleteResult,
    DeployResult,
    ListScalingGroupsResponse,
    Manifest,
    OnProgress,
    ScalingGroupInfo,
    Target,
)

if TYPE_CHECKING:
    import httpx

    from chalkcompute.cluster.kubeconfig import Connection
    from chalkcompute.cluster.protocol import Cluster
    from chalkcompute.manifests.placement import Gateway
    from chalkcompute.service.read import WayIn
    from chalkcompute.service.scope import Scope, World
    from chalkcompute.settings import Settings
    from chalkcompute.spec import ScalingGroupSpec

__all__ = ["ChalkClient"]


class ChalkClient:
    """Scaling groups of one namespace of one cluster.

    Constructing it reads nothing and sends nothing; the kubeconfig is read, and the cluster asked, by
    the first verb. Where a value is not given, `chalkcompute.settings` says where it comes from.

    Args:
        kubeconfig: kubeconfig file; else `CHALK_KUBECONFIG`, `KUBECONFIG`, `~/.kube/config`.
        context: kubeconfig context; else `CHALK_CONTEXT`, the current one.
        namespace: Kubernetes namespace; else `CHALK_NAMESPACE`, the context's, `default`.
        environment: Environment id; else `CHALK_ENVIRONMENT`, the namespace's annotation or name.
        gateway: `namespace/name` of the Gateway; else `CHALK_GATEWAY`, the one that fits.
        gateway_domain: Its domain; else `CHALK_GATEWAY_DOMAIN`, its wildcard listener's.
        env_file: File to read instead of `.env` of the working folder; else `CHALK_ENV_FILE`.

    Every verb raises `ConnectionConfigError` when no cluster is configured, `UnreachableError` when
    it does not answer, and `ForbiddenError` when the credential lacks a permission.
    """

    def __init__(
        self,
        *,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        namespace: str | None = None,
        environment: str | None = None,
        gateway: str | None = None,
        gateway_domain: str | None = None,
        env_file: str | Path | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "kubeconfig": kubeconfig,
            "context": context,
            "namespace": namespace,
            "environment": environment,
            "gateway": gateway,
            "gateway_domain": gateway_domain,
            "env_file": env_file,
        }
        self._loaded: Settings | None = None
        self._chosen: Connection | None = None
        self._opened: Cluster | None = None
        self._ways_in: dict[Gateway, WayIn] = {}
        self._made_world: World | None = None
        self._ahead: Callable[[], timedelta] = timedelta

    @classmethod
    def over(cls, cluster: Cluster, settings: Settings, world: World | None = None) -> ChalkClient:
        """A client over a cluster that is already open; for tests and for embedding.

        Args:
            cluster: Anything that has the calls of `cluster.protocol.Cluster`.
            settings: As of `load_settings`.
            world: Clock, sleep and chance; the real ones when None.
        """
        client = cls()
        client._loaded = settings
        client._opened = cluster
        client._made_world = world
        return client

    def target(self) -> Target:
        """Server, context and namespace that the verbs work on; sends no request."""
        if self._opened is not None and self._chosen is None:
            return Target(self._opened.server, "", self._namespace())
        connection = self._connection()
        return Target(connection.server, connection.context, self._namespace())

    def list_scaling_groups(
        self, *, include_deleted: bool = False, tags: Mapping[str, str] | None = None
    ) -> ListScalingGroupsResponse:
        """All groups of the namespace, by name; two requests for up to 500 of them.

        Args:
            include_deleted: Also those in history, with status `Deleted`.
            tags: Only groups that carry all of these tags.
        """
        from chalkcompute.service.read import list_groups

        found = list_groups(
            self._cluster(), self._scope(), include_deleted=include_deleted, tags=tags, world=self._world()
        )
        return ListScalingGroupsResponse(found)

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> ScalingGroupInfo:  # noqa: A002
        """One group, as it is now; at most five requests.

        Args:
            name: Its name.
            id: Its id instead; finds a deleted group too.

        Raises:
            NotFoundError: There is none.
            SpecError: Not exactly one of `name` and `id` is given.
        """
        from chalkcompute.service.read import get_group, get_group_by_id

        _exactly_one(name, id)
        if id is not None:
            return get_group_by_id(self._cluster(), self._scope(), id, world=self._world())
        return get_group(self._cluster(), self._scope(), name or "", world=self._world())

    def create_scaling_group(
        self,
        spec: ScalingGroupSpec,
        *,
        update: bool = True,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> DeployResult:
        """Create the group, or update it to this spec; applies and does not wait.

        Args:
            spec: What it should be.
            update: False refuses when the name exists already.
            dry_run: Ask the server whether it would accept everything, and change nothing.
            on_progress: Called on every step.

        Raises:
            ConflictError: It exists (with `update=False`), or someone else is working on it.
            NotOwnedError: An object of the same name is someone else's; nothing was changed.
            CapabilityError: The cluster lacks what the spec needs.
            InvalidObjectError: The API server refuses an object; nothing was changed.
            DeployFailedError: Quota or policy would refuse the pods; nothing was changed.
        """
        from chalkcompute.service.create import create_group

        return create_group(
            self._cluster(),
            self._scope(),
            spec,
            update=update,
            dry_run=dry_run,
            on_progress=on_progress,
            world=self._world(),
        )

    def wait_scaling_group(
        self,
        name: str,
        *,
        until: Literal["running", "ready", "available"] = "available",
        timeout: float = 300,
        on_progress: OnProgress | None = None,
        deployed: ScalingGroupInfo | None = None,
    ) -> ScalingGroupInfo:
        """Wait until the group serves, or until it is certain that it will not.

        Args:
            name: Its name.
            until: `running`: a replica runs; `ready`: one replica of the current revision is ready
                and the route accepted; `available`: every desired one is.
            timeout: Seconds.
            on_progress: Called on every change.
            deployed: What `create_scaling_group` returned as `info`: then only that revision will do. By
                default whichever is the current one.

        Raises:
            ConflictError: Someone deployed another revision than `deployed` meanwhile.
            NotFoundError: There is no such group, or someone deleted it meanwhile.
            DeployFailedError: A verdict says that it cannot get there by itself.
            WaitTimeoutError: Not in time; carries the verdict so far.
        """
        from chalkcompute.service.wait import Deployed, wait_group

        return wait_group(
            self._cluster(),
            self._scope(),
            name,
            until=until,
            timeout=timeout,
            on_progress=on_progress,
            world=self._world(),
            deployed=Deployed(deployed.id, deployed.revision) if deployed is not None else None,
        )

    def delete_scaling_group(
        self,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002
        timeout: float = 120,
        on_progress: OnProgress | None = None,
    ) -> DeleteResult:
        """Delete the group and wait until nothing of it is left; its history stays.

        Run again, it finishes a delete that was interrupted.

        Args:
            name: Its name.
            id: Its id instead.
            timeout: Seconds to wait for the objects to go; the cluster goes on by itself after.
            on_progress: Called on every change.

        Raises:
            NotFoundError: There is none, and no leftovers of one either.
            SpecError: Not exactly one of `name` and `id` is given.
            ConflictError: Objects are left when time is up; the message lists them.
        """
        from chalkcompute.service.delete import delete_group

        _exactly_one(name, id)
        return delete_group(
            self._cluster(),
            self._scope(),
            name=name,
            group_id=id,
            timeout=timeout,
            on_progress=on_progress,
            world=self._world(),
        )

    def render_manifests(self, spec: ScalingGroupSpec) -> tuple[Manifest, ...]:
        """The objects that `create_scaling_group` would apply, without owner references.

        Asks the cluster for environment and gateway, unless the settings name both and the domain:
        then it works without a cluster.
        """
        from chalkcompute.service.offline import render_offline, render_online

        scope = self._scope()
        return render_offline(scope, spec) or render_online(self._cluster(), scope, spec)

    def call(
        self,
        name: str,
        path: str = "/",
        *,
        method: str = "POST",
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: str | bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
        cold_start_timeout: float = 300.0,
    ) -> httpx.Response:
        """One HTTP request through the group's route.

        Tried again only while the gateway itself has no replica to send it to.

        Args:
            name: The group's name.
            path: Path below its URL.
            method: HTTP method.
            json: Body as JSON; at most one of `json`, `data`, `content`.
            data: Form fields.
            content: Raw body.
            headers: Request headers.
            params: Query parameters.
            timeout: Seconds for each attempt.
            cold_start_timeout: Seconds to go on trying; 0 tries once.

        Raises:
            NotFoundError: There is no such group.
            UnreachableError: No connection, or no answer in time.
            SpecError: More than one body, or what can be no request; nothing was sent.
        """
        from chalkcompute.service.call import call_group
        from chalkcompute.service.request import Call

        call = Call(
            path=path,
            method=method,
            json=json,
            data=data,
            content=content,
            headers=headers if headers is not None else {},
            params=params,
            timeout=timeout,
            cold_start_timeout=cold_start_timeout,
        )
        return call_group(
            self._cluster(),
            self._scope(),
            name,
            call,
            address=self._settings().gateway_address,
            ca_file=self._settings().ca_file,
            ways_in=self._ways_in,
            world=self._world(),
        )

    def _settings(self) -> Settings:
        if self._loaded is None:
            from chalkcompute.settings import load_settings

            self._loaded = load_settings(**self._arguments)
        return self._loaded

    def _connection(self) -> Connection:
        if self._chosen is None:
            from chalkcompute.settings import choose_connection

            self._chosen = choose_connection(self._settings())
        return self._chosen

    def _cluster(self) -> Cluster:
        if self._opened is None:
            from chalkcompute.cluster.rest import RestCluster
            from chalkcompute.cluster.transport import OfficialTransport

            transport = OfficialTransport(self._connection())
            # By the server's clock: times in objects are by that.
            self._ahead = lambda: transport.ahead
            self._opened = RestCluster(transport)
        return self._opened

    def _namespace(self) -> str:
        settings = self._settings()
        if settings.namespace is not None:
            return settings.namespace
        if self._opened is not None and self._chosen is None:
            return "default"  # over a cluster that someone else opened there is no context to ask
        return self._connection().namespace or "default"

    def _scope(self) -> Scope:
        from chalkcompute.service.scope import Scope

        settings = self._settings()
        offline = None not in (settings.environment, settings.gateway, settings.gateway_domain)
        try:
            namespace = self._namespace()
        except ChalkError:
            if not offline:
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
        )

    def _world(self) -> World:
        if self._made_world is None:
            from chalkcompute.service.scope import World

            self._made_world = World(now=lambda: datetime.now(UTC) + self._ahead())
        return self._made_world


def _exactly_one(name: str | None, group_id: str | None) -> None:
    if (name is None) == (group_id is None):
        raise SpecError("exactly one of `name` and `id` must be given", field="name")
