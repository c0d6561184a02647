"""`ScalingGroupSpec`: everything that can be asked of a scaling group, in one frozen value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_integer, quoted
from chalkcompute.spec.environment import validate_args, validate_entrypoint, validate_env
from chalkcompute.spec.gpu import Gpu
from chalkcompute.spec.images import validate_image
from chalkcompute.spec.mounts import (
    FileMount,
    VolumeMount,
    absolute_path,
    check_mounts,
    validate_files,
    validate_volumes,
)
from chalkcompute.spec.names import validate_name
from chalkcompute.spec.probes import ReadinessProbe
from chalkcompute.spec.quantities import normalize_cpu, normalize_memory
from chalkcompute.spec.secrets import SecretRef, check_unique_variables, validate_secrets
from chalkcompute.spec.tags import validate_tags

__all__ = ["Mode", "ScalingGroupSpec"]

Mode = Literal["fixed", "hpa", "keda"]
"""What sets the replica count: we, a HorizontalPodAutoscaler, or KEDA with its HTTP add-on."""

_INT32_MAX = 2**31 - 1  # replica counts are int32 in the Kubernetes API


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingGroupSpec:
    """What was asked for. Making one checks everything, so a value that exists is valid.

    Equal wishes compare equal: quantities are kept in canonical text (`cpu="1000m"` becomes `1`),
    `env` and `tags` in order of their keys.

    Attributes:
        name: Name of the group: an RFC 1035 label of at most 54 characters.
        image: Image reference. Kubernetes: `containers[].image`.
        port: TCP port the replicas serve HTTP on, 1 to 65535; default 8080.
        min_replicas: Fewest replicas, from 0 (scale to zero, needs KEDA); default 1.
        max_replicas: Most replicas, at least 1 and `min_replicas`; default 1.
        target_cpu_utilization_percentage: Average CPU the autoscaler aims at, 1 to 100 percent of the
            request; None leaves it to the cluster (80).
            Kubernetes: `metrics[].resource.target.averageUtilization`.
        scaling_interval_seconds: At most one scaling step in that many seconds, 1 to 1800; None leaves it
            to the cluster (15). Kubernetes: `behavior.*.policies[].periodSeconds`.
        shutdown_delay_seconds: Seconds a replica goes on serving after it was taken out of service,
            0 to 3600; None is 5. Kubernetes: `lifecycle.preStop.sleep.seconds`.
        startup_timeout_seconds: Seconds that a replica is given until it is ready for the first time, 1 to
            21600, before its container is started again; None waits for ever. Kubernetes: `startupProbe`.
        idle_timeout_seconds: Seconds without a request after which the last replica goes, 1 to 86400; None
            is 300. Only with `min_replicas` 0. Kubernetes: ScaledObject `cooldownPeriod`.
        cpu: CPU per replica, request and limit (`500m`, `2`); None is request 100m, limit 1.
        memory: Memory per replica, request and limit (`512Mi`, `8Gi`); None is request 256Mi, limit 1Gi.
        gpu: GPUs per replica, `type:count` or a count; None is none.
        env: Environment variables, literal values.
        tags: Labels `chalk.ai/tag-<key>` on every object.
        entrypoint: Command instead of the image's own; None keeps that. Kubernetes: `containers[].command`.
        readiness_probe: How a replica says that it can serve; None is a TCP connection to the port.
        args: Arguments instead of the image's own; None keeps those. Kubernetes: `containers[].args`.
        working_dir: Absolute working folder instead of the image's own; None keeps that.
            Kubernetes: `containers[].workingDir`.
        secrets: Environment variables out of Secrets, in order of their names.
        volumes: Volumes of the namespace, in order of their paths.
        files: Local files out of the group's own ConfigMaps, in order of their paths.

    Raises:
        SpecError: A value that cannot be; its `field` names the attribute.
    """

    name: str
    image: str
    port: int = 8080
    min_replicas: int = 1
    max_replicas: int = 1
    target_cpu_utilization_percentage: int | None = None
    scaling_interval_seconds: int | None = None
    shutdown_delay_seconds: int | None = None
    startup_timeout_seconds: int | None = None
    idle_timeout_seconds: int | None = None
    cpu: str | None = None
    memory: str | None = None
    gpu: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    readiness_probe: ReadinessProbe | None = None
    args: tuple[str, ...] | None = None
    working_dir: str | None = None
    secrets: tuple[SecretRef, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    files: tuple[FileMount, ...] = ()

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(getattr(self, name)))
        if self.min_replicas > self.max_replicas:
            raise SpecError(
                f"`min_replicas` {self.min_replicas} is more than `max_replicas` {self.max_replicas}",
                field="min_replicas",
                hint=f"raise `max_replicas` to {self.min_replicas} or more",
            )
        if self.idle_timeout_seconds is not None and self.min_replicas > 0:
            raise SpecError(
                f"`idle_timeout_seconds` {self.idle_timeout_seconds} is for groups that scale to zero, and "
                f"`min_replicas` is {self.min_replicas}",
                field="idle_timeout_seconds",
                hint="set `min_replicas` to 0, or leave `idle_timeout_seconds` out",
            )
        check_unique_variables([ref.env for ref in self.secrets], self.env)
        check_mounts(self.volumes, self.files)

    def __repr__(self) -> str:
        # Values of the environment may be credentials; reprs end in logs and tracebacks.
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shown |= {"env": dict.fromkeys(self.env, "***"), "tags": dict(self.tags)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __hash__(self) -> int:
        return hash((self.name, self.image, self.port, self.min_replicas, self.max_replicas))

    def __reduce__(self) -> tuple[Callable[..., ScalingGroupSpec], tuple[dict[str, Any]]]:
        # The read-only mappings can be neither pickled nor deep-copied.
        return type(self).from_dict, (self.to_dict(),)

    @property
    def mode(self) -> Mode:
        """`keda` when it may scale to zero, `hpa` when it may scale at all, else `fixed`."""
        if self.min_replicas == 0:
            return "keda"
        return "fixed" if self.min_replicas == self.max_replicas else "hpa"

    def changes(self, other: ScalingGroupSpec) -> tuple[str, ...]:
        """Names of the fields in which `other` differs, in the order they are declared in."""
        return tuple(
            f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(other, f.name)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every field, None for what was not given."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScalingGroupSpec:
        """The inverse of `to_dict`; keys it does not know are ignored, so that newer records can be read.

        Raises:
            SpecError: A required key is missing, or a value cannot be.
        """
        if not isinstance(data, Mapping):
            raise SpecError(f"{quoted(data)} does not describe a scaling group", field="name")
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name in ("name", "image"):
            if name not in known:
                raise SpecError(f"`{name}` is missing", field=name)
        probe = known.get("readiness_probe")
        if probe is not None and not isinstance(probe, ReadinessProbe):
            known["readiness_probe"] = ReadinessProbe.from_dict(probe)
        return cls(**known)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, ReadinessProbe | SecretRef | VolumeMount | FileMount):
        return value.to_dict()
    return value


def _integer(
    name: str, low: int, high: int, *, meaning: str = "", hint: str | None = None
) -> Callable[[object], int]:
    return lambda value: check_integer(name, value, low, high, meaning=meaning, hint=hint)


def _seconds(name: str, low: int, high: int, unset: str) -> Callable[[object], object]:
    """Seconds, or None for what a hint says of it."""
    return _optional(_integer(name, low, high, meaning="seconds", hint=f"leave `{name}` out for {unset}"))


def _most(value: object) -> object:
    """0 is taken for a wish to scale to zero, which the lower bound is for."""
    hint = "a group that sleeps while nobody asks has `min_replicas=0`, and may have one replica or more"
    return check_integer("max_replicas", value, 1, _INT32_MAX, hint=hint if value == 0 else None)


def _target(value: object) -> object:
    """A fraction is taken for the mistake that it is."""
    name = "target_cpu_utilization_percentage"
    hint = f"leave `{name}` out for the cluster's own target, 80"
    try:
        return check_integer(name, value, 1, 100, meaning="percent of the CPU request", hint=hint)
    except SpecError as error:
        if isinstance(value, float) and 0 < value <= 1:
            error.hint = f"write percent: `{round(value * 100)}`"
        raise


def _optional(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _several(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: check(() if value is None else value)


def _mapping(check: Callable[[object], dict[str, str]]) -> Callable[[object], Mapping[str, str]]:
    return lambda value: MappingProxyType(check({} if value is None else value))


def _probe(value: object) -> object:
    if not isinstance(value, ReadinessProbe):
        raise SpecError(
            f"`readiness_probe` must be a ReadinessProbe, not {type(value).__name__} {quoted(value)}",
            field="readiness_probe",
            hint='write `ReadinessProbe.http("/health")`',
        )
    return value


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "name": validate_name,
    "image": validate_image,
    "port": _integer("port", 1, 65535),
    "min_replicas": _integer(
        "min_replicas", 0, _INT32_MAX, hint="0 lets the group sleep while nobody asks, 1 keeps one replica"
    ),
    "max_replicas": _most,
    "target_cpu_utilization_percentage": _optional(_target),
    "scaling_interval_seconds": _seconds("scaling_interval_seconds", 1, 1800, "the cluster's own pace, 15"),
    "shutdown_delay_seconds": _seconds("shutdown_delay_seconds", 0, 3600, "5"),
    "startup_timeout_seconds": _seconds("startup_timeout_seconds", 1, 6 * 3600, "no limit"),
    "idle_timeout_seconds": _seconds("idle_timeout_seconds", 1, 24 * 3600, "300"),
    "cpu": _optional(normalize_cpu),
    "memory": _optional(normalize_memory),
    "gpu": _optional(lambda value: str(Gpu.parse(value))),
    "env": _mapping(validate_env),
    "tags": _mapping(validate_tags),
    "entrypoint": _optional(validate_entrypoint),
    "readiness_probe": _optional(_probe),
    "args": _optional(validate_args),
    "working_dir": _optional(lambda value: absolute_path("working_dir", value)),
    "secrets": _several(validate_secrets),
    "volumes": _several(validate_volumes),
    "files": _several(validate_files),
}
