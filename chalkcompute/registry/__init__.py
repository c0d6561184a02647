"""Client of the OCI Distribution API: pulls and pushes images, for the builder and the local cluster.

It knows nothing of what images are for. Everything is synchronous; who must not wait calls it in a thread.
"""

from chalkcompute.registry.client import Registry
from chalkcompute.registry.credentials import Credential, CredentialSource, docker_credentials
from chalkcompute.registry.descriptors import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    FetchedManifest,
    choose_platform,
    digest_of,
    parse_descriptor,
)
from chalkcompute.registry.download import file_matches
from chalkcompute.registry.reference import ImageReference, parse_reference

__all__ = [
    "DOCKER_INDEX",
    "DOCKER_MANIFEST",
    "INDEX_TYPES",
    "MANIFEST_LIMIT",
    "MANIFEST_TYPES",
    "OCI_INDEX",
    "OCI_MANIFEST",
    "Credential",
    "CredentialSource",
    "Descriptor",
    "FetchedManifest",
    "ImageReference",
    "Registry",
    "choose_platform",
    "digest_of",
    "docker_credentials",
    "file_matches",
    "parse_descriptor",
    "parse_reference",
]
