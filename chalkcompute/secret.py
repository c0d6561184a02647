"""`Secret`: where secret environment variables come from. It has names, never values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted
from chalkcompute.spec.content import Content
from chalkcompute.spec.environment import is_variable, validate_variable
from chalkcompute.spec.secrets import SecretRef, check_object_name, check_unique_variables

__all__ = ["Secret", "check_secrets", "gather", "references", "resolve"]

# As names of variables are nearly always written, right or wrong, and keys and passwords hardly ever.
_LIKE_A_NAME = re.compile(r"(?=.*[A-Z])[A-Z0-9]{1,15}(?:[ ._-][A-Z0-9]{0,15})*")
_VARIABLE_BYTES = 128 * 1024  # MAX_ARG_STRLEN, with name, `=` and the NUL at its end
_SECRET_BYTES = 1024 * 1024  # MaxSecretSize of Kubernetes

_HOW = "make one with `Secret.from_env(…)`, `Secret.from_dotenv(…)` or `Secret.from_kubernetes(…)`"


@dataclass(frozen=True, slots=True, init=False)
class Secret:
    """One or more environment variables whose values nobody sees: not in the description, not in a record.

    Made by `from_env`, `from_dotenv` or `from_kubernetes`. Values are read when the group is deployed.
    """

    _source: Literal["env", "dotenv", "kubernetes"]
    _name: str
    _key: str | None
    _variable: str | None

    def __init__(self, *_: object, **__: object) -> None:
        raise SpecError("a Secret is not made by calling `Secret`", field="secrets", hint=_HOW)

    @classmethod
    def _of(cls, source: str, name: str, key: str | None = None, variable: str | None = None) -> Secret:
        made = object.__new__(cls)
        for attribute, value in (("source", source), ("name", name), ("key", key), ("variable", variable)):
            object.__setattr__(made, f"_{attribute}", value)
        return made

    @classmethod
    def from_env(cls, name: str, *, alias: str | None = None) -> Secret:
        """A variable of the environment that deploys, or else of its `.env` file, read at each deploy.

        Its value goes into a Kubernetes Secret of the group. A variable that is not set, or empty, fails the
        deploy before anything is applied.

        Args:
            name: Name of the variable where the deploy runs.
            alias: Name of the variable in the replicas; the same when None.

        Raises:
            SpecError: A name that no variable can have.
        """
        _check_source(name)
        return cls._of("env", name, variable=_variable(alias) or name)

    @classmethod
    def from_dotenv(cls, path: str | Path) -> Secret:
        """All variables of a dotenv file (`NAME=value` lines), taken literally, read at each deploy.

        Args:
            path: The file; a relative path is of the working folder at the deploy.

        Raises:
            SpecError: `path` is no path.
        """
        if not isinstance(path, str | Path) or not str(path):
            raise SpecError(f"`path` of a Secret must be a path, not {quoted(path)}", field="secrets")
        return cls._of("dotenv", str(path))

    @classmethod
    def from_kubernetes(cls, name: str, key: str | None = None, *, alias: str | None = None) -> Secret:
        """A Kubernetes Secret of the namespace that somebody else looks after; its values are not copied.

        Each deploy looks at its version: a Secret that has changed since makes a new revision.

        Args:
            name: Name of the Secret.
            key: Key in it; None makes a variable of every key, by its name.
            alias: Name of the variable in the replicas, for one `key`; the key's own when None, which then
                has to be one that a variable can have.

        Raises:
            SpecError: A name or key that cannot be, or an alias without a key.
        """
        check_object_name("secrets", name, what="the name of a Secret")
        if key is None:
            if alias is not None:
                raise SpecError(
                    f"`alias` of Secret `{name}` needs the one `key` that it is for", field="secrets"
                )
            return cls._of("kubernetes", name)
        checked = SecretRef("_", name, key).key
        own = checked if is_variable(checked) else None  # then `env=` may yet give it a name
        return cls._of("kubernetes", name, checked, _variable(alias) or own)

    def __repr__(self) -> str:
        given = [repr(self._name)]
        if self._key is not None:
            given.append(repr(self._key))
        if self._variable not in (None, self._key or self._name):
            given.append(f"alias={self._variable!r}")
        return f"Secret.from_{self._source}({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret._of, (self._source, self._name, self._key, self._variable)


def gather(env: object, secrets: object) -> tuple[dict[str, str], tuple[Secret, ...]]:
    """The arguments `env` and `secrets`: the plain variables, and all Secrets, those among `env` too.

    Raises:
        SpecError: Not a list of Secrets, one in `env` that may be several variables, or a variable that is
            given twice. What is wrong with a plain variable, the spec says.
    """
    plain, among_them = _take_from_env({} if env is None else env)
    found = (*check_secrets(secrets), *among_them)
    known = [secret._variable for secret in found if secret._variable is not None]
    check_unique_variables(known, plain if isinstance(plain, Mapping) else None)
    return cast("dict[str, str]", plain), found


def check_secrets(value: object) -> tuple[Secret, ...]:
    """The argument `secrets`.

    Raises:
        SpecError: Not a list of Secrets.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise SpecError(
            f"`secrets` must be a list of Secrets, not {type(value).__name__}", field="secrets", hint=_HOW
        )
    for item in value:
        if not isinstance(item, Secret):
            # A text in its place may be the secret itself, so it is not shown.
            raise SpecError(
                f"an item of `secrets` must be a Secret, not {type(item).__name__}",
                field="secrets",
                hint=_HOW,
            )
        if item._key is not None and item._variable is None:
            raise SpecError(
                f"the key `{item._key}` of Secret `{item._name}` cannot be the name of an environment "
                "variable",
                field="secrets",
                hint=f"give it one: `Secret.from_kubernetes({item._name!r}, {item._key!r}, alias=…)`",
            )
    return tuple(value)


def _take_from_env(env: object) -> tuple[object, tuple[Secret, ...]]:
    """`env` without the Secrets among its values, and these, each under the name that it has there.

    Raises:
        SpecError: One that stands for more than one variable, or has an alias of its own.
    """
    if not isinstance(env, Mapping) or not any(isinstance(value, Secret) for value in env.values()):
        return env, ()
    plain = {name: value for name, value in env.items() if not isinstance(value, Secret)}
    return plain, tuple(_as(name, value) for name, value in env.items() if isinstance(value, Secret))


def _as(name: object, secret: Secret) -> Secret:
    variable = validate_variable(name)
    if secret._variable is None and secret._key is None:
        raise SpecError(
            f"`env`: {secret!r} may be more than one variable, so it cannot be the value of `{variable}`",
            field="env",
            hint='name one key: `Secret.from_kubernetes("name", "key")`'
            if secret._source == "kubernetes"
            else "put it into `secrets`",
        )
    if secret._variable not in (None, variable, secret._key or secret._name):
        raise SpecError(
            f"`env`: {secret!r} has another name already than `{variable}`",
            field="env",
            hint="leave out its `alias`",
        )
    return Secret._of(secret._source, secret._name, secret._key, variable)


def references(secrets: Iterable[Secret]) -> tuple[SecretRef, ...]:
    """Those that name a key of a Secret of the namespace, as the spec has them."""
    return tuple(
        SecretRef(secret._variable, secret._name, secret._key)
        for secret in secrets
        if secret._source == "kubernetes" and secret._key is not None and secret._variable is not None
    )


def resolve(secrets: Sequence[Secret], environ: Mapping[str, str], *, names_only: bool = False) -> Content:
    """The values of those that are not in Kubernetes yet, read now.

    Args:
        secrets: All of the group, those of `references` too.
        environ: The environment that deploys, its `.env` file included.
        names_only: Leave out the values, and do not ask for them.

    Raises:
        SpecError: A variable is not set or empty, a file cannot be read, two give one variable. The message
            names it, and has no value.
    """
    pairs: list[tuple[str, str]] = []
    missing: list[str] = []
    for secret in secrets:
        if secret._source == "env":
            value = environ.get(secret._name, "")
            pairs.append((secret._variable or secret._name, value))
            if not value:
                missing.append(_shown(secret))
        elif secret._source == "dotenv":
            pairs += _dotenv(Path(secret._name))
    if missing and not names_only:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(missing))
        what = "has no value" if len(set(missing)) == 1 else "have no value"
        hint = "set it in the environment of this command, or in its `.env` file"
        if any(s._variable not in (None, s._name) and _shown(s) in missing for s in secrets):
            hint += "; what is given is the name of a variable and never a value"
        raise SpecError(
            f"{names} {what} here, and the replicas need it as a secret",
            field="secrets",
            hint=hint,
        )
    check_unique_variables([name for name, _ in pairs])
    for name, value in pairs:
        check_text("secrets", value, what=f"the value of secret `{name}`", private=True)
        if len(f"{name}={value}".encode()) >= _VARIABLE_BYTES:
            raise SpecError(
                f"the value of secret `{name}` is longer than the 128 KiB that Linux has for a variable",
                field="secrets",
                hint="make a Kubernetes Secret or a volume of it, or let the service fetch it",
            )
    if sum(len(name) + len(value.encode()) for name, value in pairs) > _SECRET_BYTES:
        raise SpecError(
            "the secrets are more than 1 MiB together, which one Kubernetes Secret cannot hold",
            field="secrets",
            hint="have only what the service needs",
        )
    whole = [s._name for s in secrets if s._source == "kubernetes" and s._key is None]
    values = {name: "" if names_only else value for name, value in pairs}
    return Content(secret_values=values, whole_secrets=tuple(dict.fromkeys(whole)))


def _is_shown(text: str) -> bool:
    """Whether a message repeats what is given for the name of a variable: it may be the value."""
    return _LIKE_A_NAME.fullmatch(text) is not None


def _shown(secret: Secret) -> str:
    """What messages call a variable that is not there: by its own name if that looks like one.

    Whoever writes `--secret TOKEN=…` may have given the value, which then must not stand in a log.
    """
    return secret._name if _is_shown(secret._name) else secret._variable or secret._name


def _check_source(name: object) -> None:
    """That it can be the name of a variable; if not, it may be the value."""
    if isinstance(name, str) and _is_shown(name):
        validate_variable(name, field="secrets")
    elif not isinstance(name, str) or not is_variable(name):
        raise SpecError(
            "what a secret is taken from must be the name of an environment variable, and never a value",
            field="secrets",
            hint="export the value as a variable, and give its name: letters, digits and `_`, no digit first",
        )


def _dotenv(path: Path) -> list[tuple[str, str]]:
    """Variables of a dotenv file, taken literally: no `${…}` is expanded."""
    import io

    from dotenv import dotenv_values

    from chalkcompute.spec.parse import bad_dotenv_line

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"cannot read the secrets of `{path}`: {reason}", field="secrets") from None
    line = bad_dotenv_line(text, strict=True)
    if line is not None:
        # The text is a secret, so only its place is named.
        raise SpecError(
            f"`{path}` line {line} is not `NAME=value`",
            field="secrets",
            hint="a name has letters, digits and `_`; a value of several lines stands in quotes",
        )
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    for name, value in found.items():
        if not value:
            raise SpecError(
                f"`{name}` has no value in `{path}`", field="secrets", hint="give it one, or leave it out"
            )
    if not found:
        raise SpecError(
            f"there is no variable in `{path}`", field="secrets", hint="give it one, or leave it out"
        )
    return [(name, value) for name, value in found.items() if value]


def _variable(alias: object) -> str | None:
    return None if alias is None else validate_variable(alias, field="secrets")
