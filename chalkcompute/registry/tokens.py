"""Challenges of registries and the tokens that answer them (RFC 9110 section 11, distribution token spec)."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpx

from chalkcompute.errors import RegistryAuthError, RegistryError
from chalkcompute.registry.credentials import Credential, CredentialSource
from chalkcompute.registry.failures import answer_failure, error_code, transport_failure

__all__ = ["Authorizer", "Challenge", "is_loopback", "parse_challenges"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A parameter, or the name of the next scheme with nothing or an opaque token68 after it.
_PARAMETER = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))(?=[ \t]*(?:,|$))', re.DOTALL
)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,|$))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_SEPARATORS = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# The token spec: a token without `expires_in` is good for 60 s. Some seconds are for the way.
_LIFETIME = 60.0
_MARGIN = 5.0
_BODY_LIMIT = 1024 * 1024
_CLIENT_ID = "chalkcompute"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a `WWW-Authenticate` header.

    Attributes:
        scheme: In small letters: `bearer`, `basic`.
        parameters: Names in small letters, and their values.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of `WWW-Authenticate` headers, in their order; a broken rest of a header is left out."""
    return [challenge for header in headers for challenge in _parse_header(header)]


def _parse_header(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    at = _skip(header, 0)
    while at < len(header):
        if found and (match := _PARAMETER.match(header, at)):
            quoted = match[2]
            value = match[3] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(match[1].lower(), value)
        elif match := _SCHEME.match(header, at):
            parameters = {}
            found.append(Challenge(match[1].lower(), parameters))
            if not _PARAMETER.match(header, match.end()) and (opaque := _TOKEN68.match(header, match.end())):
                match = opaque
        else:
            break
        at = _skip(header, match.end())
    return found


def _skip(header: str, at: int) -> int:
    match = _SEPARATORS.match(header, at)
    return match.end() if match else at


def is_loopback(host: str) -> bool:
    """Whether a host name, without a port, is this machine by itself: `localhost`, 127.0.0.0/8, `::1`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Authorizer:
    """Answers the challenges of one registry, and remembers the answers for each scope.

    Args:
        host: Registry as in a reference.
        credentials: Where its credentials are; None is anonymous.
        client: Sends the requests to token servers.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        host: str,
        credentials: CredentialSource | None,
        client: httpx.Client,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._credentials = credentials
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], tuple[str, float]] = {}
        self._asked: set[tuple[str, ...]] = set()

    def header(self, scopes: Sequence[str]) -> str | None:
        """The `Authorization` that was good for these scopes last time, or None."""
        with self._lock:
            header, until = self._known.get(tuple(scopes), ("", 0.0))
            return header if header and self._clock() < until else None

    def used_credential(self, scopes: Sequence[str]) -> bool:
        """Whether a credential of the user was shown for these scopes."""
        with self._lock:
            return tuple(scopes) in self._asked

    def answer(self, headers: Iterable[str], scopes: Sequence[str], what: str) -> str | None:
        """A fresh `Authorization` for a 401, or None where nothing here can answer it.

        Args:
            headers: Its `WWW-Authenticate` headers.
            scopes: What the request needs: `repository:NAME:pull`.
            what: What was asked for, for messages.

        Raises:
            RegistryError: The token server cannot be reached or refuses.
            RegistryAuthError: The credential cannot be read or is not accepted.
        """
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
        if "bearer" in challenges:
            credential = self._find()
            header, lifetime = self._fetch(challenges["bearer"], scopes, credential, what)
        elif "basic" in challenges:
            credential = self._find()
            if credential is None or credential.identity_token is not None:
                return None
            header, lifetime = _basic(credential), float("inf")
        else:
            return None
        with self._lock:
            self._known[tuple(scopes)] = (header, self._clock() + lifetime)
            if credential is not None:
                self._asked.add(tuple(scopes))
        return header

    def _find(self) -> Credential | None:
        return None if self._credentials is None else self._credentials.find(self._host)

    def _fetch(
        self, challenge: Challenge, scopes: Sequence[str], credential: Credential | None, what: str
    ) -> tuple[str, float]:
        realm = self._checked_realm(challenge, credential)
        service = challenge.parameters.get("service", "")
        wanted = _with_scope_of(challenge, scopes)
        if credential is not None and credential.identity_token is not None:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(wanted),
                "refresh_token": credential.identity_token,
            }
            request = self._client.build_request("POST", realm, data=form)
        else:
            query: list[tuple[str, str | int | float | bool | None]] = [("scope", scope) for scope in wanted]
            if service:
                query.append(("service", service))
            if credential is not None:
                query.append(("account", credential.username))
            headers = {} if credential is None else {"Authorization": _basic(credential)}
            request = self._client.build_request("GET", realm.copy_merge_params(query), headers=headers)
        try:
            response = self._client.send(request)
        except httpx.HTTPError as error:
            raise transport_failure(realm.host, "a token", error) from error
        if response.status_code != 200:
            raise answer_failure(
                self._host,
                what,
                # Token servers say 400 or 404 for a credential that they do not like.
                401 if response.status_code in (400, 401, 404) else response.status_code,
                code=error_code(response.content[:_BODY_LIMIT]),
                with_credential=credential is not None,
            )
        return _read_token(response.content[:_BODY_LIMIT], realm.host)

    def _checked_realm(self, challenge: Challenge, credential: Credential | None) -> httpx.URL:
        try:
            realm = httpx.URL(challenge.parameters.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if realm.scheme not in ("http", "https") or not realm.host:
            raise RegistryError(f"`{self._host}` asks for a token and does not say where")
        if credential is not None and realm.scheme == "http" and not is_loopback(realm.host):
            raise RegistryAuthError(
                f"`{self._host}` wants its credential sent to `{realm.host}` without encryption",
                hint="the registry must name a token server over https",
            )
        return realm


def _with_scope_of(challenge: Challenge, scopes: Sequence[str]) -> list[str]:
    """Our scopes, and that of the challenge where the registry knows the repository by another name."""
    ours = {scope.rpartition(":")[0] for scope in scopes}
    theirs = challenge.parameters.get("scope", "").split()
    return [*scopes, *(scope for scope in theirs if scope.rpartition(":")[0] not in ours)]


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def _read_token(body: bytes, host: str) -> tuple[str, float]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    fields = answer if isinstance(answer, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    # Bytes that a header cannot have would make httpx complain, with the token in its message.
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise RegistryAuthError(f"the token server `{host}` answers without a token")
    lifetime = fields.get("expires_in")
    seconds = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else _LIFETIME
    return f"Bearer {token}", max(seconds - _MARGIN, 1.0)
