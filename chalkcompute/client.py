"""`ChalkClient`: the verbs over one cluster, as plain functions over values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chalkcompute.reads import Reads
from chalkcompute.session import Session
from chalkcompute.types import (
    DeleteResult,
    DeployResult,
    Manifest,
    OnProgress,
    ScalingGroupInfo,
    Target,
)

if TYPE_CHECKING:
    import httpx

    from chalkcompute.cluster.protocol import Cluster
    from chalkcompute.image import Image
    from chalkcompute.secret import Secret
    from chalkcompute.service.scope import World
    from chalkcompute.service.volume_data import VolumeAccess
    from chalkcompute.settings import Settings
    from chalkcompute.spec import ScalingGroupSpec
    from chalkcompute.spec.content import Content

__all__ = ["ChalkClient"]


class ChalkClient(Reads):
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
        self._session = Session(
            {
                "kubeconfig": kubeconfig,
                "context": context,
                "namespace": namespace,
                "environment": environment,
                "gateway": gateway,
                "gateway_domain": gateway_domain,
                "env_file": env_file,
            }
        )

    @classmethod
    def over(cls, cluster: Cluster, settings: Settings, world: World | None = None) -> ChalkClient:
        """A client over a cluster that is already open; for tests and for embedding.

        Args:
            cluster: Anything that has the calls of `cluster.protocol.Cluster`.
            settings: As of `load_settings`.
            world: Clock, sleep and chance; the real ones when None.
        """
        client = cls()
        client._session = Session.over(cluster, settings, world)
        return client

    def target(self) -> Target:
        """Server, context and namespace that the verbs work on; sends no request."""
        return self._session.target()

    def open_volumes(self) -> VolumeAccess:
        """How `Volume` reaches what is in the volumes of the namespace; sends no request."""
        return self._session.volumes()

    def read_secrets(self, secrets: Sequence[Secret], *, names_only: bool = False) -> Content:
        """The values of secrets as they are now, for `create_scaling_group`; sends no request.

        Args:
            secrets: The secrets of one group.
            names_only: Leave the values out, for `render_manifests`; then none has to be set.

        Raises:
            SpecError: A variable is not set or empty, or a file cannot be read; the message names it.
            ConfigError: The `.env` file cannot be read.
        """
        from chalkcompute.secret import check_secrets, resolve

        checked = check_secrets(secrets)
        environ = self._session.environment() if checked and not names_only else {}
        return resolve(checked, environ, names_only=names_only)

    def create_scaling_group(
        self,
        spec: ScalingGroupSpec,
        *,
        image: Image | None = None,
        content: Content | None = None,
        update: bool = True,
        dry_run: bool = False,
        wait_timeout: float | None = None,
        expected: ScalingGroupInfo | None = None,
        on_progress: OnProgress | None = None,
    ) -> DeployResult:
        """Create the group, or update it to this spec; applies and does not wait.

        Args:
            spec: What it should be.
            image: What its image consists of, instead of the reference that `spec` has: built and pushed if
                need be, before anything is applied.
            content: What goes with it and is never recorded: values of secrets, bytes of files.
            update: False refuses when the name exists already.
            dry_run: Ask the server whether it would accept everything, and change nothing.
            wait_timeout: Seconds that the caller is going to wait for it: too few are warned of.
            expected: The group as it was read: refuse when it is another, or in another revision, by now.
            on_progress: Called on every step.

        Raises:
            ConflictError: It exists (with `update=False`), is not what was `expected`, or someone else is
                working on it.
            NotOwnedError: An object of the same name is someone else's; nothing was changed.
            CapabilityError: The cluster lacks what the spec needs.
            InvalidObjectError: The API server refuses an object; nothing was changed.
            DeployFailedError: Quota or policy would refuse the pods; nothing was changed.
            SpecError: `spec` is no `ScalingGroupSpec`, or names a Secret or volume that is not there; or a
                local file of `image` cannot be read.
            ImageError: The image cannot be built or pushed; nothing was changed in the cluster.
        """
        from chalkcompute.service.arguments import require_content, require_spec
        from chalkcompute.service.create import create_group
        from chalkcompute.service.expected import Expected
        from chalkcompute.spec.advice import advise_wait

        spec, content = require_spec(spec), require_content(content)
        warnings = advise_wait(spec, wait_timeout)
        if image is not None:
            from chalkcompute.prepare import prepare_image

            made = prepare_image(
                self._session, spec, image, content, push=not dry_run, on_progress=on_progress
            )
            spec, content, warnings = made.spec, made.content, (*warnings, *made.warnings)
        result = create_group(
            self._session.cluster(),
            self._session.scope(),
            spec,
            content=content,
            update=update,
            dry_run=dry_run,
            expected=Expected(expected.id, expected.revision) if expected is not None else None,
            on_progress=on_progress,
            world=self._session.world(),
        )
        return replace(result, warnings=(*warnings, *result.warnings))

    def wait_scaling_group(
        self,
        name: str,
        *,
        id: str | None = None,  # noqa: A002
        until: Literal["running", "ready", "available"] = "available",
        timeout: float = 300,
        on_progress: OnProgress | None = None,
        deployed: ScalingGroupInfo | None = None,
    ) -> ScalingGroupInfo:
        """Wait until the group serves, or until it is certain that it will not.

        Args:
            name: Its name.
            id: Its id as well: then another group that has the name meanwhile will not do.
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
            SpecError: `until` is none of these.
        """
        from chalkcompute.service.arguments import require_name, require_until
        from chalkcompute.service.wait import Awaited, wait_group

        require_name(name)
        require_until(until)
        awaited = Awaited(id) if id is not None else None
        if deployed is not None:
            awaited = Awaited(deployed.id, deployed.revision)
        return wait_group(
            self._session.cluster(),
            self._session.scope(),
            name,
            until=until,
            timeout=timeout,
            on_progress=on_progress,
            world=self._session.world(),
            awaited=awaited,
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
        from chalkcompute.service.arguments import require_one
        from chalkcompute.service.delete import delete_group

        require_one(name, id)
        return delete_group(
            self._session.cluster(),
            self._session.scope(),
            name=name,
            group_id=id,
            timeout=timeout,
            on_progress=on_progress,
            world=self._session.world(),
        )

    def render_manifests(
        self, spec: ScalingGroupSpec, *, image: Image | None = None, content: Content | None = None
    ) -> tuple[Manifest, ...]:
        """The objects that `create_scaling_group` would apply, without owner references.

        Asks the cluster for environment and gateway, unless the settings name both and the domain:
        then it works without a cluster.

        Args:
            spec: What the group should be.
            image: What its image consists of; it is built if need be, and not pushed.
            content: What goes with it. Of secrets only the names matter: no value is in the output.

        Raises:
            CapabilityError: The cluster that was asked lacks what the spec needs.
            SpecError: `spec` is no `ScalingGroupSpec`, or name and environment are too long together.
        """
        from chalkcompute.service.arguments import require_content, require_spec
        from chalkcompute.service.offline import render_offline, render_online

        spec, content, scope = require_spec(spec), require_content(content), self._session.scope()
        if image is not None:
            from chalkcompute.prepare import prepare_image

            made = prepare_image(self._session, spec, image, content, push=False)
            spec, content = made.spec, made.content
        offline = render_offline(scope, spec, content)
        return offline or render_online(self._session.cluster(), scope, spec, content)

    def call(
        self,
        name: str,
        path: str = "/",
        *,
        id: str | None = None,  # noqa: A002
        method: str = "POST",
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: str | bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
        cold_start_timeout: float = 300.0,
    ) -> httpx.Response:
        """One HTTP request through the group's route; tried again only while the gateway has no replica.

        Args:
            name: The group's name.
            path: Path below its URL.
            id: The id that the group must have: not one of the same name that was made later.
            method: HTTP method.
            json: Body as JSON; at most one of `json`, `data`, `content`.
            data: Form fields.
            content: Raw body.
            headers: Request headers.
            params: Query parameters.
            timeout: Seconds for each attempt; an attempt that a sleeping group wakes for may take
                `cold_start_timeout` more.
            cold_start_timeout: Seconds to go on trying, or to be held for a first replica; 0 tries once.

        Raises:
            NotFoundError: There is no such group, or it has another id.
            UnreachableError: No connection, or no answer in time.
            SpecError: More than one body, or what can be no request; nothing was sent.
        """
        from chalkcompute.service.arguments import require_name
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
            self._session.cluster(),
            self._session.scope(),
            require_name(name),
            call,
            group_id=id,
            address=self._session.settings().gateway_address,
            ca_file=self._session.settings().ca_file,
            ways_in=self._session.ways_in,
            world=self._session.world(),
        )
