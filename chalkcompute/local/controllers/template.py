"""Pod templates: their hash, and whether two are the same. Pure."""

from __future__ import annotations

import json

from chalkcompute.local.ports import Manifest

__all__ = ["HASH_LABEL", "same_template", "template_hash"]

HASH_LABEL = "pod-template-hash"

# k8s.io/apimachinery util/rand: no vowels and nothing that looks like one, so no words come out.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193  # FNV-1a, 32 bit


def template_hash(template: Manifest, collision_count: int | None = None) -> str:
    """The value of `pod-template-hash`: FNV-32a in the safe alphabet of Kubernetes.

    Kubernetes hashes its Go struct's printed form, which nothing else can reproduce; this hashes
    canonical JSON. The value is opaque to every client.
    """
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    data = text.encode() + (collision_count or 0).to_bytes(8, "little")
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(value))


def same_template(one: Manifest, other: Manifest) -> bool:
    """Whether two templates are equal but for the hash label."""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Manifest) -> Manifest:
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}
