"""A small catalogue of parts."""
