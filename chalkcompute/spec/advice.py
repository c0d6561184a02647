"""What can be, and is probably not what was meant: warnings, never errors."""

from __future__ import annotations

from chalkcompute.spec.quantities import millicores
from chalkcompute.spec.scaling_group import ScalingGroupSpec

__all__ = ["advise", "advise_change", "advise_wait"]

_CLUSTER_INTERVAL_SECONDS = 15  # how often the HorizontalPodAutoscaler controller looks, by default
_LONG_DRAIN_SECONDS = 600  # the cluster autoscaler gives up a drain after ten minutes, by default
_MEASURABLE_MILLICORES = 50  # what an idle server uses now and then is a large part of less

_USUAL_TARGET = 80  # what the API server fills in
_HIGHEST_TARGET = 90  # 100 % is 1.11 of it: more than the autoscaler's tolerance of 0.1, and 100 / 91 is not


def advise(spec: ScalingGroupSpec) -> tuple[str, ...]:
    """Warnings about a spec, in the order of its fields."""
    target, interval = spec.target_cpu_utilization_percentage, spec.scaling_interval_seconds
    scales = spec.mode != "fixed"
    # Who names neither a target nor a request has not said that CPU matters: no warning of the defaults.
    goes_by_cpu = scales and (target is not None or (spec.mode == "hpa" and spec.cpu is not None))
    return tuple(
        text
        for applies, text in (
            (
                _tag(spec.image) in (None, "latest"),
                f"the image `{spec.image}` has no fixed version: a replica that is restarted may run another",
            ),
            (
                target is not None and not scales,
                "`target_cpu_utilization_percentage` has no effect: the number of replicas is fixed",
            ),
            (goes_by_cpu and _measures_little(spec.cpu), _little(target, spec.cpu)),
            (
                (target or 0) > _HIGHEST_TARGET and scales and spec.cpu is not None,
                f"`target_cpu_utilization_percentage` {target} is hardly ever exceeded: replicas cannot use "
                f"more than the {spec.cpu} that they request, and up to 10 % above the target nothing "
                f"changes; {_HIGHEST_TARGET} is the highest that adds replicas",
            ),
            (
                spec.gpu is not None and (spec.mode == "hpa" or (target is not None and scales)),
                "CPU utilization says little about how busy a replica with GPUs is, and the autoscaler goes "
                "by it all the same"
                + ("" if target is not None else f": by the CPU target of the cluster, {_USUAL_TARGET}"),
            ),
            (
                interval is not None and not scales,
                "`scaling_interval_seconds` has no effect: the number of replicas is fixed",
            ),
            (
                0 < (interval or 0) < _CLUSTER_INTERVAL_SECONDS and scales,
                f"`scaling_interval_seconds` {interval} is below {_CLUSTER_INTERVAL_SECONDS}: the autoscaler "
                f"looks only every {_CLUSTER_INTERVAL_SECONDS} s, unless the cluster is set up otherwise",
            ),
            (
                (spec.shutdown_delay_seconds or 0) > _LONG_DRAIN_SECONDS,
                f"`shutdown_delay_seconds` {spec.shutdown_delay_seconds} is over {_LONG_DRAIN_SECONDS}: a "
                f"node that is drained may not wait longer than {_LONG_DRAIN_SECONDS} s",
            ),
        )
        if applies
    )


def advise_change(before: ScalingGroupSpec, after: ScalingGroupSpec, *, live: int) -> tuple[str, ...]:
    """Warnings about what goes when a group becomes another.

    Args:
        before: What was asked for until now.
        after: What is asked for.
        live: Replicas that it has now.
    """
    if before.mode == "fixed" or after.mode != "fixed":
        return ()
    wanted = after.min_replicas
    goes = {"hpa": "its HorizontalPodAutoscaler", "keda": "KEDA's ScaledObject"}[before.mode]
    fewer = f", and {live - wanted} of {live} replicas with them" if live > wanted else ""
    return (
        f"the number of replicas is fixed at {wanted} from now on: the range {before.min_replicas} to "
        f"{before.max_replicas} and {goes} go{fewer}",
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


def _measures_little(cpu: str | None) -> bool:
    return cpu is None or millicores(cpu) < _MEASURABLE_MILLICORES


def _little(target: int | None, cpu: str | None) -> str:
    of = "the default request of 100m" if cpu is None else f"a request of only {cpu}"
    at = (100 if cpu is None else millicores(cpu)) * (target or _USUAL_TARGET) / 100
    asked = f"the CPU target of the cluster, {_USUAL_TARGET},"
    if target is not None:
        asked = f"`target_cpu_utilization_percentage` {target}"
    return (
        f"{asked} is relative to {of}: replicas are added once they use more than {at:g}m on average; set "
        "`cpu` to what a replica needs"
    )


def _tag(image: str) -> str | None:
    """The tag of an image reference; its digest where it has one; None for neither."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return digest or (tag if colon else None)
