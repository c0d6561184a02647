"""Envoy resources that do not depend on routes: listeners, secret, clusters, endpoints (pure).

Everything is JSON of Envoy's v3 API, read by Envoy from files of one watched folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "TYPE",
    "cluster",
    "discovery_response",
    "endpoints",
    "endpoints_file",
    "file_source",
    "listener",
    "route_configuration",
    "secret",
]

TYPE = "type.googleapis.com/envoy."
_SECRET = "gateway"
_LOOPBACK = "127.0.0.1"
# The defaults (1024, and 3 retries at a time) would answer 503 long before this machine is busy, and to many
# at the moment when a replica has died and has not been withdrawn.
_MANY = 65536
_LIMITS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")


def file_source(xds: Path, name: str) -> dict[str, Any]:
    """A configuration source: one file, noticed when it is moved into the folder."""
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(xds / f"{name}.json"),
            "watched_directory": {"path": str(xds)},
        },
    }


def discovery_response(resources: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The content of one file."""
    return {"resources": list(resources)}


def listener(xds: Path, name: str, port: int, *, tls: bool) -> dict[str, Any]:
    """A listener on loopback whose routes are the route configuration of its name."""
    chain: dict[str, Any] = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _connection_manager(xds, name),
            }
        ]
    }
    if tls:
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificate_sds_secret_configs": [
                        {"name": _SECRET, "sds_config": file_source(xds, "sds")}
                    ],
                },
            },
        }
    return {
        "@type": TYPE + "config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": _LOOPBACK, "port_value": port}},
        # With SO_REUSEPORT a second gateway could take a share of our connections unnoticed.
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def _connection_manager(xds: Path, name: str) -> dict[str, Any]:
    return {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "rds": {"route_config_name": name, "config_source": file_source(xds, f"rds-{name}")},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"},
            }
        ],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "normalize_path": True,
        "use_remote_address": True,
    }


def secret(certificate: bytes, key: bytes) -> dict[str, Any]:
    """The gateway's certificate, inline: Envoy does not read a file of the same name again."""
    return {
        "@type": TYPE + "extensions.transport_sockets.tls.v3.Secret",
        "name": _SECRET,
        "tls_certificate": {
            "certificate_chain": {"inline_string": certificate.decode()},
            "private_key": {"inline_string": key.decode()},
        },
    }


def route_configuration(name: str, virtual_hosts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The routes of one listener."""
    return {
        "@type": TYPE + "config.route.v3.RouteConfiguration",
        "name": name,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": list(virtual_hosts),
    }


def endpoints_file(name: str) -> str:
    """Name of the file that holds the endpoints of a cluster: one each, as Envoy wants it."""
    return f"eds-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def cluster(xds: Path, name: str, *, h2c: bool, inline: dict[str, Any] | None = None) -> dict[str, Any]:
    """A cluster whose endpoints come from a file of its own, or are in it.

    Args:
        xds: Folder of Envoy's files.
        name: Its name.
        h2c: Whether its endpoints speak HTTP/2.
        inline: Its `endpoints`; None for a file.
    """
    out: dict[str, Any] = {
        "@type": TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {"thresholds": [dict.fromkeys(_LIMITS, _MANY)]},
    }
    if inline is None:
        source = file_source(xds, endpoints_file(name))
        out |= {"type": "EDS", "eds_cluster_config": {"service_name": name, "eds_config": source}}
    else:
        typed = "@type"  # of resources that stand alone
        out |= {"type": "STATIC", "load_assignment": {k: v for k, v in inline.items() if k != typed}}
    if h2c:
        out["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return out


def endpoints(name: str, addresses: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """The endpoints of a cluster; none means 503."""
    return {
        "@type": TYPE + "config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [
            {
                "lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": a, "port_value": p}}}}
                    for a, p in addresses
                ]
            }
        ],
    }
