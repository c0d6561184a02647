"""How clients reach the API server: its TLS certificate, the bearer token, the kubeconfig."""

from __future__ import annotations

import base64
import secrets
import ssl
from datetime import datetime
from typing import Any

from chalkcompute.local.gateway.authority import (
    API_SERVER_NAMES,
    Authority,
    pem_files,
    server_certificate,
)
from chalkcompute.local.state import StateFolder, write_atomically

__all__ = ["bearer_token", "kubeconfig", "load_server_certificate", "write_kubeconfig"]

_NAME = "api-server"
_TOKEN_BYTES = 32


def load_server_certificate(
    context: ssl.SSLContext, folder: StateFolder, authority: Authority, now: datetime
) -> None:
    """Give a TLS context the API server's certificate, renewed when due; new connections see it."""
    server_certificate(folder.ca, _NAME, authority, API_SERVER_NAMES, now)
    certificate, key = pem_files(folder.ca, _NAME)
    context.load_cert_chain(certificate, key)


def bearer_token(folder: StateFolder) -> str:
    """The token that requests must carry, made on first use."""
    path = folder.ca / "token"
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        write_atomically(path, token)
    return token


def kubeconfig(context: str, server: str, ca_pem: str, token: str) -> dict[str, Any]:
    """A kubeconfig with one context; cluster and user have its name."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                },
            }
        ],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [
            {"name": context, "context": {"cluster": context, "user": context, "namespace": "default"}}
        ],
    }


def write_kubeconfig(folder: StateFolder, document: dict[str, Any]) -> None:
    """Write it, readable by its owner only, unless it says so already."""
    import yaml

    text = yaml.safe_dump(document, sort_keys=False)
    if not folder.kubeconfig.exists() or folder.kubeconfig.read_text() != text:
        write_atomically(folder.kubeconfig, text)
