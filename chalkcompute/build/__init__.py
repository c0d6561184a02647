"""Makes an image out of its description and pushes it: without a container engine wherever that can be."""

from chalkcompute.build.build import BuiltImage, build_image

__all__ = ["BuiltImage", "build_image"]
