"""Scaling groups: a replicated, HTTP-fronted, autoscaled service as plain Kubernetes objects."""
