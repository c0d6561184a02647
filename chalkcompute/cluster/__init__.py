"""EFFECTS. The Kubernetes API over the official client; ignorant of scaling groups."""
