"""Which server a kubeconfig context means: a reading of the files, no connection.

The connection itself, with every kind of authentication, is left to the official client; this is
what `Target`, the namespace and the messages need. Merging follows kubectl: of several files the
first to set a value wins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chalkcompute.errors import ConnectionConfigError

__all__ = ["Connection", "Context", "Kubeconfig", "read_kubeconfig"]


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one cluster.

    Attributes:
        server: URL of the API server, as the kubeconfig has it.
        context: Name of the kubeconfig context; `in-cluster` for that source.
        namespace: Namespace of the context, or None.
        source: Where the credentials come from.
        files: The kubeconfig files; empty for `in-cluster`.
        context_name: The context inside `files`; None for `in-cluster`.
        proxy_url: `proxy-url` of the kubeconfig's cluster, or None.
    """

    server: str
    context: str
    namespace: str | None = None
    source: Literal["kubeconfig", "in-cluster", "local"] = "kubeconfig"
    files: tuple[Path, ...] = ()
    context_name: str | None = None
    proxy_url: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One context: its name, the server it points at, its namespace or None.

    Attributes:
        absent_user: The user that it names and the files do not have, or None.
    """

    name: str
    server: str | None
    namespace: str | None
    proxy_url: str | None = None
    absent_user: str | None = None


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """Merged kubeconfig files.

    Attributes:
        files: The files that exist, in order.
        contexts: Contexts by name, in order.
        current: `current-context`, or None.
    """

    files: tuple[Path, ...] = ()
    contexts: Mapping[str, Context] = field(default_factory=dict)
    current: str | None = None


def read_kubeconfig(paths: Sequence[Path]) -> Kubeconfig:
    """Read and merge kubeconfig files; files that do not exist are skipped, as kubectl does.

    Raises:
        ConnectionConfigError: A file that cannot be read or is not a kubeconfig.
    """
    documents = [(path, document) for path in paths if (document := _load(path)) is not None]
    clusters: dict[str, dict[str, Any]] = {}
    contexts: dict[str, dict[str, Any]] = {}
    users: set[str] = set()
    current: str | None = None
    for path, document in documents:
        for name, cluster in _entries(path, document, "clusters", "cluster"):
            clusters.setdefault(name, cluster)
        for name, context in _entries(path, document, "contexts", "context"):
            contexts.setdefault(name, context)
        users.update(name for name, _ in _entries(path, document, "users", "user"))
        current = current or _text(document.get("current-context"))
    return Kubeconfig(
        files=tuple(path for path, _ in documents),
        contexts={name: _context(name, entry, clusters, users) for name, entry in contexts.items()},
        current=current,
    )


def _context(
    name: str, entry: Mapping[str, Any], clusters: Mapping[str, dict[str, Any]], users: Collection[str]
) -> Context:
    cluster = clusters.get(str(entry.get("cluster")), {})
    user = _text(entry.get("user"))
    return Context(
        name=name,
        server=_text(cluster.get("server")),
        namespace=_text(entry.get("namespace")),
        proxy_url=_text(cluster.get("proxy-url")),
        absent_user=user if user not in users else None,
    )


def _load(path: Path) -> dict[str, Any] | None:
    import yaml

    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConnectionConfigError(f"cannot read the kubeconfig `{path}`: {reason}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConnectionConfigError(f"the kubeconfig `{path}` is not YAML{where}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConnectionConfigError(f"`{path}` is not a kubeconfig: it must be a mapping")
    return document


def _entries(
    path: Path, document: Mapping[str, Any], plural: str, singular: str
) -> list[tuple[str, dict[str, Any]]]:
    entries = document.get(plural) or []
    if not isinstance(entries, list):
        raise ConnectionConfigError(f"`{path}` is not a kubeconfig: `{plural}` must be a list")
    found: list[tuple[str, dict[str, Any]]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ConnectionConfigError(
                f"`{path}` is not a kubeconfig: each of `{plural}` must be a mapping with a `name`"
            )
        inner = entry.get(singular)
        found.append((entry["name"], inner if isinstance(inner, dict) else {}))
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
