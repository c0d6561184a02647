"""`Secret`: what it refuses, what it shows, and what it reads."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from chalkcompute import Secret, SpecError
from chalkcompute.secret import gather, references, resolve
from chalkcompute.spec.secrets import SecretRef


def test_environment() -> None:
    secrets = [Secret.from_env("A"), Secret.from_env("B", alias="C")]
    content = resolve(secrets, {"A": "1", "B": "2", "OTHER": "3"})
    assert dict(content.secret_values) == {"A": "1", "C": "2"}
    assert "1" not in repr(content)


@pytest.mark.parametrize("environ", [{}, {"A": ""}])
def test_what_has_no_value_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="`A` has no value here") as caught:
        resolve([Secret.from_env("A")], environ)
    assert caught.value.field == "secrets"
    assert "never a value" not in str(caught.value.hint)
    with pytest.raises(SpecError) as aliased:
        resolve([Secret.from_env("A", alias="B")], environ)
    assert "the name of a variable and never a value" in str(aliased.value.hint)
    assert dict(resolve([Secret.from_env("A")], environ, names_only=True).secret_values) == {"A": ""}


@pytest.mark.parametrize("value", ["hunter2", "sk-ant-1", "AKIAIOSFODNN7EXAMPLE", "0a1b"])
def test_a_value_in_place_of_a_name_is_not_repeated(value: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve([Secret.from_env(value, alias="TOKEN")], {})
    assert value not in f"{caught.value} {caught.value.hint}"
    assert "never a value" in f"{caught.value} {caught.value.hint}"


def test_what_no_replica_could_be_given(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="`A` is longer than the 128 KiB that Linux has"):
        resolve([Secret.from_env("A")], {"A": "a" * (128 * 1024 - 2)})
    environ = {f"A{number}": "a" * (128 * 1024 - 10) for number in range(9)}
    assert resolve([Secret.from_env(name) for name in list(environ)[:8]], environ)
    with pytest.raises(SpecError, match="more than 1 MiB together"):
        resolve([Secret.from_env(name) for name in environ], environ)
    (tmp_path / "empty.env").write_text("# nothing\n")
    with pytest.raises(SpecError, match=r"no variable in `.*empty\.env`"):
        resolve([Secret.from_dotenv(tmp_path / "empty.env")], {})


def test_dotenv(tmp_path: Path) -> None:
    file = tmp_path / "prod.env"
    file.write_text("A=a${B}\nexport B='b c'\n")
    assert dict(resolve([Secret.from_dotenv(file)], {}).secret_values) == {"A": "a${B}", "B": "b c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nB=\n", "`B` has no value"),
        ("A=hunter2\nhunter2\n", "line 2 is not"),
        ("1A=hunter2\n", "line 1 is not"),
        ("A=x\nhunter2+more==\n", "line 2 is not"),
    ],
)
def test_a_dotenv_file_that_will_not_do(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / ".env"
    file.write_text(text)
    with pytest.raises(SpecError, match=said) as caught:
        resolve([Secret.from_dotenv(file)], {})
    assert "hunter2" not in str(caught.value)


def test_a_dotenv_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the secrets of"):
        resolve([Secret.from_dotenv(tmp_path / "none")], {})


def test_kubernetes() -> None:
    secrets = [
        Secret.from_kubernetes("db", "password", alias="DB_PASSWORD"),
        Secret.from_kubernetes("db", "USER"),
        Secret.from_kubernetes("all"),
    ]
    assert references(secrets) == (
        SecretRef("DB_PASSWORD", "db", "password"),
        SecretRef("USER", "db", "USER"),
    )
    assert resolve(secrets, {}).whole_secrets == ("all",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Secret("OPENAI_API_KEY"),
        lambda: Secret.from_env("a b"),
        lambda: Secret.from_env(5),  # type: ignore[arg-type]
        lambda: Secret.from_env("A", alias="1"),
        lambda: Secret.from_dotenv(None),  # type: ignore[arg-type]
        lambda: Secret.from_kubernetes("DB"),
        lambda: Secret.from_kubernetes("db", alias="A"),
        lambda: Secret.from_kubernetes("db", "a b"),
    ],
)
def test_what_cannot_be(make: Any) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert caught.value.field == "secrets"


@pytest.mark.parametrize(
    ("env", "secrets", "said"),
    [
        ({"A": Secret.from_dotenv("x")}, None, "may be more than one variable"),
        ({"A": Secret.from_kubernetes("db")}, None, "may be more than one variable"),
        ({"A": Secret.from_env("B", alias="C")}, None, "has another name already"),
        ({"A": "1"}, [Secret.from_env("A")], "plain value and as a secret"),
        ({"A": Secret.from_env("B")}, [Secret.from_env("A")], "two secrets give"),
        ({}, Secret.from_env("A"), "must be a list of Secrets"),
        ({}, ["hunter2"], "must be a Secret, not str"),
        ({}, [Secret.from_kubernetes("db", "tls.crt")], r"the key `tls\.crt` of Secret `db` cannot be"),
    ],
)
def test_what_cannot_be_together(env: Any, secrets: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        gather(env, secrets)
    assert "hunter2" not in str(caught.value)


def test_a_secret_in_env_has_the_name_it_has_there() -> None:
    plain, found = gather({"TOKEN": Secret.from_env("MY_TOKEN"), "B": "1"}, None)
    assert plain == {"B": "1"}
    assert dict(resolve(found, {"MY_TOKEN": "x"}).secret_values) == {"TOKEN": "x"}
    _, found = gather({"CERT": Secret.from_kubernetes("db", "tls.crt")}, None)
    assert references(found) == (SecretRef("CERT", "db", "tls.crt"),)


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (Secret.from_env("A"), "Secret.from_env('A')"),
        (Secret.from_env("A", alias="B"), "Secret.from_env('A', alias='B')"),
        (Secret.from_kubernetes("db", "k", alias="B"), "Secret.from_kubernetes('db', 'k', alias='B')"),
        (Secret.from_dotenv("x"), "Secret.from_dotenv('x')"),
    ],
)
def test_copies_and_reprs(secret: Secret, shown: str) -> None:
    assert repr(secret) == shown
    assert copy.deepcopy(secret) == secret == pickle.loads(pickle.dumps(secret))
