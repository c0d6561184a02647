"""Whether a cluster can scale to zero, for the tests that need it."""

from __future__ import annotations

import os

import pytest

from tests.e2e.harness import Kubernetes

__all__ = ["lacking", "require_keda"]


def require_keda(kubernetes: Kubernetes, *, real: bool) -> None:
    """Skip where KEDA does not run; the embedded cluster always has it."""
    reason = lacking(kubernetes)
    if reason is not None:
        assert real, f"the embedded cluster has KEDA, always: {reason}"
        pytest.skip(f"nothing scales to zero here: {reason}")


def lacking(kubernetes: Kubernetes) -> str | None:
    """What is missing of KEDA and its HTTP add-on; None when both are there.

    Their kinds alone say nothing of who acts upon them: the interceptor has to have a ready address.
    """
    for version, plural in (
        ("keda.sh/v1alpha1", "scaledobjects"),
        ("http.keda.sh/v1beta1", "interceptorroutes"),
    ):
        if not kubernetes.serves(version, plural):
            return f"the cluster does not serve {plural} of {version}"
    namespace = os.environ.get("CHALK_KEDA_NAMESPACE", "keda")
    service = os.environ.get("CHALK_KEDA_INTERCEPTOR_SERVICE", "keda-add-ons-http-interceptor-proxy")
    if kubernetes.find(f"/api/v1/namespaces/{namespace}/services/{service}") is None:
        return f"there is no Service {namespace}/{service}"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = kubernetes.items(path, f"kubernetes.io/service-name={service}")
    endpoints = [endpoint for found in slices for endpoint in found.get("endpoints") or ()]
    if not any((endpoint.get("conditions") or {}).get("ready", True) for endpoint in endpoints):
        return f"Service {namespace}/{service} has no ready address: the HTTP add-on does not run"
    return None
