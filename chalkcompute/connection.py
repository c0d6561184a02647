"""Which cluster the settings mean: a kubeconfig context, the Pod that we run in, or the local cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chalkcompute.cluster.kubeconfig import Connection, Context, Kubeconfig, read_kubeconfig
from chalkcompute.errors import ConnectionConfigError
from chalkcompute.settings import Settings

__all__ = ["choose_connection"]

_NO_CLUSTER_HINT = (
    "start a cluster on this machine with `chalk local up`, or point KUBECONFIG (or `--kubeconfig`) at one"
)


def choose_connection(settings: Settings) -> Connection:
    """The cluster that these settings mean; reads kubeconfig files, sends nothing.

    Raises:
        ConnectionConfigError: No cluster is configured, an unknown context, an unreadable file.
    """
    if settings.kubeconfig:
        return _explicit(settings)
    config = read_kubeconfig(settings.kubeconfig_default)
    if settings.kubeconfig_required and not config.files:
        raise ConnectionConfigError(
            f"KUBECONFIG names {_listed(settings.kubeconfig_default)}, which does not exist",
            hint=f"unset KUBECONFIG or correct it; {_NO_CLUSTER_HINT}",
        )
    local = read_kubeconfig((settings.local_kubeconfig,))
    if settings.context is not None:
        if settings.context in config.contexts:
            return _from_context(config, settings.context)
        if settings.context in local.contexts:
            return _local(settings, local)
        raise _unknown_context(settings.context, [*{**config.contexts, **local.contexts}])
    if config.current is not None:
        return _from_context(config, config.current)
    if config.contexts:
        raise ConnectionConfigError(
            f"{_listed(config.files)} has no current context",
            hint=f"choose one with `--context`: {', '.join(config.contexts)}",
        )
    if settings.in_cluster_server is not None and (settings.service_account / "token").is_file():
        return _in_cluster(settings, settings.in_cluster_server)
    if local.contexts:
        return _local(settings, local)
    raise ConnectionConfigError("no Kubernetes cluster is configured", hint=_NO_CLUSTER_HINT)


def _explicit(settings: Settings) -> Connection:
    config = read_kubeconfig(settings.kubeconfig)
    if not config.files:
        raise ConnectionConfigError(
            f"the kubeconfig {_listed(settings.kubeconfig)} does not exist", hint=_NO_CLUSTER_HINT
        )
    name = settings.context or config.current
    if name is None:
        raise ConnectionConfigError(
            f"{_listed(config.files)} has no current context",
            hint=f"choose one with `--context`: {', '.join(config.contexts) or 'it has none'}",
        )
    return _from_context(config, name)


def _from_context(config: Kubeconfig, name: str) -> Connection:
    context = config.contexts.get(name)
    if context is None:
        raise _unknown_context(name, list(config.contexts))
    return _connection(config, context)


def _connection(config: Kubeconfig, context: Context) -> Connection:
    if context.server is None:
        raise ConnectionConfigError(
            f"the context `{context.name}` of {_listed(config.files)} names a cluster without a server",
            hint="correct the kubeconfig, or choose another context with `--context`",
        )
    if context.absent_user is not None:
        raise ConnectionConfigError(
            f"the context `{context.name}` of {_listed(config.files)} names a user that is not there: "
            f"`{context.absent_user}`",
            hint="correct the kubeconfig, or choose another context with `--context`",
        )
    return Connection(
        server=context.server,
        context=context.name,
        namespace=context.namespace,
        files=config.files,
        context_name=context.name,
        proxy_url=context.proxy_url,
    )


def _local(settings: Settings, config: Kubeconfig) -> Connection:
    name = settings.context or config.current or next(iter(config.contexts))
    return replace(_from_context(config, name), source="local")


def _in_cluster(settings: Settings, server: str) -> Connection:
    try:
        namespace = (settings.service_account / "namespace").read_text(encoding="utf-8").strip() or None
    except OSError:
        namespace = None  # an old or trimmed token mount; `default` is then as good as any
    return Connection(server=server, context="in-cluster", namespace=namespace, source="in-cluster")


def _unknown_context(name: str, known: list[str]) -> ConnectionConfigError:
    return ConnectionConfigError(
        f"there is no kubeconfig context `{name}`",
        hint=f"there are: {', '.join(known)}" if known else _NO_CLUSTER_HINT,
    )


def _listed(paths: tuple[Path, ...]) -> str:
    return ", ".join(f"`{path}`" for path in paths)
