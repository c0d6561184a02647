"""PURE. A spec to Kubernetes objects; live objects to status and verdicts."""
