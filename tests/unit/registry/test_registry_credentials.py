"""Docker's configuration as a source of credentials."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.errors import RegistryAuthError
from chalkcompute.registry import Credential, docker_credentials

SECRET = "s3cret-value"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(folder: Path, settings: object) -> dict[str, str]:
    """An environment whose Docker configuration is this."""
    (folder / "config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("key", "entry", "host", "found"),
    [
        ("r.io", {"auth": b64(f"me:{SECRET}")}, "r.io", Credential("me", SECRET)),
        ("r.io", {"auth": b64(f"me:{SECRET}:x")}, "r.io", Credential("me", f"{SECRET}:x")),
        ("https://r.io/v1/", {"auth": b64(f"me:{SECRET}")}, "r.io", Credential("me", SECRET)),
        ("r.io:5000", {"username": "me", "password": SECRET}, "r.io:5000", Credential("me", SECRET)),
        ("r.io", {"auth": b64("x:y"), "identitytoken": SECRET}, "r.io", Credential("", "", SECRET)),
        ("https://index.docker.io/v1/", {"auth": b64("a:b")}, "docker.io", Credential("a", "b")),
        ("docker.io", {"auth": b64("a:b")}, "registry-1.docker.io", Credential("a", "b")),
        ("r.io", {}, "r.io", None),
        ("r.io", {"auth": b64("a:b")}, "r.io:5000", None),
    ],
)
def test_auths(tmp_path: Path, key: str, entry: Any, host: str, found: Credential | None) -> None:
    assert docker_credentials(config(tmp_path, {"auths": {key: entry}})).find(host) == found


def test_none_is_fine_and_home_is_where_it_is(tmp_path: Path) -> None:
    source = docker_credentials({"HOME": str(tmp_path)})
    assert source.find("r.io") is None
    (tmp_path / ".docker").mkdir()
    config(tmp_path / ".docker", {"auths": {"r.io": {"auth": b64("a:b")}}})
    assert source.find("r.io") == Credential("a", "b")


def test_helpers(tmp_path: Path) -> None:
    answer = json.dumps({"ServerURL": "r.io", "Username": "me", "Secret": SECRET})
    token = json.dumps({"Username": "<token>", "Secret": SECRET})
    log = tmp_path / "asked"
    helper(tmp_path, "one", f"[ $1 = get ] && cat > '{log}' && echo '{answer}'")
    helper(tmp_path, "two", f"echo '{token}'")
    helper(tmp_path, "none", "echo 'credentials not found in native keychain'; exit 1")
    settings = {
        "credHelpers": {"r.io": "one", "none.io": "none"},
        "credsStore": "two",
        "auths": {"r.io": {}, "none.io": {"auth": b64("a:b")}},
    }
    source = docker_credentials(config(tmp_path, settings))
    assert source.find("r.io") == Credential("me", SECRET)
    assert log.read_text() == "r.io"
    assert source.find("other.io") == Credential("", "", SECRET)
    assert source.find("none.io") == Credential("a", "b")
    config(tmp_path, {"credHelpers": {"https://index.docker.io/v1/": "one"}})
    assert source.find("docker.io") == Credential("me", SECRET)
    assert log.read_text() == "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (f'{{"auths": {SECRET}', r"is not JSON \(line 1, column 11\)"),
        ("[]", "is not a JSON object"),
        ({"auths": [SECRET]}, "has `auths`, which is not an object"),
        ({"auths": {"r.io": SECRET}}, "has an entry for `r.io` that is not an object"),
        ({"auths": {"r.io": {"auth": SECRET}}}, "has an `auth` for `r.io` that is not base64"),
        ({"auths": {"r.io": {"auth": b64(SECRET)}}}, "has an `auth` for `r.io` without a password"),
        ({"credsStore": "../x"}, "names a credential helper that cannot be one"),
        ({"credHelpers": {"r.io": 1}}, "names a credential helper that cannot be one"),
        ({"credsStore": "absent"}, "the credential helper `docker-credential-absent` of .* is not on PATH"),
        ({"credsStore": "fails"}, "`docker-credential-fails` of .* failed with exit code 3"),
        ({"credsStore": "odd"}, "`docker-credential-odd` of .* printed no credential"),
        ({"credsStore": "odder"}, "`docker-credential-odder` of .* printed no credential"),
    ],
)
def test_what_is_broken_is_named_and_no_secret_shown(tmp_path: Path, settings: object, why: str) -> None:
    helper(tmp_path, "fails", f"echo {SECRET}; echo {SECRET} >&2; exit 3")
    helper(tmp_path, "odd", f"echo {SECRET}")
    helper(tmp_path, "odder", f'echo \'{{"Username": 1, "Secret": "{SECRET}"}}\'')
    with pytest.raises(RegistryAuthError, match=why) as broken:
        docker_credentials(config(tmp_path, settings)).find("r.io")
    assert str(tmp_path / "config.json") in broken.value.message
    assert SECRET not in broken.value.message + (broken.value.hint or "")
    assert broken.value.__cause__ is None


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RegistryAuthError, match="cannot be read: Is a directory"):
        docker_credentials({"DOCKER_CONFIG": str(tmp_path)}).find("r.io")


def test_no_repr_shows_a_secret() -> None:
    assert SECRET not in repr(Credential("me", SECRET, SECRET))
