from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from chalkcompute.local.gateway.authority import (
    API_SERVER_NAMES,
    Authority,
    load_or_make,
    make_authority,
    pem_files,
    server_certificate,
)

NOW = datetime.now(UTC)
GATEWAY_NAMES = ("*.gw.localhost", "gw.localhost")


def handshake(tmp_path: Path, authority: Authority, names: tuple[str, ...], asked: str) -> str | None:
    """Connect over TLS as a strict client would; the reason of a refusal, None when all is well."""
    server_certificate(tmp_path, "server", authority, names, NOW)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*pem_files(tmp_path, "server"))
    client = ssl.create_default_context(cadata=authority.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()  # the client refused, and says so itself

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=asked).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()
    return None


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (GATEWAY_NAMES, "dev-web.gw.localhost"),
        (GATEWAY_NAMES, "gw.localhost"),
        (API_SERVER_NAMES, "127.0.0.1"),
        (API_SERVER_NAMES, "localhost"),
    ],
)
def test_clients_accept_what_it_signs(tmp_path: Path, names: tuple[str, ...], asked: str) -> None:
    assert handshake(tmp_path, make_authority("gw.localhost", NOW), names, asked) is None


def test_it_cannot_vouch_for_anything_else(tmp_path: Path) -> None:
    reason = handshake(tmp_path, make_authority("gw.localhost", NOW), ("example.com",), "example.com")
    assert reason == "permitted subtree violation"


def test_keys_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    authority = load_or_make(tmp_path, "gw.localhost", NOW)
    server_certificate(tmp_path, "gateway", authority, GATEWAY_NAMES, NOW)
    for name in ("ca.key", "gateway.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_kept_until_near_its_end(tmp_path: Path) -> None:
    authority = load_or_make(tmp_path, "gw.localhost", NOW)
    first = server_certificate(tmp_path, "gateway", authority, GATEWAY_NAMES, NOW)
    assert load_or_make(tmp_path, "gw.localhost", NOW + timedelta(days=300)) == authority
    later = NOW + timedelta(days=300)
    assert server_certificate(tmp_path, "gateway", authority, GATEWAY_NAMES, later) == first
    much_later = NOW + timedelta(days=380)
    renewed = server_certificate(tmp_path, "gateway", authority, GATEWAY_NAMES, much_later)
    assert renewed != first
    assert renewed.parsed().not_valid_after_utc > much_later + timedelta(days=300)
    assert load_or_make(tmp_path, "gw.localhost", NOW + timedelta(days=3640)) != authority


def test_made_again_when_it_does_not_fit(tmp_path: Path) -> None:
    authority = load_or_make(tmp_path, "gw.localhost", NOW)
    first = server_certificate(tmp_path, "gateway", authority, GATEWAY_NAMES, NOW)
    other_names = server_certificate(tmp_path, "gateway", authority, ("localhost",), NOW)
    assert other_names.names() == {"localhost"}
    stranger = make_authority("gw.localhost", NOW)
    assert server_certificate(tmp_path, "gateway", stranger, ("localhost",), NOW) != other_names
    assert first.names() == set(GATEWAY_NAMES)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    load_or_make(tmp_path, "gw.localhost", NOW)
    (tmp_path / "ca.pem").write_bytes(damage)
    made = load_or_make(tmp_path, "gw.localhost", NOW)
    assert load_or_make(tmp_path, "gw.localhost", NOW) == made


def test_the_chain_carries_the_authority(tmp_path: Path) -> None:
    authority = make_authority("gw.localhost", NOW)
    issued = authority.issue(GATEWAY_NAMES, NOW)
    leaf, root = x509.load_pem_x509_certificates(issued.certificate)
    leaf.verify_directly_issued_by(root)
    assert root == authority.own.parsed()
