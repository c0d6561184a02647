"""The gateway of the embedded cluster: HTTPRoutes served by Envoy over TLS."""
