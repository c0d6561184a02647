"""What users write to say when a replica can serve: `ReadinessProbe.http("/health")`, `.tcp()`, `.grpc()`."""

from chalkcompute.spec.probes import ReadinessProbe

__all__ = ["ReadinessProbe"]
