"""Credentials for registries from Docker's own configuration, as `docker login` leaves them.

No error of this module repeats what stands in the file or what a helper prints: either may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from chalkcompute.errors import RegistryAuthError

__all__ = ["Credential", "CredentialSource", "docker_credentials"]

# Docker Hub's key in the file and for helpers, from before there were registries of version 2.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_TIMEOUT = 30.0
# How helpers say that they have none (docker-credential-helpers, credentials/error.go).
_NONE_FOUND = b"credentials not found"
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class Credential:
    """What to show a registry.

    Attributes:
        username: Account, "" with an identity token.
        password: Password or personal token.
        identity_token: A refresh token for the registry's token server, or None.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Where the credentials are."""

    def find(self, host: str) -> Credential | None:
        """The credential for a registry, by its host as in a reference, or None.

        Raises:
            RegistryAuthError: It cannot be read.
        """
        ...


def docker_credentials(environ: Mapping[str, str]) -> CredentialSource:
    """Credentials of `config.json` in `DOCKER_CONFIG`, or in `~/.docker`: its helpers, then its `auths`.

    The file is read at each question, so that a `docker login` meanwhile counts; that there is none is fine.

    Args:
        environ: Environment: `DOCKER_CONFIG`, `HOME`, and what helpers need (`PATH`).
    """
    return _DockerCredentials(environ)


class _DockerCredentials:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        home = environ.get("HOME")
        folder = environ.get("DOCKER_CONFIG") or (Path(home) if home else Path.home()) / ".docker"
        self._path = Path(folder) / "config.json"

    def find(self, host: str) -> Credential | None:
        """The credential that `docker pull` would use."""
        settings = self._read()
        keys = [_HUB_KEY, *_HUB_HOSTS] if host in _HUB_HOSTS else [host]
        helper = self._helper_for(keys, settings)
        if helper:
            found = self._ask(helper, keys[0])
            if found is not None:
                return found
        auths = self._section(settings, "auths")
        for key, entry in auths.items():
            if key in keys or _host_of(key) in keys:
                found = self._parse_entry(key, entry)
                if found is not None:
                    return found
        return None

    def _read(self) -> Mapping[str, Any]:
        try:
            settings = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._broken(f"cannot be read: {error.strerror}") from None
        except json.JSONDecodeError as error:
            raise self._broken(f"is not JSON (line {error.lineno}, column {error.colno})") from None
        except (ValueError, RecursionError):
            raise self._broken("is not JSON") from None
        if not isinstance(settings, dict):
            raise self._broken("is not a JSON object")
        return settings

    def _section(self, settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        section = settings.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            raise self._broken(f"has `{name}`, which is not an object")
        return section

    def _broken(self, why: str) -> RegistryAuthError:
        return RegistryAuthError(
            f"`{self._path}` {why}", hint="repair or remove the file, then `docker login` again"
        )

    def _helper_for(self, keys: list[str], settings: Mapping[str, Any]) -> str | None:
        helpers = self._section(settings, "credHelpers")
        helper = next((helpers[key] for key in keys if key in helpers), settings.get("credsStore"))
        if helper is None or helper == "":
            return None
        # A helper is a program of that name on PATH, so a path in it is not one.
        if not isinstance(helper, str) or os.sep in helper:
            raise self._broken("names a credential helper that cannot be one")
        return helper

    def _ask(self, helper: str, key: str) -> Credential | None:
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [_on_path(program, self._environ), "get"],
                input=key.encode(),
                capture_output=True,
                timeout=_HELPER_TIMEOUT,
                env=self._environ,
                check=False,
            )
        except FileNotFoundError:
            raise self._helper_failed(program, "is not on PATH") from None
        except subprocess.TimeoutExpired:
            raise self._helper_failed(program, f"did not answer in {_HELPER_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise self._helper_failed(program, f"cannot be run: {error.strerror}") from None
        if done.returncode != 0:
            if _NONE_FOUND in done.stdout + done.stderr:
                return None
            raise self._helper_failed(program, f"failed with exit code {done.returncode}")
        try:
            answer = json.loads(done.stdout)
            username, secret = answer["Username"], answer["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._helper_failed(program, "printed no credential") from None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise self._helper_failed(program, "printed no credential")
        return Credential("", "", secret) if username == _TOKEN_USER else Credential(username, secret)

    def _helper_failed(self, program: str, why: str) -> RegistryAuthError:
        return RegistryAuthError(
            f"the credential helper `{program}` of `{self._path}` {why}",
            hint=f"run `{program} list` to see whether it works, or take it out of the file",
        )

    def _parse_entry(self, key: str, entry: object) -> Credential | None:
        """One of `auths`; an empty one only says that a helper has it."""
        if not isinstance(entry, dict):
            raise self._broken(f"has an entry for `{key}` that is not an object")
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credential("", "", token)
        encoded = entry.get("auth")
        if isinstance(encoded, str) and encoded:
            try:
                text = base64.b64decode(encoded, validate=True).decode()
            except (binascii.Error, ValueError):
                raise self._broken(f"has an `auth` for `{key}` that is not base64") from None
            username, colon, password = text.partition(":")
            if not colon:
                raise self._broken(f"has an `auth` for `{key}` without a password")
            return Credential(username, password.rstrip("\0"))
        name, word = entry.get("username"), entry.get("password")
        if isinstance(name, str) and isinstance(word, str) and name:
            return Credential(name, word)
        return None


def _on_path(program: str, environ: Mapping[str, str]) -> str:
    """The program by the PATH of `environ`: `subprocess` would look along that of this process."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(folder or ".") / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    raise FileNotFoundError(program)


def _host_of(key: str) -> str:
    """`https://host:5000/v1/` is a key, too, for `host:5000`."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]
