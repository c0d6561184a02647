"""Where the settings come from: flags, environment, `.env`, kubeconfig. The SDK reads `os.environ` here only.

Order, the first that says anything wins:

1. arguments (the command line's flags)
2. `CHALK_*` variables of the environment
3. the same variables in `.env` of the working folder (or what `--env-file` or `CHALK_ENV_FILE` names)

and for the cluster itself: `--kubeconfig` / `CHALK_KUBECONFIG`, then `KUBECONFIG` (a list, as kubectl
reads it) or `~/.kube/config`, then the credentials of the pod we run in, then a local cluster that
`chalk local up` made.

| variable | meaning |
|---|---|
| `CHALK_KUBECONFIG`, `CHALK_CONTEXT` | kubeconfig file and context |
| `CHALK_NAMESPACE` | Kubernetes namespace; else the context's own, else `default` |
| `CHALK_ENVIRONMENT` | environment id, first part of every host name |
| `CHALK_GATEWAY` | `namespace/name` of the Gateway to attach routes to; `/listener` may follow |
| `CHALK_GATEWAY_DOMAIN` | domain of its wildcard listener, where it cannot be read off the Gateway |
| `CHALK_GATEWAY_PORT` | port at which clients reach it, where a load balancer changes it |
| `CHALK_GATEWAY_ADDRESS` | host name or IP address at which `call()` reaches it |
| `CHALK_REGISTRY` | `host/path` below which images are pushed; else what the namespace says |
| `CHALK_PLATFORM` | what images are built for, comma-separated; else what the nodes are |
| `CHALK_VOLUME_IMAGE` | image of the pods that open volumes; `busybox:1.37` |
| `CHALK_LOCAL_HOME` | state folder of the local cluster, never from `.env`; `~/.chalk/local` |
| `CHALK_GPU_NODE_SELECTOR_KEY`, `CHALK_GPU_RESOURCE_NAME` | where they are not GKE's and NVIDIA's |
| `CHALK_GPU_TOLERATIONS` | taints of GPU nodes, `key[=value]:Effect,...`; else any of the resource's name |
| `CHALK_KEDA_NAMESPACE`, `CHALK_KEDA_INTERCEPTOR_SERVICE` | where KEDA's HTTP add-on lives |
| `CHALK_CA_FILE` | PEM file of the authority that signed the gateway's certificate, for `call()` |
| `CHALK_ENV_FILE` | file to read instead of `.env`; of the environment only |
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chalkcompute.errors import ConfigError, SpecError
from chalkcompute.manifests import gpu_nodes
from chalkcompute.manifests.placement import Profile
from chalkcompute.spec.images import validate_image

__all__ = ["Settings", "deployers_environment", "load_settings"]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one client.

    Attributes:
        kubeconfig: Files named on purpose (flag or `CHALK_KUBECONFIG`); they must exist.
        kubeconfig_default: Files of `KUBECONFIG`, else `~/.kube/config`.
        kubeconfig_required: True when `KUBECONFIG` is set, so that one of its files must exist.
        context: kubeconfig context, or None for the current one.
        namespace: Kubernetes namespace, or None for the context's.
        environment: Environment id, or None to ask the namespace.
        gateway: `(namespace, name)` of the Gateway, or None to look for it.
        gateway_section: Name of its listener, or None for the one that fits.
        gateway_domain: Its domain, or None to read it off the Gateway.
        gateway_port: Port at which clients reach it, or None for the listener's own.
        gateway_address: Host name or IP address at which `call()` reaches it, or None for what DNS says.
        in_cluster_server: URL of the API server when we run in a pod, or None.
        service_account: Folder of the pod's credentials.
        local_kubeconfig: kubeconfig of the local cluster, whether it exists or not.
        ca_file: PEM file for `call()`, or None.
        profile: What differs between clusters: GPU names, where KEDA lives.
        registry: `host/path` below which images are pushed, or None to ask the namespace.
        platforms: What images are built for, or () to ask the nodes.
        volume_image: Image of the pods that open volumes, or None for the usual one.
    """

    kubeconfig: tuple[Path, ...] = ()
    kubeconfig_default: tuple[Path, ...] = ()
    kubeconfig_required: bool = False
    context: str | None = None
    namespace: str | None = None
    environment: str | None = None
    gateway: tuple[str, str] | None = None
    gateway_section: str | None = None
    gateway_domain: str | None = None
    gateway_port: int | None = None
    gateway_address: str | None = None
    in_cluster_server: str | None = None
    service_account: Path = _SERVICE_ACCOUNT
    local_kubeconfig: Path = Path("kubeconfig")
    ca_file: Path | None = None
    profile: Profile = field(default_factory=Profile)
    registry: str | None = None
    platforms: tuple[str, ...] = ()
    volume_image: str | None = None


def load_settings(
    *,
    kubeconfig: str | Path | None = None,
    context: str | None = None,
    namespace: str | None = None,
    environment: str | None = None,
    gateway: str | None = None,
    gateway_domain: str | None = None,
    env_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    service_account: Path = _SERVICE_ACCOUNT,
) -> Settings:
    """Settings from arguments, environment and `.env`; reads no kubeconfig.

    Args:
        kubeconfig: kubeconfig file, or several joined with the path separator.
        context: kubeconfig context.
        namespace: Kubernetes namespace.
        environment: Environment id.
        gateway: `namespace/name` of a Gateway, or `namespace/name/listener`.
        gateway_domain: Domain of its wildcard listener.
        env_file: File to read instead of `.env` of the working folder, else `CHALK_ENV_FILE`; must exist.
        environ: Environment; the process's own when None.
        folder: Working folder; the process's own when None.
        service_account: Folder of the pod's credentials.

    Raises:
        ConfigError: An env file that cannot be read or has a line that is no variable, a gateway not of the
            form `namespace/name`, a port that is none.
    """
    real = os.environ if environ is None else environ
    values = deployers_environment(env_file=env_file, environ=real, folder=folder)

    def setting(argument: str | None, variable: str) -> str | None:
        return argument or values.get(variable, "").strip() or None

    home = Path(values.get("HOME") or Path.home())
    explicit = setting(str(kubeconfig) if kubeconfig is not None else None, "CHALK_KUBECONFIG")
    default = _paths(values.get("KUBECONFIG"), home)
    # Not from `.env`: `chalk local up` started it where the environment itself said.
    local_home = real.get("CHALK_LOCAL_HOME", "").strip()
    ca_file = setting(None, "CHALK_CA_FILE")
    chosen = _gateway(setting(gateway, "CHALK_GATEWAY"))
    return Settings(
        kubeconfig=_paths(explicit, home),
        kubeconfig_default=default or (home / ".kube" / "config",),
        kubeconfig_required=bool(default),
        context=setting(context, "CHALK_CONTEXT"),
        namespace=setting(namespace, "CHALK_NAMESPACE"),
        environment=setting(environment, "CHALK_ENVIRONMENT"),
        gateway=chosen[:2] if chosen else None,
        gateway_section=chosen[2] if chosen else None,
        gateway_domain=_domain(setting(gateway_domain, "CHALK_GATEWAY_DOMAIN")),
        gateway_port=_port(setting(None, "CHALK_GATEWAY_PORT")),
        gateway_address=_address(setting(None, "CHALK_GATEWAY_ADDRESS")),
        in_cluster_server=_in_cluster_server(values),
        service_account=service_account,
        local_kubeconfig=(_expand(local_home, home) if local_home else home / ".chalk" / "local")
        / "kubeconfig",
        ca_file=_expand(ca_file, home) if ca_file else None,
        profile=_profile(values),
        registry=_registry(setting(None, "CHALK_REGISTRY")),
        platforms=_platforms(setting(None, "CHALK_PLATFORM")),
        volume_image=setting(None, "CHALK_VOLUME_IMAGE"),
    )


def deployers_environment(
    *,
    env_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> dict[str, str]:
    """The environment that deploys, and below it its `.env` file: what `Secret.from_env` reads.

    Args:
        env_file: File to read instead of `.env` of the working folder, else `CHALK_ENV_FILE`; must exist.
        environ: Environment; the process's own when None.
        folder: Working folder; the process's own when None.

    Raises:
        ConfigError: An env file that cannot be read or has a line that is no variable.
    """
    real = os.environ if environ is None else environ
    return {**_env_file(env_file or real.get("CHALK_ENV_FILE"), folder or Path()), **real}


def _env_file(named: str | Path | None, folder: Path) -> dict[str, str]:
    path = Path(named) if named is not None else folder / ".env"
    if named is None and not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read the env file `{path}`: {reason}") from error
    from io import StringIO

    from dotenv import dotenv_values

    from chalkcompute.spec.parse import bad_dotenv_line

    line = bad_dotenv_line(text)
    if line is not None:
        # The text may be a secret, so only its place is named.
        raise ConfigError(
            f"the env file `{path}` line {line} is not `KEY=VALUE`",
            hint="correct it, or name another file with `--env-file` or CHALK_ENV_FILE",
        )
    return {key: value for key, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def _in_cluster_server(values: Mapping[str, str]) -> str | None:
    host, port = values.get("KUBERNETES_SERVICE_HOST"), values.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _gateway(text: str | None) -> tuple[str, str, str | None] | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError(
            f"gateway `{text}` is not of the form `namespace/name`",
            hint="`kubectl get gateways -A` lists them",
        )
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def _domain(text: str | None) -> str | None:
    if text is None:
        return None
    domain = text.removeprefix("*.").rstrip(".").lower()
    labels = domain.split(".")
    if not all(label.replace("-", "").isalnum() and label.isascii() and len(label) <= 63 for label in labels):
        raise ConfigError(f"gateway domain `{text}` is not a DNS name", hint="for example `gw.example.com`")
    return domain


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ConfigError(f"CHALK_GATEWAY_PORT `{text}` is no port", hint="a number from 1 to 65535")
    return int(text)


def _registry(text: str | None) -> str | None:
    if text is None:
        return None
    found = text.rstrip("/")
    try:
        validate_image(f"{found}/name")
    except SpecError:
        raise ConfigError(
            f"CHALK_REGISTRY `{text}` is no place for images",
            hint="`host` or `host/path`, in lower case, without scheme: `ghcr.io/my-team`",
        ) from None
    return found


def _platforms(text: str | None) -> tuple[str, ...]:
    found = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    for platform in found:
        if not re.fullmatch(r"linux/[a-z0-9]+(/v[0-9])?", platform):
            raise ConfigError(
                f"CHALK_PLATFORM `{text}` is no list of platforms",
                hint="for example `linux/amd64,linux/arm64`",
            )
    return found


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    address = text.removeprefix("[").removesuffix("]")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(address))
    labels = text.removesuffix(".").split(".")
    if not all(re.fullmatch(r"[0-9A-Za-z_]([-0-9A-Za-z_]{0,61}[0-9A-Za-z_])?", label) for label in labels):
        raise ConfigError(
            f"CHALK_GATEWAY_ADDRESS `{text}` is neither a host name nor an IP address",
            hint="without scheme and port; CHALK_GATEWAY_PORT names the port",
        )
    return text


def _profile(values: Mapping[str, str]) -> Profile:
    usual = Profile()

    def setting(variable: str, otherwise: str, check: Callable[[str, str], str]) -> str:
        return check(variable, values.get(variable, "").strip() or otherwise)

    keda = setting("CHALK_KEDA_NAMESPACE", usual.keda_namespace, _object_name)
    taints = "CHALK_GPU_TOLERATIONS"
    return Profile(
        gpu_node_selector_key=setting(
            "CHALK_GPU_NODE_SELECTOR_KEY", usual.gpu_node_selector_key, gpu_nodes.label_key
        ),
        gpu_resource_name=setting(
            "CHALK_GPU_RESOURCE_NAME", usual.gpu_resource_name, gpu_nodes.resource_name
        ),
        gpu_taints=gpu_nodes.tolerations(taints, values.get(taints, "")),
        keda_namespace=keda,
        keda_interceptor_service=setting(
            "CHALK_KEDA_INTERCEPTOR_SERVICE", usual.keda_interceptor_service, _object_name
        ),
        keda_scaler_address=f"keda-add-ons-http-external-scaler.{keda}:9090",
    )


def _object_name(variable: str, text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise ConfigError(
            f"{variable} `{text}` cannot be the name of a Kubernetes object",
            hint="lower-case letters, digits and `-`, at most 63 of them",
        )
    return text


def _paths(text: str | None, home: Path) -> tuple[Path, ...]:
    return tuple(_expand(part, home) for part in (text or "").split(os.pathsep) if part)


def _expand(text: str, home: Path) -> Path:
    return home / text[2:] if text.startswith("~/") else Path(text)
