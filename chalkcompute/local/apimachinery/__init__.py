"""PURE. What an API server does to objects: schemas, defaults, validation, patches, apply."""
