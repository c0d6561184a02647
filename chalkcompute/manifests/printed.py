"""The objects as they are printed for other tools: with everything but the values of secrets."""

from __future__ import annotations

from dataclasses import replace

from chalkcompute.errors import SpecError
from chalkcompute.manifests.claims import claim
from chalkcompute.manifests.files import config_maps, pack
from chalkcompute.manifests.placement import Placement
from chalkcompute.manifests.rendering import render
from chalkcompute.manifests.secret import masked_secret, placeholder_name
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.spec.secrets import SecretRef
from chalkcompute.types import Manifest

__all__ = ["printed"]


def printed(spec: ScalingGroupSpec, placement: Placement, content: Content) -> tuple[Manifest, ...]:
    """All objects, in the order in which they are to be applied.

    Raises:
        SpecError: Every key of a Secret is wanted, and only the cluster knows which those are.
    """
    if content.whole_secrets:
        raise SpecError(
            f"which keys Secret `{content.whole_secrets[0]}` has is known at a deploy only",
            field="secrets",
            hint="name the keys that are wanted",
        )
    objects: list[Manifest] = [
        claim(request, namespace=placement.namespace, environment=placement.environment)
        for request in content.claims
    ]
    if names := content.secret_values:
        own = placeholder_name(spec.name, names)
        refs = [SecretRef(name, own, name) for name in names]
        spec = replace(spec, secrets=(*spec.secrets, *refs))
        objects.append(masked_secret(spec, placement, own, names))
    if content.files:
        mounts, packed = pack(spec.name, content.files)
        spec = replace(spec, files=mounts)
        objects += config_maps(spec, placement, packed)
    return (*objects, *render(spec, placement))
