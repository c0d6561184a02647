"""The error tree. Everything this library raises on purpose is a `ChalkError`.

    ChalkError                              exit  1
    ├── SpecError (also ValueError)         exit  2   a description that cannot be; `field` names it
    ├── ConfigError                         exit  2   a setting that cannot be
    ├── CapabilityError                     exit  2   what was asked for needs something this cluster lacks
    ├── NotFoundError                       exit  3   no such scaling group, revision, namespace
    ├── ConflictError                       exit  4   exists already, locked, or changed meanwhile
    │   └── NotOwnedError                   exit  4   an object of that name exists and is someone else's
    ├── ClusterError                        exit  5   the cluster cannot be reached, or refuses us
    │   ├── ConnectionConfigError           exit  5   no kubeconfig, unknown context, unreadable file
    │   ├── UnreachableError                exit  5   connect, TLS or network time-out
    │   └── ApiError                        exit  5   an answer of the API server, by `status` and `reason`
    │       ├── UnauthorizedError                     401: the credential is expired or refused
    │       ├── ForbiddenError                        403: the credential lacks a permission
    │       ├── ObjectNotFoundError                   404
    │       ├── ObjectExistsError                     409 AlreadyExists
    │       ├── ObjectConflictError                   409 Conflict: changed meanwhile, or a stale version
    │       ├── InvalidObjectError                    400, 422: the server refuses the object
    │       └── ServerBusyError                       429, 503, 504: try again
    ├── DeployFailedError                   exit  6   a verdict says that the group cannot get there by itself
    ├── WaitTimeoutError (also TimeoutError) exit 7   not ready in time; carries the verdict so far
    ├── ImageError                          exit  1   an image cannot be had, built or pushed
    │   ├── ImageBuildError                 exit  1   a step failed, or nothing here can run it
    │   └── RegistryError                   exit  1   a registry cannot be reached, refuses us, or lies
    │       ├── RegistryAuthError           exit  1   401, 403: no credential, or not a good enough one
    │       └── ImageNotFoundError          exit  1   404: no such repository, tag, digest or blob
    └── LocalClusterError                   exit  5   the embedded cluster: port taken, folder read-only

Exit codes are the contract of the command line (`docs/reference/errors.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalkcompute.types import ScalingGroupInfo, Verdict

__all__ = [
    "ApiError",
    "CapabilityError",
    "ChalkError",
    "ClusterError",
    "ConfigError",
    "ConflictError",
    "ConnectionConfigError",
    "DeployFailedError",
    "ForbiddenError",
    "ImageBuildError",
    "ImageError",
    "ImageNotFoundError",
    "InvalidObjectError",
    "LocalClusterError",
    "NotFoundError",
    "NotOwnedError",
    "ObjectConflictError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "RegistryAuthError",
    "RegistryError",
    "ServerBusyError",
    "SpecError",
    "UnauthorizedError",
    "UnreachableError",
    "WaitTimeoutError",
]


class ChalkError(Exception):
    """Base of every error raised on purpose.

    `str()` is the message alone; a traceback shows the hint below it, as a note (PEP 678). Errors can be
    pickled and copied, so that they come back whole from another process.

    Attributes:
        message: What is wrong and where, one sentence, no trailing period.
        exit_code: The process exit code of the command line for this error.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self._hint: str | None = None
        self.hint = hint

    @property
    def hint(self) -> str | None:
        """What to do next, or None; may be set later, by whoever knows better."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        if self._hint is not None:
            kept = [note for note in getattr(self, "__notes__", ()) if note != _note(self._hint)]
            self.__notes__ = kept
        self._hint = hint
        if hint is not None:
            self.add_note(_note(hint))

    def __reduce__(self) -> tuple[Callable[..., ChalkError], tuple[Any, ...]]:
        # The default calls the class with `args`, which lack the keywords that most of these demand.
        state = dict(self.__dict__)
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return _made_again, (type(self), self.args, state)


def _note(hint: str) -> str:
    return f"hint: {hint}"


def _made_again(kind: type[ChalkError], args: tuple[Any, ...], state: Mapping[str, Any]) -> ChalkError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class SpecError(ChalkError, ValueError):
    """A description that cannot be, found before anything is sent.

    Attributes:
        field: The name of the field of `ScalingGroupSpec` that is wrong.
    """

    exit_code = 2

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class ConfigError(ChalkError):
    """A setting that cannot be: a bad environment id, an ambiguous gateway, an unreadable file."""

    exit_code = 2


class CapabilityError(ChalkError):
    """What was asked for needs something that this cluster lacks (Gateway API, KEDA, a gateway)."""

    exit_code = 2


class NotFoundError(ChalkError):
    """The scaling group, revision or namespace that was named does not exist."""

    exit_code = 3


class ConflictError(ChalkError):
    """It exists already, someone else is working on it, or it was changed meanwhile."""

    exit_code = 4


class NotOwnedError(ConflictError):
    """An object of the same name exists and is not this scaling group's; it was not touched.

    Attributes:
        kind: Kubernetes kind of the object.
        name: Its name.
        namespace: Its namespace.
    """

    def __init__(
        self, message: str, *, kind: str, name: str, namespace: str, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.name = name
        self.namespace = namespace


class ClusterError(ChalkError):
    """The cluster cannot be reached, or refuses us."""

    exit_code = 5


class ConnectionConfigError(ClusterError):
    """No kubeconfig, an unknown context, or a kubeconfig that cannot be read."""


class UnreachableError(ClusterError):
    """The API server did not answer: connection refused, TLS failure, time-out."""


class ApiError(ClusterError):
    """The API server answered with a `Status` of failure.

    Attributes:
        status: HTTP status code.
        reason: `Status.reason`, the machine-readable word (may be empty).
        details: `Status.details`: kind, name, causes.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        details: Mapping[str, object] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.details = dict(details or {})


class UnauthorizedError(ApiError):
    """401: the credential is missing, expired or refused."""


class ForbiddenError(ApiError):
    """403: the credential lacks a permission, or admission refused the object."""


class ObjectNotFoundError(ApiError):
    """404: no such object, or the server does not serve that kind."""


class ObjectExistsError(ApiError):
    """409 AlreadyExists."""


class ObjectConflictError(ApiError):
    """409 Conflict: the object was changed meanwhile, or another manager owns a field."""


class InvalidObjectError(ApiError):
    """400 or 422, and server-side apply's 500 for an object that cannot be: never retried."""


class ServerBusyError(ApiError):
    """429, 503 or 504: the server asks to try again later."""


def is_outage(error: ClusterError) -> bool:
    """Whether the API server, or what is behind it (`etcdserver: leader changed`), is away for a moment."""
    broken = isinstance(error, ApiError) and error.status >= 500 and not isinstance(error, InvalidObjectError)
    return broken or isinstance(error, (ServerBusyError, UnreachableError))


class DeployFailedError(ChalkError):
    """The scaling group failed: a verdict says why, with evidence and the next step.

    Attributes:
        verdict: Cause, evidence and next step.
        info: The group as last seen.
    """

    exit_code = 6

    def __init__(
        self, message: str, *, verdict: Verdict, info: ScalingGroupInfo, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.info = info


class WaitTimeoutError(ChalkError, TimeoutError):
    """Not ready in time.

    Attributes:
        verdict: What stood in the way when time ran out, or None if nothing was found.
        info: The group as last seen.
    """

    exit_code = 7

    def __init__(
        self,
        message: str,
        *,
        verdict: Verdict | None,
        info: ScalingGroupInfo,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.info = info


class ImageError(ChalkError):
    """An image cannot be had, built or pushed; the message names it."""


class ImageBuildError(ImageError):
    """A step of an image failed, or nothing on this machine can run it; the message names the step."""


class RegistryError(ImageError):
    """A registry cannot be reached, refuses us, or answers with something that is not what its digest says.

    Attributes:
        status: HTTP status code, None when there was no answer.
        code: Error code of the OCI Distribution Specification (`MANIFEST_UNKNOWN`), "" where none was given.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RegistryAuthError(RegistryError):
    """401 or 403: the registry wants a credential, or a better one."""


class ImageNotFoundError(RegistryError):
    """404: the registry has no such repository, tag, digest or blob."""


class LocalClusterError(ChalkError):
    """The embedded cluster cannot start, stop or be used; the message says which and why."""

    exit_code = 5
