"""What can be, and is probably not what was meant: warnings, never errors."""

from __future__ import annotations

from chalkcompute.spec.scaling_group import ScalingGroupSpec

__all__ = ["advise", "advise_wait"]

_CLUSTER_INTERVAL_SECONDS = 15  # how often the HorizontalPodAutoscaler controller looks, by default
_LONG_DRAIN_SECONDS = 600  # the cluster autoscaler gives up a drain after ten minutes, by default


def advise(spec: ScalingGroupSpec) -> tuple[str, ...]:
    """Warnings about a spec, in the order of its fields."""
    return tuple(
        text
        for applies, text in (
            (
                _tag(spec.image) in (None, "latest"),
                f"the image `{spec.image}` has no fixed version: a replica that is restarted may run another",
            ),
            (
                spec.target_cpu_utilization_percentage is not None and spec.mode == "fixed",
                "`target_cpu_utilization_percentage` has no effect: the number of replicas is fixed",
            ),
            (
                spec.target_cpu_utilization_percentage is not None and spec.gpu is not None,
                "CPU utilization says little about how busy a replica with GPUs is",
            ),
            (
                spec.scaling_interval_seconds is not None and spec.mode == "fixed",
                "`scaling_interval_seconds` has no effect: the number of replicas is fixed",
            ),
            (
                0 < (spec.scaling_interval_seconds or 0) < _CLUSTER_INTERVAL_SECONDS,
                f"`scaling_interval_seconds` below {_CLUSTER_INTERVAL_SECONDS} is faster than the cluster "
                "looks by default",
            ),
            (
                (spec.shutdown_delay_seconds or 0) > _LONG_DRAIN_SECONDS,
                f"`shutdown_delay_seconds` over {_LONG_DRAIN_SECONDS} may be cut short by a node drain",
            ),
        )
        if applies
    )


def advise_wait(spec: ScalingGroupSpec, seconds: float | None) -> tuple[str, ...]:
    """Warnings about a wait for a group that ends after so many seconds; None is no wait."""
    startup = spec.startup_timeout_seconds
    if startup is None or seconds is None or seconds >= startup:
        return ()
    return (
        f"a replica may take {startup} s to start (`startup_timeout_seconds`), and the wait for it ends "
        f"after {seconds:g} s: wait longer",
    )


def _tag(image: str) -> str | None:
    """The tag of an image reference; its digest where it has one; None for neither."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return digest or (tag if colon else None)
