"""ORCHESTRATION. The verbs, over any Cluster."""
