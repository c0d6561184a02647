"""Challenges, and the tokens that answer them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import RegistryAuthError, RegistryError
from chalkcompute.registry import Credential, Registry
from chalkcompute.registry.tokens import Authorizer, Challenge, is_loopback, parse_challenges
from tests.properties import examples
from tests.unit.registry.fakes import errors, manifest_of

SECRET = "s3cret-value"
MANIFEST = manifest_of(b"{}")
REALM = 'Bearer realm="https://auth.r.io/token",service="r.io",scope="repository:a/b:pull"'
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Basic realm="r"', [Challenge("basic", {"realm": "r"})]),
        ("Basic", [Challenge("basic")]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
            [
                Challenge(
                    "bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"}
                )
            ],
        ),
        (
            'Negotiate abc==, BASIC Realm = "a \\"b\\"" , Bearer realm=x',
            [
                Challenge("negotiate"),
                Challenge("basic", {"realm": 'a "b"'}),
                Challenge("bearer", {"realm": "x"}),
            ],
        ),
        ('Negotiate, Basic realm=""', [Challenge("negotiate"), Challenge("basic", {"realm": ""})]),
        ('Basic realm="never ends', [Challenge("basic")]),
        ("", []),
        ('="x"', []),
    ],
)
def test_challenges(header: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([header]) == challenges


names = st.from_regex(re.compile(r"[a-z][a-z0-9-]{0,8}"), fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@examples(200)
@given(st.lists(st.tuples(names, st.dictionaries(names, values, max_size=4)), max_size=4))
def test_what_is_written_by_the_rules_is_read_back(written: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters.items())}".strip()
        for scheme, parameters in written
    )
    assert parse_challenges([header]) == [Challenge(*challenge) for challenge in written]


@examples(300)
@given(st.text(alphabet='Bb =",\\/\t', max_size=40) | st.text(max_size=40))
def test_any_header_is_read_without_an_error(header: str) -> None:
    for challenge in parse_challenges([header, header]):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("r.io", False),
    ],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


class _Credentials:
    def __init__(self, credential: Credential | None) -> None:
        self.credential = credential

    def find(self, host: str) -> Credential | None:
        assert host == "r.io"
        return self.credential


class _Server:
    """A registry at r.io that wants a token, and its token server."""

    def __init__(self, challenge: str = REALM, token: httpx.Response | None = None) -> None:
        self.challenge = challenge
        self.token = token
        self.asked: list[httpx.Request] = []
        self.good: set[str] = set()
        self.issued = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.r.io":
            self.asked.append(request)
            self.issued += 1
            self.good = {f"Bearer token{self.issued}"}
            return self.token or httpx.Response(200, json={"token": f"token{self.issued}"})
        if request.headers.get("authorization") in self.good:
            return httpx.Response(200, content=MANIFEST)
        return httpx.Response(
            401, headers={"WWW-Authenticate": self.challenge}, json={"errors": [{"code": "UNAUTHORIZED"}]}
        )


def registry(server: Handler, credential: Credential | None = None) -> Registry:
    return Registry("r.io", credentials=_Credentials(credential), transport=httpx.MockTransport(server))


def test_an_anonymous_token_is_kept_for_its_scope() -> None:
    server = _Server()
    with registry(server) as client:
        client.manifest("a/b", "v1")
        client.manifest("a/b", "v2")
        assert len(server.asked) == 1
        asked = server.asked[0]
        assert asked.method == "GET"
        assert parse_qs(asked.url.query.decode()) == {"service": ["r.io"], "scope": ["repository:a/b:pull"]}
        assert "authorization" not in asked.headers
        server.good = set()
        client.manifest("a/b", "v1")
        assert len(server.asked) == 2, "a token that is no longer good is fetched anew"
        client.manifest("c/d", "v1")
    assert server.asked[-1].url.params.get_list("scope") == ["repository:c/d:pull", "repository:a/b:pull"]


def test_a_password_goes_to_the_token_server_only() -> None:
    server = _Server()
    with registry(server, Credential("me", SECRET)) as client:
        client.manifest("a/b", "v1")
    asked = server.asked[0]
    pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == f"me:{SECRET}"
    assert asked.url.params["account"] == "me"


def test_an_identity_token_is_posted() -> None:
    server = _Server(token=httpx.Response(200, json={"access_token": "token1", "expires_in": 300}))
    with registry(server, Credential("", "", SECRET)) as client:
        client.manifest("a/b", "v1")
    asked = server.asked[0]
    form = parse_qs(asked.content.decode())
    assert asked.method == "POST"
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == [SECRET]
    assert form["scope"] == ["repository:a/b:pull"]


def test_basic() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") == "Basic " + base64.b64encode(b"me:pw").decode():
            return httpx.Response(200, content=MANIFEST)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    with registry(server, Credential("me", "pw")) as client:
        client.manifest("a/b", "v1")
    with (
        registry(server, Credential("me", SECRET)) as client,
        pytest.raises(
            RegistryAuthError, match=r"`r\.io` does not accept the credential for manifest"
        ) as refused,
    ):
        client.manifest("a/b", "v1")
    assert refused.value.status == 401
    with (
        registry(server) as client,
        pytest.raises(RegistryAuthError, match=r"`r\.io` wants a credential for") as refused,
    ):
        client.manifest("a/b", "v1")
    assert refused.value.hint == (
        "log in with `docker login r.io`; or there is no such repository: check the name"
    )


def test_tokens_expire() -> None:
    server, now = _Server(), [0.0]
    with httpx.Client(transport=httpx.MockTransport(server)) as client:
        authorizer = Authorizer("r.io", None, client, clock=lambda: now[0])
        scopes = ["repository:a/b:pull"]
        assert authorizer.header(scopes) is None
        assert authorizer.answer([REALM], scopes, "it") == "Bearer token1"
        assert authorizer.header(scopes) == "Bearer token1"
        assert authorizer.header(["repository:a/b:pull,push"]) is None
        now[0] = 56.0
        assert authorizer.header(scopes) is None


@pytest.mark.parametrize(
    ("server", "kind", "why"),
    [
        (_Server(token=errors(401, "DENIED")), RegistryAuthError, "does not accept the credential"),
        (_Server(token=errors(400, "DENIED")), RegistryAuthError, "does not accept the credential"),
        (_Server(token=errors(403, "DENIED")), RegistryAuthError, "does not allow manifest `v1` of `a/b`"),
        (_Server(token=errors(500, "X")), RegistryError, "failed on manifest"),
        (_Server(token=httpx.Response(200, text=SECRET)), RegistryAuthError, "answers without a token"),
        (
            _Server(token=httpx.Response(200, json={"token": f"{SECRET}\n"})),
            RegistryAuthError,
            "without a token",
        ),
        (_Server("Bearer"), RegistryError, "does not say where"),
        (_Server('Bearer realm="file:///etc"'), RegistryError, "does not say where"),
        (_Server('Bearer realm="http://auth.r.io/t"'), RegistryAuthError, "without encryption"),
        (_Server("Negotiate"), RegistryAuthError, "wants a credential"),
    ],
)
def test_no_token(pauses: list[float], server: _Server, kind: type[RegistryError], why: str) -> None:
    with registry(server, Credential("me", SECRET)) as client, pytest.raises(kind, match=why) as refused:
        client.manifest("a/b", "v1")
    assert SECRET not in f"{refused.value} {refused.value.hint} {refused.value!r}"
