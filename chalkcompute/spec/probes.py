"""Readiness probes: how the cluster asks a replica whether it can serve.

A replica gets requests only while its readiness probe passes. Without one of your own, the probe is a
TCP connection to the port: ready means that the server accepts connections. A failing probe restarts nothing.

With `startup_timeout_seconds` the same question is asked as a startup probe first; the readiness probe
begins when that was answered once, and a replica that does not get there in time is started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_integer, check_text, quoted

__all__ = ["ReadinessProbe"]

_FIELD = "readiness_probe"
_SECONDS_MAX = 3600
_THRESHOLD_MAX = 1000
_PATH_RULE = 'write the path of a GET request, such as `"/health"`; the port is the group\'s own'


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessProbe:
    """A readiness probe; make one with `http`, `tcp` or `grpc`.

    Kubernetes: `containers[].readinessProbe`; with `startup_timeout_seconds`, its action, period and timeout
    are those of `startupProbe` too, as far as they fit into that time.

    Attributes:
        kind: `http`, `tcp` or `grpc`.
        path: Path and query of the GET request (`http`), else None.
        service: Service that `grpc.health.v1.Health/Check` asks for (`grpc`; "" is the server), else None.
        period_seconds: Seconds between two probes, 1 to 3600; default 5.
        timeout_seconds: Seconds after which a probe has failed, 1 to 3600; default 2.
        failure_threshold: Failures in a row that take a ready replica out of service, 1 to 1000; default 3.
        success_threshold: Successes in a row that bring it (back) into service, 1 to 1000; default 1.

    Raises:
        SpecError: A value that cannot be; its `field` is `readiness_probe`.
    """

    kind: Literal["http", "tcp", "grpc"]
    path: str | None = None
    service: str | None = None
    period_seconds: int = 5
    timeout_seconds: int = 2
    failure_threshold: int = 3
    success_threshold: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("http", "tcp", "grpc"):
            raise SpecError(
                f"a readiness probe is `http`, `tcp` or `grpc`, not {quoted(self.kind)}", field=_FIELD
            )
        if (self.path is None) == (self.kind == "http"):
            raise SpecError("an `http` readiness probe has a path, and only that kind has", field=_FIELD)
        if (self.service is None) == (self.kind == "grpc"):
            raise SpecError("a `grpc` readiness probe has a service, and only that kind has", field=_FIELD)
        if self.path is not None:
            _check_path(self.path)
        if self.service is not None:
            check_text(_FIELD, self.service, what="the service of the readiness probe")
        for name, value, high in (
            ("period_seconds", self.period_seconds, _SECONDS_MAX),
            ("timeout_seconds", self.timeout_seconds, _SECONDS_MAX),
            ("failure_threshold", self.failure_threshold, _THRESHOLD_MAX),
            ("success_threshold", self.success_threshold, _THRESHOLD_MAX),
        ):
            try:
                check_integer(name, value, 1, high)
            except SpecError as error:
                raise SpecError(f"readiness probe: {error.message}", field=_FIELD, hint=error.hint) from error

    @classmethod
    def http(
        cls,
        path: str = "/",
        *,
        period_seconds: int = 5,
        timeout_seconds: int = 2,
        failure_threshold: int = 3,
        success_threshold: int = 1,
    ) -> ReadinessProbe:
        """Ready while `GET path` on the group's port answers 200 to 399.

        Kubernetes: `containers[].readinessProbe.httpGet`.

        Args:
            path: Path and query, starting with `/`.
            period_seconds: Seconds between two probes, 1 to 3600.
            timeout_seconds: Seconds after which a probe has failed, 1 to 3600.
            failure_threshold: Failures in a row that take a ready replica out of service, 1 to 1000.
            success_threshold: Successes in a row that bring it (back) into service, 1 to 1000.

        Raises:
            SpecError: A value that cannot be; its `field` is `readiness_probe`.
        """
        return cls(
            kind="http",
            path=path,
            period_seconds=period_seconds,
            timeout_seconds=timeout_seconds,
            failure_threshold=failure_threshold,
            success_threshold=success_threshold,
        )

    @classmethod
    def tcp(
        cls,
        *,
        period_seconds: int = 5,
        timeout_seconds: int = 2,
        failure_threshold: int = 3,
        success_threshold: int = 1,
    ) -> ReadinessProbe:
        """Ready while the group's port accepts connections.

        Kubernetes: `containers[].readinessProbe.tcpSocket`.

        Args:
            period_seconds: Seconds between two probes, 1 to 3600.
            timeout_seconds: Seconds after which a probe has failed, 1 to 3600.
            failure_threshold: Failures in a row that take a ready replica out of service, 1 to 1000.
            success_threshold: Successes in a row that bring it (back) into service, 1 to 1000.

        Raises:
            SpecError: A value that cannot be; its `field` is `readiness_probe`.
        """
        return cls(
            kind="tcp",
            period_seconds=period_seconds,
            timeout_seconds=timeout_seconds,
            failure_threshold=failure_threshold,
            success_threshold=success_threshold,
        )

    @classmethod
    def grpc(
        cls,
        service: str = "",
        *,
        period_seconds: int = 5,
        timeout_seconds: int = 2,
        failure_threshold: int = 3,
        success_threshold: int = 1,
    ) -> ReadinessProbe:
        """Ready while `grpc.health.v1.Health/Check` of that service answers SERVING.

        Kubernetes: `containers[].readinessProbe.grpc`.

        Args:
            service: Name of the service; "" asks for the server as a whole.
            period_seconds: Seconds between two probes, 1 to 3600.
            timeout_seconds: Seconds after which a probe has failed, 1 to 3600.
            failure_threshold: Failures in a row that take a ready replica out of service, 1 to 1000.
            success_threshold: Successes in a row that bring it (back) into service, 1 to 1000.

        Raises:
            SpecError: A value that cannot be; its `field` is `readiness_probe`.
        """
        return cls(
            kind="grpc",
            service=service,
            period_seconds=period_seconds,
            timeout_seconds=timeout_seconds,
            failure_threshold=failure_threshold,
            success_threshold=success_threshold,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; what the kind does not have is left out."""
        out: dict[str, Any] = {"kind": self.kind}
        if self.path is not None:
            out["path"] = self.path
        if self.service is not None:
            out["service"] = self.service
        return out | {
            "period_seconds": self.period_seconds,
            "timeout_seconds": self.timeout_seconds,
            "failure_threshold": self.failure_threshold,
            "success_threshold": self.success_threshold,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReadinessProbe:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            SpecError: No kind, or a value that cannot be.
        """
        if not isinstance(data, Mapping) or "kind" not in data:
            raise SpecError(f"{quoted(data)} is not a readiness probe", field=_FIELD)
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def _check_path(path: object) -> None:
    text = check_text(_FIELD, path, what="the path of the readiness probe", number=lambda _: _PATH_RULE)
    if not text.startswith("/"):
        raise SpecError(
            f"the path {quoted(text)} of the readiness probe does not start with `/`",
            field=_FIELD,
            hint=f"did you mean `/{text}`?",
        )
    if any(c.isspace() or not c.isprintable() for c in text):
        raise SpecError(f"the path {quoted(text)} of the readiness probe has white space in it", field=_FIELD)
