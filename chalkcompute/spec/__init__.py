"""PURE. What was asked for: one frozen value whose invariants hold once it exists."""
