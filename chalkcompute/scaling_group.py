"""`ScalingGroup`: one scaling group as an object that users hold."""

from __future__ import annotations

import contextlib
import secrets as _random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from chalkcompute.client import ChalkClient
from chalkcompute.errors import (
    ClusterError,
    DeployFailedError,
    NotFoundError,
    SpecError,
    WaitTimeoutError,
)
from chalkcompute.types import OnProgress, ScalingGroupInfo, Status

if TYPE_CHECKING:
    import httpx

    from chalkcompute.image import Image
    from chalkcompute.probes import ReadinessProbe
    from chalkcompute.secret import Secret
    from chalkcompute.spec import ScalingGroupSpec
    from chalkcompute.volume import Volume, VolumeMount

__all__ = ["ScalingGroup"]


class ScalingGroup:
    """A replicated service behind HTTPS: describe it, `deploy()` it, `call()` it, `delete()` it.

    Constructing it checks the description and touches no network.

    A handle is of one group, known by its id: since its first `deploy()`, or since `from_name` or `from_id`.
    When somebody deletes that group and makes another of the same name, `call()`, `refresh()`,
    `wait_ready()` and `delete()` leave the other one alone. `deploy()` of a handle with a description of its
    own takes what is there, as `chalk scaling-group create` does.

    Args:
        image: Image reference, or an `Image` that each `deploy()` builds and pushes if it has to be
            (`containers[].image`).
        name: Name, a DNS label of at most 54 characters; else `sg-` and eight hexadecimal digits.
        port: Port that the replicas listen on, 1 to 65535; default 8080 (`containerPort`).
        min_replicas: Fewest replicas, 0 or more; default 1. 0 scales to zero when idle and needs KEDA
            (HorizontalPodAutoscaler `minReplicas`, ScaledObject `minReplicaCount`).
        max_replicas: Most replicas, at least 1 and `min_replicas`; default 1. Equal to `min_replicas` it is a
            fixed count (Deployment `spec.replicas`), else the autoscaler's `maxReplicas`, `maxReplicaCount`.
        target_cpu_utilization_percentage: Average CPU use aimed at, 1 to 100 percent of the request; None
            leaves it to the cluster, which aims at 80 (`metrics[].resource.target.averageUtilization`).
        scaling_interval_seconds: At most one scaling step in that many seconds, 1 to 1800; None leaves it to
            the cluster, whose autoscaler steps every 15 (`behavior.*.policies[].periodSeconds`).
        shutdown_delay_seconds: Seconds that a replica goes on serving once it is to be removed, 0 to 3600;
            None is 5 (`containers[].lifecycle.preStop.sleep.seconds`).
        startup_timeout_seconds: Seconds that a replica may take until it is ready for the first time, 1 to
            21600: at least so long it is left alone, soon after it is started again. None waits for ever
            (`containers[].startupProbe.failureThreshold`; added to `progressDeadlineSeconds`).
        idle_timeout_seconds: Seconds without a request after which the last replica goes, 1 to 86400; None
            is 300. Only with `min_replicas=0` (ScaledObject `cooldownPeriod`).
        cpu: Cores, `"2"` or `"500m"`: request and limit (`resources.*.cpu`). None: request 100m, limit 1.
        memory: Bytes with a unit, `"4Gi"`: request and limit (`resources.*.memory`). None: request 256Mi,
            limit 1Gi.
        gpu: `"type:count"` or `"count"`, 1 to 99; None is none (`resources.*."nvidia.com/gpu"`).
        env: Environment variables, names to literal texts or Secrets of one value (`containers[].env`).
        secrets: Secret environment variables, read at each `deploy()`; None is none
            (`containers[].env[].valueFrom.secretKeyRef`).
        volumes: What to mount: `(name, path)`, `(Volume, path)`, Volume or VolumeMount; None is none.
            No group owns a volume, and none is ever deleted (`containers[].volumeMounts`).
        entrypoint: Command instead of the image's own, one item an argument; None keeps that
            (`containers[].command`).
        tags: Labels `chalk.ai/tag-<key>` of every object; None is none.
        readiness_probe: When a replica counts as ready, and so gets requests; None is a TCP connect to `port`
            every 5 seconds, of which three in a row may not fail (`containers[].readinessProbe`).
        client: Client to work through; a `ChalkClient()` of its own when None.

    Raises:
        SpecError: A description that cannot be; `field` names the argument.
    """

    def __init__(
        self,
        *,
        image: str | Image,
        name: str | None = None,
        port: int = 8080,
        min_replicas: int = 1,
        max_replicas: int = 1,
        target_cpu_utilization_percentage: int | None = None,
        scaling_interval_seconds: int | None = None,
        shutdown_delay_seconds: int | None = None,
        startup_timeout_seconds: int | None = None,
        idle_timeout_seconds: int | None = None,
        cpu: str | None = None,
        memory: str | None = None,
        gpu: str | None = None,
        env: Mapping[str, str | Secret] | None = None,
        secrets: Sequence[Secret] | None = None,
        volumes: Sequence[tuple[str | Volume, str] | Volume | VolumeMount] | None = None,
        entrypoint: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        readiness_probe: ReadinessProbe | None = None,
        client: ChalkClient | None = None,
    ) -> None:
        from chalkcompute.image import Image
        from chalkcompute.secret import gather, references
        from chalkcompute.spec import ScalingGroupSpec
        from chalkcompute.volume import gather_volumes

        self._image = image if isinstance(image, Image) else None
        self._client = _chosen(client)
        plain, self._secrets = gather(env, secrets)
        mounts, self._claims = gather_volumes(volumes)
        self._spec: ScalingGroupSpec | None = ScalingGroupSpec(
            name=name if name is not None else f"sg-{_random.token_hex(4)}",
            # Of a description the base, until a deploy has built it.
            image=self._image.placeholder if self._image is not None else cast("str", image),
            port=port,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            target_cpu_utilization_percentage=target_cpu_utilization_percentage,
            scaling_interval_seconds=scaling_interval_seconds,
            shutdown_delay_seconds=shutdown_delay_seconds,
            startup_timeout_seconds=startup_timeout_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            cpu=cpu,
            memory=memory,
            gpu=gpu,
            env=plain,
            tags=tags if tags is not None else {},
            entrypoint=cast("tuple[str, ...] | None", entrypoint),  # the spec checks it, whatever it is
            readiness_probe=readiness_probe,
            secrets=references(self._secrets),
            volumes=mounts,
        )
        self._name = self._spec.name
        self._info: ScalingGroupInfo | None = None

    @classmethod
    def from_name(cls, name: str, *, client: ChalkClient | None = None) -> ScalingGroup:
        """The existing group of that name, made here or on the command line.

        Args:
            name: Its name.
            client: Client to work through; a `ChalkClient()` of its own when None.

        Returns:
            A handle of the group that has the name now. It keeps no description: `deploy()` deploys what is
            recorded by then, other people's changes included.

        Raises:
            NotFoundError: There is none, or the namespace does not exist.
        """
        chosen = _chosen(client)
        return cls._attached(chosen, chosen.get_scaling_group(name))

    @classmethod
    def from_id(cls, id: str, *, client: ChalkClient | None = None) -> ScalingGroup:  # noqa: A002
        """The group of that id; also a deleted one, whose `deploy()` brings it back under a new id.

        Args:
            id: UUID of the group, as `info.id` has it.
            client: Client to work through; a `ChalkClient()` of its own when None.

        Returns:
            A handle as of `from_name`. Of a deleted group it is good for `info`, `refresh()` and `deploy()`.

        Raises:
            NotFoundError: There is none and was none, or the namespace does not exist.
        """
        chosen = _chosen(client)
        return cls._attached(chosen, chosen.get_scaling_group(id=id))

    @classmethod
    def _attached(cls, client: ChalkClient, info: ScalingGroupInfo) -> ScalingGroup:
        handle = cls.__new__(cls)
        handle._client = client
        handle._spec, handle._image, handle._secrets, handle._claims = None, None, (), ()
        handle._name = info.name
        handle._info = info
        return handle

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def id(self) -> str | None:
        """UUID of the group that this handle is of; None before `deploy()` and after `delete()`."""
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

        With a description of its own (the constructor's), takes whatever group has the name by now. On a
        handle of `from_name` or `from_id`, deploys again what is recorded with that group at this moment; a
        deleted group is made again, if its name is free, and the handle is of the new one from then on.

        Args:
            timeout: Seconds to wait for `Running` or better.
            on_progress: Called on every change.

        Returns:
            This object. What the user should know is logged as warnings of the logger `chalkcompute`.

        Raises:
            DeployFailedError: A verdict says that it cannot get there by itself.
            WaitTimeoutError: Not in time.
            ConflictError: Someone else is working on it, or on an object of its name, or has deployed another
                revision meanwhile; or it was deleted and its name belongs to another group now.
            NotFoundError: It was deleted through this handle, or is deleted while we wait.
        """
        from chalkcompute.service.progress import from_now_on, log_warnings

        spec, terms = (self._spec, {}) if self._spec is not None else self._recorded()
        report = from_now_on(on_progress)
        content = replace(self._client.read_secrets(self._secrets), claims=self._claims)
        result = self._client.create_scaling_group(
            spec, image=self._image, content=content, wait_timeout=timeout, on_progress=report, **terms
        )
        log_warnings(self._name, result.warnings)  # before the wait, which they may be about
        self._info = result.info
        self._wait("running", timeout=timeout, on_progress=report, deployed=result.info)
        known = self._info.warnings if self._info is not None else ()
        log_warnings(self._name, [each for each in known if each not in result.warnings])
        return self

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
            NotFoundError: It is not deployed, or was deleted, whoever has its name now.
        """
        self._deployed("wait_ready")
        with contextlib.suppress(ClusterError):  # an API server that is away for a moment ends no wait
            self.refresh()
        self._deployed("wait_ready", alive=True)
        return self._wait("ready", timeout=timeout, on_progress=on_progress)

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
            timeout: Seconds for each attempt; an attempt that a sleeping group wakes for may take
                `cold_start_timeout` more.
            cold_start_timeout: Seconds to go on trying, or to be held for a first replica; 0 tries once.

        Raises:
            NotFoundError: It is not deployed, or was deleted, whoever has its name now.
            UnreachableError: No connection, or no answer in time.
            SpecError: More than one body.
        """
        info = self._deployed("call", alive=True)
        return self._client.call(
            self._name,
            path,
            id=info.id,
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

        Returns:
            The group as it is now; with status `Deleted` when it was deleted, whoever has its name now.

        Raises:
            NotFoundError: It is not deployed, or nothing is left that tells of it.
        """
        self._info = self._client.get_scaling_group(id=self._deployed("refresh").id)
        return self._info

    def delete(self, *, timeout: float = 120) -> None:
        """Delete the group and wait until nothing of it is left; its history stays.

        Does nothing if it is not deployed or was deleted already. After an error it can be called again.

        Args:
            timeout: Seconds to wait for the objects to go; the cluster goes on by itself after.

        Raises:
            ConflictError: Someone else is working on it, or objects are left when time is up.
            ForbiddenError: The credential may not delete it.
            UnreachableError: The API server did not answer.
        """
        if self._info is None:
            return
        with contextlib.suppress(NotFoundError):  # someone else was quicker: it is gone, as was asked for
            self._client.delete_scaling_group(id=self._info.id, timeout=timeout)
        self._info = None

    def __repr__(self) -> str:
        known: ScalingGroupInfo | None = getattr(self, "_info", None)  # not there if the constructor raised
        status = known.status.value if known is not None else "not deployed"
        return f"ScalingGroup(name={getattr(self, '_name', None)!r}, status={status!r})"

    def _wait(self, until: Literal["running", "ready"], **options: Any) -> ScalingGroup:
        try:
            self._info = self._client.wait_scaling_group(self._name, id=self.id, until=until, **options)
        except (DeployFailedError, WaitTimeoutError) as error:
            self._info = error.info
            raise
        return self

    def _recorded(self) -> tuple[ScalingGroupSpec, dict[str, Any]]:
        """What is recorded with the group now, and on what terms that may be deployed."""
        from chalkcompute.service.handle import is_replaced
        from chalkcompute.spec import ScalingGroupSpec

        self._deployed("deploy")
        info = self.refresh()  # at this moment, and not kept: other people deploy too
        spec = ScalingGroupSpec.from_dict(dict(info.spec))
        if info.status is not Status.DELETED:
            return spec, {"expected": info}
        with contextlib.suppress(NotFoundError):
            other = self._client.get_scaling_group(self._name)
            raise is_replaced(self._name, info.id, other.id)
        return spec, {"update": False}

    def _deployed(self, verb: str, *, alive: bool = False) -> ScalingGroupInfo:
        from chalkcompute.service.handle import is_deleted, not_deployed

        if self._info is None:
            raise not_deployed(self._name, verb)
        if alive and self._info.status is Status.DELETED:
            raise is_deleted(self._name, self._info.id, verb)
        return self._info


def _chosen(client: object) -> ChalkClient:
    if client is None:
        return ChalkClient()
    if isinstance(client, ChalkClient):
        return client
    raise SpecError(
        f"`client` must be a ChalkClient, not {type(client).__name__}",
        field="client",
        hint="make one with `ChalkClient(context=…, namespace=…)`, or leave it out",
    )
