"""Image references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.registry import ImageReference, parse_reference
from tests.properties import examples

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("team/app:v1", "docker.io/team/app:v1"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app:latest"),
        ("[::1]:5000/app:v1", "[::1]:5000/app:v1"),
        ("ghcr.io/a/b/c:V_1.x-y", "ghcr.io/a/b/c:V_1.x-y"),
        ("MyHost/app", "MyHost/app:latest"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"r.io/a__b/c--d:t@{DIGEST}", f"r.io/a__b/c--d:t@{DIGEST}"),
    ],
)
def test_defaults(text: str, full: str) -> None:
    parsed = parse_reference(text)
    assert str(parsed) == full
    assert parse_reference(full) == parsed


def test_what_a_registry_is_asked_for() -> None:
    assert parse_reference("a:1").reference == "1"
    assert parse_reference("a").reference == "latest"
    assert parse_reference(f"a:1@{DIGEST}").reference == DIGEST
    assert ImageReference("r.io", "a", None, None).reference == "latest"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the repository is empty"),
        ("ghcr.io/", "the repository is empty"),
        ("App:v1", "must be in lower case"),
        ("r.io/Team/app", "must be in lower case"),
        ("app:", "is not a tag"),
        ("app:-1", "is not a tag"),
        ("app:" + "x" * 129, "is not a tag"),
        ("app@sha256:12", "is not a digest"),
        ("app@", "is not a digest"),
        ("app@sha256:" + "A" * 64, "is not a digest"),
        ("a//b", "is not a repository"),
        ("r.io/../etc", "is not a repository"),
        ("r.io/a___b", "is not a repository"),
        ("https://r.io/app", "is not a registry host"),
        ("-r.io/app", "is not a registry host"),
        ("r.io/" + "a" * 256, "more than 255 characters"),
        ("ab" * 32, "is the id of an image on one machine"),
        ("python:3.12\n", "is not a tag"),
    ],
)
def test_what_is_no_reference(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_reference(text)


@examples(300)
@given(st.text(alphabet="aB0.:/@-_[]", max_size=30) | st.text(max_size=30))
def test_any_text_is_refused_or_comes_back_the_same(text: str) -> None:
    try:
        parsed = parse_reference(text)
    except ValueError:
        return
    assert parse_reference(str(parsed)) == parsed
    assert parsed.tag or parsed.digest
