"""Clinical notes of our own, in MIMIC-III's tables."""
