"""PURE. A spec to Kubernetes objects; live objects to status and verdicts."""

from chalkcompute.manifests.rendering import render

__all__ = ["render"]
