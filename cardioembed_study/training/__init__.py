"""What a run learns from, and what its record says: ``02_train``."""
