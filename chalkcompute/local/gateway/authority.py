"""The certificate authority of one embedded cluster, made on its first start.

It signs two certificates: the API server's (127.0.0.1, localhost) and the gateway's
(`*.gw.localhost`). Name constraints (RFC 5280, section 4.2.1.10) keep it from vouching for anything
but this machine's own names, should its key ever leak into a place where it is trusted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chalkcompute.local.state import write_atomically

__all__ = ["API_SERVER_NAMES", "Authority", "Certificate", "load_or_make", "pem_files", "server_certificate"]

API_SERVER_NAMES = ("127.0.0.1", "::1", "localhost", "kubernetes.default.svc")

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397  # what browsers accept of a server certificate (CA/Browser Forum ballot SC31)
_RENEW_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(hours=1)  # for clocks that are a little behind
_ORGANISATION = "Chalk local cluster"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic curve key")
        return key

    def due(self, now: datetime) -> bool:
        """Whether it should be renewed: near its end, or not valid yet (the clock went back)."""
        parsed = self.parsed()
        return now > parsed.not_valid_after_utc - _RENEW_BEFORE or now < parsed.not_valid_before_utc

    def names(self) -> set[str]:
        """Its subject alternative names, as text."""
        value = self.parsed().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = value.get_values_for_type(x509.DNSName)
        return {*dns, *(str(address) for address in value.get_values_for_type(x509.IPAddress))}


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority, able to sign."""

    own: Certificate

    @property
    def pem(self) -> str:
        """Its certificate, for those who should trust it."""
        return self.own.certificate.decode()

    def issue(self, names: Sequence[str], now: datetime) -> Certificate:
        """A server certificate for these DNS names and addresses, with the authority's appended."""
        issuer = self.own.parsed()
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        signed = (
            _builder(_name(f"{_ORGANISATION} server"), issuer.subject, now, _SERVER_DAYS)
            .public_key(public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
            .sign(self.own.private_key(), hashes.SHA256())
        )
        chain = signed.public_bytes(serialization.Encoding.PEM) + self.own.certificate
        return Certificate(chain, _private_pem(key))


def make_authority(domain: str, now: datetime) -> Authority:
    """A new authority for this machine's names and those below `domain`."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = _name(f"{_ORGANISATION} CA {x509.random_serial_number() & 0xFFFFFF:06x}")
    permitted: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.DNSName("kubernetes.default.svc"),
        x509.DNSName(domain),
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
        x509.IPAddress(ipaddress.ip_network("::1/128")),
    ]
    signed = (
        _builder(name, name, now, _AUTHORITY_DAYS)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(Certificate(signed.public_bytes(serialization.Encoding.PEM), _private_pem(key)))


def load_or_make(folder: Path, domain: str, now: datetime) -> Authority:
    """The authority kept in `folder`; a new one when there is none, it is broken, or near its end."""
    kept = _load(folder, "ca")
    if kept is not None and not kept.due(now):
        return Authority(kept)
    authority = make_authority(domain, now)
    _keep(folder, "ca", authority.own)
    return authority


def server_certificate(
    folder: Path, name: str, authority: Authority, names: Sequence[str], now: datetime
) -> Certificate:
    """The certificate `name` kept in `folder`, renewed when due, of another authority or for other names."""
    kept = _load(folder, name)
    if kept is not None and not kept.due(now) and kept.names() == set(names) and _signed_by(authority, kept):
        return kept
    issued = authority.issue(names, now)
    _keep(folder, name, issued)
    return issued


def pem_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the certificate `name` and its key are kept."""
    return folder / f"{name}.pem", folder / f"{name}.key"


def _signed_by(authority: Authority, certificate: Certificate) -> bool:
    try:
        certificate.parsed().verify_directly_issued_by(authority.own.parsed())
    except Exception:  # InvalidSignature, ValueError and TypeError all mean "not by this one"
        return False
    return True


def _load(folder: Path, name: str) -> Certificate | None:
    certificate_file, key_file = pem_files(folder, name)
    try:
        kept = Certificate(certificate_file.read_bytes(), key_file.read_bytes())
        matches = kept.private_key().public_key() == kept.parsed().public_key()
    except (FileNotFoundError, ValueError):
        return None  # a first start, or a file cut short: a new one takes its place
    return kept if matches else None


def _keep(folder: Path, name: str, certificate: Certificate) -> None:
    certificate_file, key_file = pem_files(folder, name)
    write_atomically(key_file, certificate.key)
    write_atomically(certificate_file, certificate.certificate)


def _builder(subject: x509.Name, issuer: x509.Name, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now - _BACKDATED + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
