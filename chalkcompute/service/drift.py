"""What is no longer as it was applied, or not there at all: the dry run beside what is live (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from chalkcompute.service import contents, existing
from chalkcompute.service.existing import Live, identity, key_of
from chalkcompute.service.preflight import DryRun
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

__all__ = ["drifted"]


def drifted(spec: ScalingGroupSpec, manifests: Sequence[Manifest], live: Live, answer: DryRun) -> set[str]:
    """`Kind/name` of the objects that are not as they should be."""
    found = set(answer.created)
    for manifest in manifests:
        before, after = live.get(identity(manifest)), answer.results.get(key_of(manifest))
        if after is None:
            continue  # left out of the dry run
        # What is in them cannot change, and does not travel.
        looked_at = {"metadata": manifest["metadata"]} if contents.is_content(manifest) else manifest
        if before is None or not existing.is_as_applied(looked_at, before, after):
            found.add(key_of(manifest))
    seen = live.get(("Deployment", spec.name))
    if seen is not None and spec.mode == "hpa" and seen["spec"].get("replicas") == 0:
        found.add(key_of(seen))  # switched off by hand: no HPA ever lifts it from there
    return found
