"""What went wrong with a registry, as an error that says where and what next: one table for all requests.

Bodies of answers stand in no message: a registry, or a proxy before it, may print anything there. Its
error code (`MANIFEST_UNKNOWN`) is a word from a fixed list, and is kept.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

from chalkcompute.errors import ImageNotFoundError, RegistryAuthError, RegistryError

__all__ = ["answer_failure", "corrupt", "error_code", "is_certificate", "transport_failure"]

_CODE = re.compile(r"[A-Z][A-Z_]{2,63}")
_MISSING_PARTS = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN_TO_REGISTRY", "MANIFEST_UNKNOWN_TO_REGISTRY")
_CERTIFICATE_HINT = (
    "for an authority of your own, name its PEM file in `CHALK_REGISTRY_CA_FILE` or `SSL_CERT_FILE`"
)


def corrupt(host: str, what: str, why: str) -> RegistryError:
    """What came is not what its digest or size says; nothing of it was kept."""
    return RegistryError(
        f"{what} from `{host}` is corrupt: {why}",
        code="DIGEST_INVALID",
        hint="try again; if it stays, the registry or a proxy before it changes or damages content",
    )


def error_code(body: bytes) -> str:
    """The first error code of an answer of the distribution specification, "" where there is none."""
    try:
        errors = json.loads(body)["errors"]
        code = errors[0]["code"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def answer_failure(
    host: str,
    what: str,
    status: int,
    *,
    code: str = "",
    with_credential: bool = False,
    wait: float | None = None,
) -> RegistryError:
    """The error for an answer that refuses.

    Args:
        host: Registry as the user writes it.
        what: What was asked for, as in "`host` has no {what}"; actions begin with "the ".
        status: HTTP status code.
        code: Error code of its body.
        with_credential: Whether a credential of the user went along.
        wait: Seconds that a 429 asks to wait, None where it does not say.
    """
    said = f"HTTP {status}, {code}" if code else f"HTTP {status}"
    if status == 401:
        return _unauthorized(host, what, said, code, with_credential)
    if status == 403:
        return _forbidden(host, what, said, code, with_credential)
    if code in _MISSING_PARTS:
        return RegistryError(
            f"`{host}` lacks a blob or an image that {what} names ({said})",
            status=status,
            code=code,
            hint="push again: the registry may have cleaned up meanwhile",
        )
    if status == 404:
        return _missing(host, what, said, code)
    message = f"`{host}` answers {what} with {said}"
    hint: str | None = None
    if status == 413:
        message = f"for `{host}`, {what} is too large ({said})"
        hint = "raise the limit of the proxy before the registry (`client_max_body_size` of nginx)"
    elif status == 429:
        message = f"`{host}` limits how often it may be asked, and refuses {what} ({said})"
        later = f"in {wait:.0f} s" if wait is not None else "later"
        hint = f"try again {later}" + (
            "" if with_credential else f"; `docker login {host}` may raise the limit"
        )
    elif status >= 500:
        message = f"`{host}` failed on {what} ({said})"
        hint = "try again later; the logs of the registry say more"
    return RegistryError(message, status=status, code=code, hint=hint)


def _missing(host: str, what: str, said: str, code: str) -> ImageNotFoundError:
    if what.startswith("the "):
        message = f"`{host}` answers {what} with {said}"
        hint = "check the name; some registries want a repository to be made before the first push"
    else:
        message, hint = f"`{host}` has no {what} ({said})", "check the name, tag and digest"
    return ImageNotFoundError(message, status=404, code=code, hint=hint)


def _forbidden(host: str, what: str, said: str, code: str, with_credential: bool) -> RegistryAuthError:
    hint = (
        f"the account that is logged in to `{host}` needs the right to it"
        if with_credential
        else f"log in with `docker login {host}`, or choose a repository that is yours; a used-up quota is "
        "refused so, too"
    )
    return RegistryAuthError(f"`{host}` does not allow {what} ({said})", status=403, code=code, hint=hint)


def _unauthorized(host: str, what: str, said: str, code: str, with_credential: bool) -> RegistryAuthError:
    if with_credential:
        message = f"`{host}` does not accept the credential for {what} ({said})"
        hint = f"log in anew with `docker login {host}`, or check that the account may use it"
    else:
        message = f"`{host}` wants a credential for {what} ({said})"
        # Docker Hub and others answer so, too, for a repository that does not exist.
        hint = f"log in with `docker login {host}`; or there is no such repository: check the name"
    return RegistryAuthError(message, status=401, code=code, hint=hint)


def transport_failure(host: str, what: str, error: Exception) -> RegistryError:
    """The error for a request without an answer: no such host, refused, TLS, time-outs, broken connections.

    Args:
        host: Registry as the user writes it.
        what: What was asked for, as in "{what}: cannot connect".
        error: An `httpx.HTTPError`.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message or "it cannot be verified"
            return RegistryError(f"the certificate of `{host}` is not trusted: {why}", hint=_CERTIFICATE_HINT)
        if isinstance(cause, socket.gaierror):
            return RegistryError(
                f"there is no address for the registry `{host}`",
                hint="check the name, and that this machine resolves it (DNS, VPN)",
            )
        if isinstance(cause, ConnectionRefusedError):
            return RegistryError(
                f"nothing listens at the registry `{host}`: connection refused",
                hint="check the port, and that the registry runs",
            )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return RegistryError(
            f"`{host}` does not speak TLS as expected",
            hint="a registry over plain http is served only on `localhost` and 127.0.0.0/8",
        )
    if isinstance(error, httpx.ProxyError):
        return RegistryError(
            f"the proxy does not connect to the registry `{host}`", hint="check HTTPS_PROXY and NO_PROXY"
        )
    if isinstance(error, httpx.ConnectTimeout):
        return RegistryError(
            f"the registry `{host}` does not answer: connect timed out",
            hint="check the address, the firewall and HTTPS_PROXY",
        )
    if isinstance(error, httpx.ConnectError):
        return RegistryError(
            f"the registry `{host}` cannot be reached", hint="check the address and the network"
        )
    if isinstance(error, httpx.TimeoutException):
        return RegistryError(f"`{host}` stopped answering on {what}: timed out", hint="try again")
    return RegistryError(f"`{host}` broke the connection on {what}", hint="try again")


def is_certificate(error: BaseException) -> bool:
    """Whether TLS was spoken and only the certificate not trusted."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
