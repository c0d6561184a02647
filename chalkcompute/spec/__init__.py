"""PURE. What was asked for: one frozen value whose invariants hold once it exists."""

from chalkcompute.spec.gpu import Gpu
from chalkcompute.spec.scaling_group import Mode, ScalingGroupSpec

__all__ = ["Gpu", "Mode", "ScalingGroupSpec"]
