"""The Secret of a group: immutable, one for each set of values, its name a keyed hash of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Placement
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["masked_secret", "placeholder_name", "secret", "secret_name", "versions"]

_DIGITS = 12


def secret_name(group: str, values: Mapping[str, str], salt: str) -> str:
    """`<group>-env-<hash>`: another set of values has another name, so that replacing them rolls the pods.

    The hash is keyed with a random salt, which only those can read who can read Secrets: of a bare one,
    which everybody sees in the Deployment, a short value could be guessed.

    Args:
        group: Name of the group.
        values: Variables to values.
        salt: Random text.
    """
    canonical = json.dumps(dict(values), sort_keys=True, separators=(",", ":"))
    digest = hmac.new(salt.encode(), canonical.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"{group}-env-{digest[:_DIGITS]}"


def placeholder_name(group: str, names: Mapping[str, str]) -> str:
    """The name in output for other tools, which is to say nothing of the values: a hash of their names."""
    digest = hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()
    return f"{group}-env-{digest[:_DIGITS]}"


def secret(
    spec: ScalingGroupSpec, placement: Placement, name: str, values: Mapping[str, str], salt: str
) -> Manifest:
    """The Secret `name`. `data`, since of `stringData` a key once applied stays when it is left out."""
    metadata = _metadata(spec, placement, name)
    metadata["annotations"][labels.SALT_ANNOTATION] = salt
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(values[key].encode()).decode() for key in sorted(values)},
    }


def masked_secret(
    spec: ScalingGroupSpec, placement: Placement, name: str, names: Mapping[str, str]
) -> Manifest:
    """The Secret without its values, and a note that says which to add.

    Without `data`, so that pods wait for the values instead of starting with wrong ones.
    """
    metadata = _metadata(spec, placement, name)
    metadata["annotations"][labels.NOTE_ANNOTATION] = f"values are not shown: add {', '.join(sorted(names))}"
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}


def versions(spec: ScalingGroupSpec) -> str:
    """The versions of the foreign Secrets, for an annotation of the pods; "" when there are none."""
    found = {ref.secret: ref.version for ref in spec.secrets if ref.version is not None}
    return ",".join(f"{name}={found[name]}" for name in sorted(found))


def _metadata(spec: ScalingGroupSpec, placement: Placement, name: str) -> Manifest:
    metadata = placement.metadata(name, group=spec.name, tags=spec.tags)
    metadata["labels"][labels.CONTENT] = labels.CONTENT_ENV
    return metadata
