"""What replicas and this machine use, measured as a metrics server does."""

from chalkcompute.local.metrics.sampler import RESOLUTION_SECONDS, Sampler

__all__ = ["RESOLUTION_SECONDS", "Sampler"]
