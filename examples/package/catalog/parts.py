"""What the catalogue has."""

PARTS = {"bolt": 12, "nut": 7}
