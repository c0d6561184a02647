"""The API server of the embedded cluster: store, verbs on resources, and their HTTP face."""
