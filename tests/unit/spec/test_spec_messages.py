"""What messages show of a value."""

from __future__ import annotations

from chalkcompute.spec.checks import quoted, without_credentials


def test_urls_lose_their_credentials() -> None:
    said = "https://me:p@ss:w@index.example/simple?a=b@c, git+https://token@git.example/x@v1 and me@example"
    assert without_credentials(said) == (
        "https://index.example/simple?a=b@c, git+https://git.example/x@v1 and me@example"
    )


def test_a_message_shows_no_password_of_a_url() -> None:
    assert quoted("--index-url https://me:word@index.example/") == "`--index-url https://index.example/`"
    assert quoted(["https://me:word@index.example/"]) == "`['https://index.example/']`"
