"""Rules of InterceptorRoutes that a schema cannot say: the CEL expressions of their definition."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_interceptor_route"]


def check_interceptor_route(spec: dict[str, Any], problems: Problems) -> None:
    """The rules of an InterceptorRoute's `spec`; its schema already holds."""
    metric = spec.get("scalingMetric") or {}
    if "concurrency" not in metric and "requestRate" not in metric:
        why = "at least one of 'concurrency' or 'requestRate' must be set"
        problems.invalid("spec.scalingMetric", "object", why)
    _check_port(spec.get("target") or {}, "spec.target", problems)
    if (cold_start := spec.get("coldStart")) is not None:
        _check_cold_start(cold_start, problems)
    for index, route in enumerate(spec.get("staticRoutes") or []):
        _check_body(route.get("response") or {}, f"spec.staticRoutes[{index}].response", problems)


def _check_cold_start(cold_start: dict[str, Any], problems: Problems) -> None:
    fallback, placeholder = cold_start.get("fallback"), cold_start.get("placeholder")
    if fallback is None and placeholder is None:
        why = "at least one of 'fallback' or 'placeholder' must be set"
        problems.invalid("spec.coldStart", "object", why)
    if fallback is not None:
        _check_port(fallback.get("service") or {}, "spec.coldStart.fallback.service", problems)
    if placeholder is not None:
        _check_body(placeholder.get("response") or {}, "spec.coldStart.placeholder.response", problems)


def _check_port(service: dict[str, Any], field: str, problems: Problems) -> None:
    if ("port" in service) == ("portName" in service):
        problems.invalid(field, "object", "exactly one of 'port' or 'portName' must be set")


def _check_body(response: dict[str, Any], field: str, problems: Problems) -> None:
    if "body" in response and "bodyFromConfigMap" in response:
        problems.invalid(field, "object", "at most one of 'body' or 'bodyFromConfigMap' may be set")
