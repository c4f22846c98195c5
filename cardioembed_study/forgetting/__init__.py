"""What a gain costs elsewhere, on MTEB's tasks: ``04_mteb``."""
