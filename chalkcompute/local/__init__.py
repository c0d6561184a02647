"""The embedded cluster: speaks only Kubernetes, reached only through a kubeconfig."""
