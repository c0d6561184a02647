"""`ScalingGroup`: one scaling group as an object that users hold."""

from __future__ import annotations

import secrets as _random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from chalkcompute.client import ChalkClient
from chalkcompute.errors import ChalkError, NotFoundError, SpecError
from chalkcompute.types import OnProgress, ScalingGroupInfo, Status

if TYPE_CHECKING:
    import httpx

    from chalkcompute.probes import ReadinessProbe
    from chalkcompute.spec import ScalingGroupSpec

__all__ = ["ScalingGroup"]


class ScalingGroup:
    """A replicated service behind HTTPS: describe it, `deploy()` it, `call()` it, `delete()` it.

    Constructing it checks the description and touches no network.

    Args:
        image: Image reference (`containers[0].image`).
        name: Name, a DNS label of at most 54 characters; else `sg-` and eight hexadecimal digits.
        port: Port that the replicas listen on (`containerPort`), 1 to 65535.
        min_replicas: Lower bound of the autoscaler; 0 scales to zero when idle (needs KEDA).
        max_replicas: Upper bound; equal to `min_replicas` means a fixed count.
        target_cpu_utilization_percentage: Average CPU use aimed at, percent of the request; the
            cluster's default when None (HorizontalPodAutoscaler `averageUtilization`).
        scaling_interval_seconds: At most one scaling step in so many seconds (`periodSeconds`).
        shutdown_delay_seconds: Seconds that a replica goes on serving once it is to be removed
            (`preStop.sleep`).
        cpu: Cores, `"2"` or `"500m"`: request and limit. None: request 100m, limit 1.
        memory: Bytes, `"4Gi"`: request and limit. None: request 256Mi, limit 1Gi.
        gpu: `"type:count"` or `"count"` (`nvidia.com/gpu`).
        env: Environment variables.
        secrets: Not supported yet.
        volumes: Not supported yet.
        entrypoint: Command instead of the image's own (`command`).
        tags: Labels `chalk.ai/tag-<key>` of every object.
        readiness_probe: When a replica counts as ready; a TCP connect to `port` when None.
        client: Client to work through; a `ChalkClient()` of its own when None.

    Raises:
        SpecError: A description that cannot be; `field` names the argument.
    """

    def __init__(
        self,
        *,
        image: str,
        name: str | None = None,
        port: int = 8080,
        min_replicas: int = 1,
        max_replicas: int = 1,
        target_cpu_utilization_percentage: int | None = None,
        scaling_interval_seconds: int | None = None,
        shutdown_delay_seconds: int | None = None,
        cpu: str | None = None,
        memory: str | None = None,
        gpu: str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: object = None,
        volumes: object = None,
        entrypoint: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        readiness_probe: ReadinessProbe | None = None,
        client: ChalkClient | None = None,
    ) -> None:
        from chalkcompute.spec import ScalingGroupSpec

        _not_yet("secrets", secrets)
        _not_yet("volumes", volumes)
        if not isinstance(image, str):
            raise SpecError(
                f"`image` must be an image reference (a string), not {type(image).__name__}",
                field="image",
                hint="building an image from a description is not supported yet",
            )
        if isinstance(entrypoint, str):
            raise SpecError(
                "`entrypoint` must be a list of strings, not one string",
                field="entrypoint",
                hint=f"for example {entrypoint.split()!r}",
            )
        self._client = client if client is not None else ChalkClient()
        self._spec: ScalingGroupSpec | None = ScalingGroupSpec(
            name=name if name is not None else f"sg-{_random.token_hex(4)}",
            image=image,
            port=port,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            target_cpu_utilization_percentage=target_cpu_utilization_percentage,
            scaling_interval_seconds=scaling_interval_seconds,
            shutdown_delay_seconds=shutdown_delay_seconds,
            cpu=cpu,
            memory=memory,
            gpu=gpu,
            env=env if env is not None else {},
            tags=tags if tags is not None else {},
            entrypoint=tuple(entrypoint) if entrypoint is not None else None,
            readiness_probe=readiness_probe,
        )
        self._name = self._spec.name
        self._info: ScalingGroupInfo | None = None

    @classmethod
    def from_name(cls, name: str, *, client: ChalkClient | None = None) -> ScalingGroup:
        """The existing group of that name, made here or on the command line.

        Raises:
            NotFoundError: There is none.
        """
        chosen = client if client is not None else ChalkClient()
        return cls._attached(chosen, chosen.get_scaling_group(name))

    @classmethod
    def from_id(cls, id: str, *, client: ChalkClient | None = None) -> ScalingGroup:  # noqa: A002
        """The group of that id; also a deleted one, whose `deploy()` brings it back.

        Raises:
            NotFoundError: There is none.
        """
        chosen = client if client is not None else ChalkClient()
        return cls._attached(chosen, chosen.get_scaling_group(id=id))

    @classmethod
    def _attached(cls, client: ChalkClient, info: ScalingGroupInfo) -> ScalingGroup:
        handle = cls.__new__(cls)
        handle._client = client
        handle._spec = None
        handle._name = info.name
        handle._info = info
        return handle

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def id(self) -> str | None:
        """UUID of this incarnation; None before `deploy()` and after `delete()`."""
        return self._info.id if self._info is not None else None

    @property
    def info(self) -> ScalingGroupInfo | None:
        """The group as last seen; None before `deploy()` and after `delete()`."""
        return self._info

    @property
    def status(self) -> Status | None:
        """Status as last seen; None before `deploy()` and after `delete()`."""
        return self._info.status if self._info is not None else None

    @property
    def web_url(self) -> str | None:
        """`https://<environment>-<name>.<gateway-domain>`; None before `deploy()`."""
        return self._info.web_url if self._info is not None else None

    @property
    def revision(self) -> int | None:
        """Revision as last seen; None before `deploy()` and after `delete()`."""
        return self._info.revision if self._info is not None else None

    def deploy(self, *, timeout: float = 300, on_progress: OnProgress | None = None) -> ScalingGroup:
        """Create the group or update it to this description, and wait until a replica runs.

        On a handle of `from_name` or `from_id`, deploys again what is recorded.

        Args:
            timeout: Seconds to wait for `Running` or better.
            on_progress: Called on every change.

        Returns:
            This object.

        Raises:
            DeployFailedError: A verdict says that it cannot get there by itself.
            WaitTimeoutError: Not in time.
            ConflictError: Someone else is working on it, or on an object of its name, or has deployed another
                revision meanwhile.
        """
        result = self._client.create_scaling_group(self._description(), on_progress=on_progress)
        self._info = result.info
        return self._wait("running", timeout, on_progress, deployed=result.info)

    def wait_ready(self, *, timeout: float = 120, on_progress: OnProgress | None = None) -> ScalingGroup:
        """Wait until one replica of the current revision is ready and the route accepted.

        Args:
            timeout: Seconds.
            on_progress: Called on every change.

        Returns:
            This object.

        Raises:
            DeployFailedError: A verdict says that it cannot get there by itself.
            WaitTimeoutError: Not in time.
            NotFoundError: It is not deployed.
        """
        self._deployed("wait_ready")
        return self._wait("ready", timeout, on_progress)

    def call(
        self,
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
        """One HTTP request to `web_url`; tried again only while the gateway has no replica for it.

        Args:
            path: Path below `web_url`; exactly one slash joins them.
            method: HTTP method.
            json: Body as JSON; at most one of `json`, `data`, `content`.
            data: Form fields.
            content: Raw body.
            headers: Request headers.
            params: Query parameters.
            timeout: Seconds for each attempt.
            cold_start_timeout: Seconds to go on trying; 0 tries once.

        Raises:
            NotFoundError: It is not deployed.
            UnreachableError: No connection, or no answer in time.
            SpecError: More than one body.
        """
        self._deployed("call")
        return self._client.call(
            self._name,
            path,
            method=method,
            json=json,
            data=data,
            content=content,
            headers=headers,
            params=params,
            timeout=timeout,
            cold_start_timeout=cold_start_timeout,
        )

    def refresh(self) -> ScalingGroupInfo:
        """Ask the cluster how the group is.

        Raises:
            NotFoundError: It does not exist.
        """
        self._info = self._client.get_scaling_group(self._name)
        return self._info

    def delete(self, *, timeout: float = 120) -> None:
        """Delete the group and wait until nothing of it is left; does nothing if it is not deployed.

        Args:
            timeout: Seconds to wait for the objects to go.
        """
        if self._info is None:
            return
        group_id, self._info = self._info.id, None
        try:
            self._client.delete_scaling_group(id=group_id, timeout=timeout)
        except NotFoundError:
            return  # someone else was quicker: it is gone, which is what was asked for

    def __repr__(self) -> str:
        status = self._info.status.value if self._info is not None else "not deployed"
        return f"ScalingGroup(name={self._name!r}, status={status!r})"

    def _wait(
        self,
        until: Literal["running", "ready"],
        timeout: float,
        on_progress: OnProgress | None,
        *,
        deployed: ScalingGroupInfo | None = None,
    ) -> ScalingGroup:
        try:
            self._info = self._client.wait_scaling_group(
                self._name, until=until, timeout=timeout, on_progress=on_progress, deployed=deployed
            )
        except ChalkError as error:
            self._info = getattr(error, "info", self._info)
            raise
        return self

    def _description(self) -> ScalingGroupSpec:
        from chalkcompute.spec import ScalingGroupSpec

        if self._spec is None:
            self._spec = ScalingGroupSpec.from_dict(dict(self._deployed("deploy").spec))
        return self._spec

    def _deployed(self, verb: str) -> ScalingGroupInfo:
        if self._info is None:
            raise NotFoundError(
                f"scaling group `{self._name}` is not deployed, so `{verb}()` has nothing to work on",
                hint="`deploy()` it first, or take an existing one with `ScalingGroup.from_name`",
            )
        return self._info


def _not_yet(field: str, value: object) -> None:
    if value is not None:
        raise SpecError(f"`{field}` is not supported yet", field=field, hint=f"leave `{field}` out")
