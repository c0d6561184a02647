"""The Service of KEDA's HTTP add-on that takes requests for groups which may be at zero.

`controllers` makes it, as the Helm chart of the add-on names it; `gateway` is what answers at it.
"""

__all__ = ["INTERCEPTOR_PORT", "INTERCEPTOR_SERVICE", "KEDA_NAMESPACE"]

KEDA_NAMESPACE = "keda"
INTERCEPTOR_SERVICE = "keda-add-ons-http-interceptor-proxy"

INTERCEPTOR_PORT = "proxy"
"""Name of its port."""
